"""The control socket of real gunicorns, and of everybody who pretends to be one."""

import contextlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.server import Server, eventually
from wsgi_sidecar.control_socket import LISTENS, MOST_SOCKETS, ask_control, find_sockets
from wsgi_sidecar.core.control import (
    MAX_ANSWER_BYTES,
    ControlAnswer,
    ControlError,
    frame,
    parse_answer,
    parse_payload,
    payload_length,
    socket_paths,
)
from wsgi_sidecar.streams import NoAnswerError

US = 4242


def framed(value: object) -> bytes:
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack(">I", len(payload)) + payload


def ok(**data: object) -> bytes:
    return framed({"id": 1, "status": "ok", "data": data})


@contextlib.contextmanager
def pretender(path: Path, *answers: bytes, slowly_s: float = 0.0) -> Iterator[Path]:
    """Listens at `path`, and gives one answer to each request."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    for answer in answers:
                        connection.recv(4096)
                        for byte in [answer[i : i + 1] for i in range(len(answer))] if slowly_s else [answer]:
                            connection.sendall(byte)
                            time.sleep(slowly_s)
            except OSError:
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def ask(path: Path, within_s: float = 5.0) -> ControlAnswer:
    """As the door does, but of ourselves: our own root is the container's."""
    return ask_control([str(path)], os.getpid(), within_s=within_s)


@pytest.mark.servers
@pytest.mark.parametrize("release", ["25.3.0", "27.0.1"])
def test_a_real_arbiter_tells_its_settings_and_workers(release: str) -> None:
    with Server(release, "-w", "2", "-k", "gthread", "--threads", "3", "--timeout", "45", "--preload") as server:
        paths = socket_paths((), runtime_folder=None, home=str(server.folder), cwd="/")
        answer = eventually("the control socket answers", lambda: asked(paths, server.master_pid))
        assert find_sockets(server.master_pid) == paths
        settings = {setting.name: setting.value for setting in answer.settings}
        assert settings["workers"] == 2
        assert (settings["threads"], settings["worker_class"], settings["timeout_s"]) == (3, "gthread", 45)
        assert settings["preload_app"] is True
        assert "backlog" not in settings
        assert {setting.source for setting in answer.settings} == {"control-socket"}
        assert answer.workers is not None
        assert {worker.pid for worker in answer.workers} == set(server.worker_pids())
        assert (answer.pid, answer.workers_wanted) == (server.master_pid, 2)


def asked(paths: tuple[str, ...], pid: int) -> ControlAnswer | None:
    try:
        return ask_control(paths, pid)
    except NoAnswerError:
        return None


@pytest.mark.servers
def test_a_gunicorn_without_control_socket_is_told_as_no_answer() -> None:
    with Server("23.0.0") as server:
        paths = socket_paths((), runtime_folder="/nowhere", home=str(server.folder), cwd="/")
        with pytest.raises(NoAnswerError, match="No such file"):
            ask_control(paths, server.master_pid)


HOLDER = """
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print(flush=True)
sys.stdin.read()
"""


def test_of_many_control_sockets_beside_each_other_the_arbiters_own_is_found(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) / "gunicorn.ctl" for number in range(2 * MOST_SOCKETS + 1)]
    for path in paths:
        path.parent.mkdir()
    ours, *others = map(str, paths)
    with contextlib.ExitStack() as stack:
        for path in others:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen()
        command = (sys.executable, "-S", "-c", HOLDER, ours)
        arbiter = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert arbiter.stdout is not None
        assert arbiter.stdout.readline()
        assert find_sockets(arbiter.pid) == (ours,)


def test_where_the_arbiters_files_are_hidden_the_first_few_of_its_network_are_asked(tmp_path: Path) -> None:
    lines = [f"0: 2 0 {LISTENS} 1 1 {number} /{number}/gunicorn.ctl\n" for number in range(2 * MOST_SOCKETS)]
    net = tmp_path / str(US) / "net"
    net.mkdir(parents=True)
    (net / "unix").write_text("".join((f"0: 2 0 {LISTENS} 1 1 99 /run/app.sock\n", *lines)))
    assert find_sockets(US, str(tmp_path)) == tuple(f"/{number}/gunicorn.ctl" for number in range(MOST_SOCKETS))


def test_without_any_path_the_reason_is_told() -> None:
    with pytest.raises(NoAnswerError, match=r"older than 25\.1, or it is switched off"):
        ask_control((), US)


