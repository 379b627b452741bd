"""Whether anything moved over TCP: the kernel's counters, and what is spared while they stand still."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.server import eventually
from wsgi_sidecar.core.snapshot import Listener
from wsgi_sidecar.exchanges import ExchangeReader
from wsgi_sidecar.netlink import Accepted
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.segments import Moved, Segments, parse_moved
from wsgi_sidecar.sockets import SocketTable


class Standing(Segments):
    """Counters that stand where the test puts them: on a machine that others use they never do."""

    moved: Moved | None = (1, 1)

    def read(self) -> Moved | None:
        return self.moved


class Counted(SocketTable):
    """The real socket table, which counts how often it was asked for connections."""

    def __init__(self) -> None:
        super().__init__()
        self.dumps = 0

    def accepted(self, listeners: Collection[Listener]) -> Accepted | None:
        self.dumps += 1
        return super().accepted(listeners)


PUPPET = """
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
held = []
for line in sys.stdin:
    held.append(server.accept()[0] if line == "accept\\n" else open(os.devnull))
    print("done", flush=True)
"""


@dataclass
class Scene:
    """A program that passes for a gunicorn, a reader of it, and what the reader asked."""

    puppet: "subprocess.Popen[str]"
    port: int
    reader: ProcReader
    sockets: Counted
    segments: Standing

    def do(self, what: str) -> None:
        assert self.puppet.stdin is not None
        assert self.puppet.stdout is not None
        print(what, file=self.puppet.stdin, flush=True)
        assert self.puppet.stdout.readline() == "done\n"

    def look(self, *, afresh: bool = False) -> int | None:
        """How many connections it holds."""
        seen = self.reader.look(within=self.puppet.pid, afresh=afresh).processes
        (held,) = [process.connections for process in seen if process.id.pid == self.puppet.pid]
        return None if held is None else len(held)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    program = tmp_path / "gunicorn"
    program.write_text(PUPPET)
    sockets, segments = Counted(), Standing()
    with contextlib.ExitStack() as stack:
        pipe = subprocess.PIPE
        puppet = stack.enter_context(subprocess.Popen([sys.executable, program], stdin=pipe, stdout=pipe, text=True))
        stack.callback(puppet.kill)
        assert puppet.stdout is not None
        port = int(puppet.stdout.readline())
        reader = stack.enter_context(contextlib.closing(ProcReader(sockets=sockets, segments=segments)))
        found = Scene(puppet, port, reader, sockets, segments)
        stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        found.do("accept")
        assert found.look() == 1
        assert sockets.dumps == 1
        yield found


def test_connections_are_not_asked_for_again_while_nothing_moves(scene: Scene) -> None:
    assert {scene.look() for _ in range(31)} == {1}
    assert scene.sockets.dumps == 1
    assert not scene.reader.stood_still()
    scene.look(afresh=True)
    assert scene.reader.stood_still()


def test_once_something_moved_the_next_look_that_is_due_asks(scene: Scene) -> None:
    scene.segments.moved = (2, 1)
    assert [(scene.look(), scene.sockets.dumps) for _ in range(5)] == [(1, 1)] * 4 + [(1, 2)]
    assert not scene.reader.stood_still()


def test_a_new_connection_is_seen_at_the_very_next_look_whatever_the_counters_say(scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", scene.port)):
        scene.do("accept")
        assert scene.look() == 2


def test_bytes_that_nobody_has_read_are_looked_for_again(scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", scene.port)) as client:
        client.sendall(b"GET")
        scene.do("accept")
        eventually("they are told", lambda: scene.look(afresh=True) == 2 and len(scene.reader.unread()) == 1)
        before = scene.sockets.dumps
        scene.look(afresh=True)
        assert scene.sockets.dumps == before + 1


def test_without_counters_every_fifth_look_asks(scene: Scene) -> None:
    scene.segments.moved = None
    for _ in range(10):
        scene.look()
    assert scene.sockets.dumps == 3


def test_what_is_remembered_repairs_itself_after_twelve_spared_dumps(scene: Scene) -> None:
    for _ in range(12):
        scene.look(afresh=True)
    assert scene.sockets.dumps == 1
    scene.look(afresh=True)
    assert scene.sockets.dumps == 2


def test_who_waits_is_not_asked_again_while_nothing_moves() -> None:
    segments = Standing()
    exchanges = ExchangeReader(segments)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ports = frozenset({server.getsockname()[1]})
        with server.accept()[0]:
            assert exchanges.read(ports) == ()
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert exchanges.read(ports) == ()
            segments.moved = (2, 2)
            eventually("it is told", lambda: len(exchanges.read(ports) or ()) == 1)


def test_a_request_that_is_accepted_later_is_told_although_nothing_moves() -> None:
    exchanges = ExchangeReader(Standing())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ports = frozenset({server.getsockname()[1]})
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert exchanges.read(ports) == ()
        with server.accept()[0]:
            eventually("it is told", lambda: len(exchanges.read(ports) or ()) == 1)


def test_a_word_over_tcp_moves_the_kernels_counters() -> None:
    with contextlib.closing(Segments()) as segments:
        before = segments.read()
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            client.sendall(b"x")
        after = segments.read()
    assert before is not None
    assert after is not None
    assert after > before


@pytest.mark.parametrize("text", [b"", b"Tcp: InSegs\n", b"Tcp: InSegs\nTcp: 1\n", b"Tcp: InSegs OutSegs\nTcp: 1 x\n"])
def test_a_file_without_the_counters_tells_nothing(text: bytes) -> None:
    assert parse_moved(text) is None


def test_where_the_file_cannot_be_read_nothing_is_told(tmp_path: Path) -> None:
    assert Segments(str(tmp_path)).read() is None
