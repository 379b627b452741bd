"""The kernel's sockets, asked by netlink and read from /proc/net, held against sockets of our own."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers.server import eventually
from wsgi_sidecar.core.snapshot import Listener
from wsgi_sidecar.netlink import Netlink, NetlinkError, _messages, _unix_socket, columns
from wsgi_sidecar.sockets import SocketTable, kinds_of

WAYS = pytest.mark.parametrize("use_netlink", [True, False], ids=["netlink", "procfs"])


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


@pytest.fixture
def closing() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def opened(closing: contextlib.ExitStack, *, use_netlink: bool = True) -> SocketTable:
    return closing.enter_context(contextlib.closing(SocketTable(use_netlink=use_netlink)))


def serve(closing: contextlib.ExitStack, host: str = "127.0.0.1", backlog: int = 17) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return closing.enter_context(socket.create_server((host, 0), family=family, backlog=backlog))


def serve_unix(closing: contextlib.ExitStack, path: str, backlog: int = 5) -> socket.socket:
    sock = closing.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(path)
    sock.listen(backlog)
    return sock


def connect(closing: contextlib.ExitStack, server: socket.socket, *, accept: bool = True) -> socket.socket:
    """The server's end if accepted, else the client's."""
    client = closing.enter_context(socket.socket(server.family))
    client.connect(server.getsockname())
    return closing.enter_context(server.accept()[0]) if accept else client


def found(table: SocketTable, server: socket.socket) -> Listener:
    listeners = table.listeners()
    assert listeners is not None
    return next(listener for listener in listeners if listener.inode == inode(server))


@WAYS
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::", "0.0.0.0"])
def test_a_listener_has_its_address_queue_and_backlog(
    closing: contextlib.ExitStack, use_netlink: bool, host: str
) -> None:
    server = serve(closing, host)
    for _ in range(3):
        connect(closing, server, accept=False)
    seen = found(opened(closing, use_netlink=use_netlink), server)
    port = server.getsockname()[1]
    assert seen.address == (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    assert (seen.port, seen.queue, seen.backlog) == (port, 3, 17 if use_netlink else None)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_unix_listener_has_its_path_queue_and_backlog(
    closing: contextlib.ExitStack, tmp_path: Path, abstract: bool
) -> None:
    path = f"\0wsgi-test-{os.getpid()}" if abstract else str(tmp_path / "app.sock")
    server = serve_unix(closing, path)
    for _ in range(2):
        connect(closing, server, accept=False)
    seen = found(opened(closing), server)
    assert seen.address == f"unix:{path}".replace("\0", "@")
    assert (seen.port, seen.queue, seen.backlog) == (None, 2, 5)


def held(table: SocketTable, listeners: list[Listener]) -> frozenset[int]:
    accepted = table.accepted(listeners)
    assert accepted is not None
    return accepted.inodes


@WAYS
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_listener_asked_for_again_has_its_queue_of_now(
    closing: contextlib.ExitStack, use_netlink: bool, host: str
) -> None:
    table, server = opened(closing, use_netlink=use_netlink), serve(closing, host)
    before = found(table, server)
    connect(closing, server, accept=False)
    assert before.queue == 0
    assert table.refreshed([before]) == (replace(before, queue=1),)


def test_of_listeners_that_share_an_address_each_keeps_its_own_queue(closing: contextlib.ExitStack) -> None:
    one = closing.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))
    two = closing.enter_context(socket.create_server(one.getsockname(), reuse_port=True))
    table = opened(closing)
    both = (found(table, one), found(table, two))
    for _ in range(7):
        closing.enter_context(socket.create_connection(one.getsockname()))
    again = table.refreshed(both) or ()
    assert {each.inode for each in again} == {inode(one), inode(two)}
    assert sum(each.queue for each in again) == 7


def test_a_listener_that_closed_is_told_no_more(closing: contextlib.ExitStack, tmp_path: Path) -> None:
    table, server, stays = opened(closing), serve(closing), serve_unix(closing, str(tmp_path / "app.sock"))
    both = (found(table, server), found(table, stays))
    server.close()
    assert table.refreshed(both) == (both[1],)


@WAYS
@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_held_are_the_accepted_connections_of_these_listeners_only(
    closing: contextlib.ExitStack, use_netlink: bool, host: str
) -> None:
    table = opened(closing, use_netlink=use_netlink)
    one, two, other = (serve(closing, host) for _ in range(3))
    accepted = {inode(connect(closing, server)) for server in (one, two, one)}
    connect(closing, other)
    connect(closing, one, accept=False)
    assert held(table, [found(table, one), found(table, two)]) == accepted


@WAYS
def test_held_includes_what_the_peer_has_closed_and_we_have_not(
    closing: contextlib.ExitStack, use_netlink: bool
) -> None:
    table, server = opened(closing, use_netlink=use_netlink), serve(closing)
    client = socket.create_connection(server.getsockname())
    accepted = closing.enter_context(server.accept()[0])
    client.close()
    assert accepted.recv(1) == b""
    assert held(table, [found(table, server)]) == {inode(accepted)}
    accepted.close()
    assert held(table, [found(table, server)]) == frozenset()


@WAYS
@pytest.mark.parametrize("host", ["127.0.0.1", "::"])
def test_those_whose_bytes_nobody_has_read_are_told_apart(
    closing: contextlib.ExitStack, use_netlink: bool, host: str
) -> None:
    table, server = opened(closing, use_netlink=use_netlink), serve(closing, host)
    connect(closing, server)
    speaker = closing.enter_context(socket.create_connection(server.getsockname()[:2]))
    spoken_to = closing.enter_context(server.accept()[0])
    speaker.sendall(b"GET")

    def unread() -> frozenset[int]:
        accepted = table.accepted([found(table, server)])
        return accepted.unread if accepted is not None else frozenset()

    eventually("the bytes wait", lambda: unread() == {inode(spoken_to)})
    spoken_to.recv(3)
    eventually("they were read", lambda: unread() == frozenset())


def test_held_through_a_unix_listener(closing: contextlib.ExitStack, tmp_path: Path) -> None:
    table = opened(closing)
    server, other = (serve_unix(closing, str(tmp_path / name)) for name in ("a.sock", "b.sock"))
    accepted = {inode(connect(closing, server)) for _ in range(2)}
    connect(closing, other)
    connect(closing, server, accept=False)
    assert held(table, [found(table, server)]) == accepted


def test_many_ports_are_filtered_in_the_kernel(closing: contextlib.ExitStack) -> None:
    servers = [serve(closing) for _ in range(12)]
    accepted = {server.getsockname()[1]: inode(connect(closing, server)) for server in servers}
    netlink = closing.enter_context(contextlib.closing(Netlink()))
    for wanted in ([*accepted][:1], [*accepted][3:9], [*accepted]):
        assert netlink.tcp_accepted("inet", wanted).inodes == {accepted[port] for port in wanted}
    assert netlink.tcp_accepted("inet", [1, 2, 65535]).inodes == frozenset()


def test_a_thousand_connections_in_many_datagrams_are_all_there(closing: contextlib.ExitStack) -> None:
    server = serve(closing, backlog=128)
    accepted = {inode(connect(closing, server)) for _ in range(400)}
    table = opened(closing)
    assert held(table, [found(table, server)]) == accepted


def test_netlink_and_procfs_agree(closing: contextlib.ExitStack) -> None:
    server = serve(closing)
    asked, read = opened(closing), opened(closing, use_netlink=False)
    for _ in range(5):
        connect(closing, server)
    assert asked.accepted([found(asked, server)]) == read.accepted([found(read, server)])


def test_where_neither_can_be_read_the_answer_is_none(tmp_path: Path) -> None:
    blind = SocketTable(str(tmp_path), use_netlink=False)
    assert blind.listeners() is None
    assert blind.accepted([Listener(inode=1, address="127.0.0.1:80", queue=0, backlog=1)]) is None


def test_only_the_kinds_asked_for_are_told(closing: contextlib.ExitStack, tmp_path: Path) -> None:
    serve(closing), serve(closing, "::1"), serve_unix(closing, str(tmp_path / "a.sock"))
    for kind in ("inet", "inet6", "unix"):
        assert kinds_of(opened(closing).listeners((kind,)) or ()) == {kind}


def test_a_closed_table_opens_itself_again(closing: contextlib.ExitStack) -> None:
    table, server = opened(closing), serve(closing)
    assert found(table, server)
    table.close()
    assert found(table, server)


def test_a_refused_question_says_so(closing: contextlib.ExitStack) -> None:
    netlink = closing.enter_context(contextlib.closing(Netlink()))
    with pytest.raises(NetlinkError, match="refused"):
        list(netlink._dump(b"\xff" * 56))
    assert netlink.tcp_listeners("inet") is not None


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 16, struct.pack("=IHHII", 8, 20, 0, 0, 0), b"\xff" * 64])
def test_a_cut_datagram_is_read_as_far_as_it_goes(data: bytes) -> None:
    assert list(_messages(data)) == []
    assert list(columns(data, 72, 68)) == [[]]


def test_a_cut_unix_answer_has_no_path() -> None:
    answer = struct.pack("=BBBxI8x", socket.AF_UNIX, socket.SOCK_STREAM, 10, 7) + struct.pack("=HH", 2, 0)
    sock = _unix_socket(answer, 0, len(answer))
    assert sock is not None
    assert (sock.inode, sock.path) == (7, "")