def test_the_answer_of_another_arbiter_is_not_taken_for_ours(tmp_path: Path) -> None:
    answers = (ok(), ok(workers=[]), ok(pid=999_999))
    with pretender(tmp_path / "s", *answers) as path, pytest.raises(NoAnswerError, match="with pid 999999"):
        ask(path)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((framed(b"not json"),), "not JSON"),
        ((framed(b"[1]"),), "a JSON list, not an object"),
        ((framed({"status": "error", "error": "no such command"}),), "says 'no such command'"),
        ((framed({"status": "ok", "data": 7}),), "nothing that we understand"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "would be 1213486160 bytes long"),
    ],
)
def test_what_is_not_gunicorn_is_told_as_such(tmp_path: Path, answers: tuple[bytes, ...], words: str) -> None:
    with pretender(tmp_path / "s", *answers) as path, pytest.raises(ControlError, match=words):
        ask(path)


@pytest.mark.parametrize("answers", [(), (b"\0\0",), (struct.pack(">I", 100) + b"{}",), (ok(),)])
def test_one_who_hangs_up_early_is_no_answer(tmp_path: Path, answers: tuple[bytes, ...]) -> None:
    with pretender(tmp_path / "s", *answers) as path, pytest.raises(NoAnswerError):
        ask(path)


def test_one_who_sends_a_byte_now_and_then_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    with pretender(tmp_path / "s", ok(**{"x" * 1000: 1}), slowly_s=0.05) as path:
        began = time.monotonic()
        with pytest.raises(NoAnswerError, match="not in time"):
            ask(path, within_s=0.3)
        assert time.monotonic() - began < 5


def test_one_who_never_accepts_is_not_waited_for_either(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        with pytest.raises(NoAnswerError):
            ask(tmp_path / "s", within_s=0.3)


def test_a_path_may_be_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    here = os.getcwd()
    os.chdir(folder)
    try:
        with pretender(Path("s"), ok(), ok(), ok()):
            answer = ask(folder / "s")
    finally:
        os.chdir(here)
    assert answer.pid is None


@pytest.mark.parametrize(
    ("arguments", "runtime", "home", "expected"),
    [
        ((), "/run/user/1", "/srv/a", ("/run/user/1/gunicorn.ctl", "/srv/a/.gunicorn/gunicorn.ctl")),
        ((), None, "/srv/a/", ("/srv/a/.gunicorn/gunicorn.ctl",)),
        ((), None, None, ()),
        (("--control-socket", "/x.ctl"), "/run", "/srv/a", ("/x.ctl",)),
        (("--control-socket=a", "--control-socket=run/b"), "/run", "/srv/a", ("/app/run/b",)),
        (("--no-control-socket",), "/run", "/srv/a", ()),
        (("--control-socket",), None, "/srv/a", ("/srv/a/.gunicorn/gunicorn.ctl",)),
    ],
)
def test_the_socket_is_sought_where_gunicorn_puts_it(
    arguments: tuple[str, ...], runtime: str | None, home: str | None, expected: tuple[str, ...]
) -> None:
    assert socket_paths(arguments, runtime_folder=runtime, home=home, cwd="/app") == expected


def test_what_is_missing_or_of_another_type_is_none_and_never_zero() -> None:
    answer = parse_answer(
        {"workers": "two", "timeout": -1, "threads": True, "worker_class": "app.My"}, {}, {"pid": "x"}
    )
    assert [(s.name, s.value) for s in answer.settings] == [("worker_class", "app.My")]
    assert (answer.pid, answer.workers, answer.workers_wanted, answer.uptime_s) == (None, None, None, None)
    workers = parse_answer({}, {"workers": [{"pid": 5}, {"pid": 0}, {"age": 1}, 7]}, {}).workers
    assert workers is not None
    assert [(worker.pid, worker.heartbeat_age_s, worker.aborted) for worker in workers] == [(5, None, None)]


def test_no_bytes_can_make_the_parser_fail_otherwise_than_it_says() -> None:
    chance = random.Random(20260103)
    seeds = (
        b'{"id": 1, "status": "ok", "data": {"workers": [{"pid": 5, "age": 1, "last_heartbeat": 1.5}], "count": 1}}',
        b'{"status": "ok", "data": {"workers": 2, "timeout": 30, "worker_class": "x", "pid": 7, "uptime": 1e400}}',
        b"[" * 5000,
        b'{"status": "ok", "data": {"pid": ' + b"9" * 5000 + b"}}",
    )
    pieces = (b'"', b"{", b"]", b"-", b"null", b"\xff", b"1e9")
    understood = 0
    for _ in range(10_000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(5)):
            place = chance.randrange(len(data) + 1)
            data[place : place + chance.randrange(3)] = chance.choice(pieces)
        try:
            members = parse_payload(bytes(data))
        except ControlError:
            continue
        understood += 1
        parse_answer(members, members, members)
    assert understood > 500


def test_a_request_is_framed_and_an_answer_is_bounded() -> None:
    assert payload_length(frame("show stats")[:4]) == len(frame("show stats")) - 4
    with pytest.raises(ControlError, match="not gunicorn's control socket"):
        payload_length(struct.pack(">I", MAX_ANSWER_BYTES + 1))
