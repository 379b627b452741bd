"""The server's sockets: who listens, how full the accept queues are, which accepted connections are held.

In: the network namespace we are in (a pod's containers share one). Out: `Listener` values and inodes of connections;
who holds them is for others to tell, by inode. Rule: ask netlink; where that is refused read /proc/net, which does not
tell a backlog, nor anything about the queue of a unix socket; where both are refused the answer is None.
"""

import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

from wsgi_sidecar.core.snapshot import Listener
from wsgi_sidecar.netlink import (
    CLOSE_WAIT,
    ESTABLISHED,
    HELD_STATES,
    LISTEN,
    Accepted,
    AddressFamily,
    Netlink,
    NetlinkError,
)

Kind = AddressFamily | Literal["unix"]
KINDS: Final[tuple[Kind, ...]] = ("inet", "inet6", "unix")

_TCP_FILES: Final[tuple[tuple[AddressFamily, str], ...]] = (("inet", "tcp"), ("inet6", "tcp6"))
_HELD: Final = (ESTABLISHED, CLOSE_WAIT)
_CONNECTED: Final = "03"


def kinds_of(listeners: Iterable[Listener]) -> frozenset[Kind]:
    """Which kinds there are among these."""
    return frozenset(_kind(listener) for listener in listeners)


def _kind(listener: Listener) -> Kind:
    if listener.port is None:
        return "unix"
    return "inet6" if listener.address.startswith("[") else "inet"


class SocketTable:
    """The kernel's table of sockets, asked anew at each call."""

    def __init__(self, root: str = "/proc", *, use_netlink: bool = True) -> None:
        """Open nothing yet.

        Args:
            root: where /proc is.
            use_netlink: False reads /proc/net only, as on a machine where sock_diag is refused.
        """
        self._net = f"{root}/net"
        self._use_netlink = use_netlink
        self._open: Netlink | None = None

    def close(self) -> None:
        """Let go of the netlink socket; the next call opens it again."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def listeners(self, kinds: Collection[Kind] = KINDS) -> tuple[Listener, ...] | None:
        """Listening stream sockets of this network namespace; None where nothing tells them.

        Args:
            kinds: which to ask for; each costs a question.
        """
        try:
            return tuple(_asked_listeners(self._netlink(), kinds))
        except NetlinkError:
            self.close()
        try:
            return tuple(self._read_listeners())
        except OSError:
            return None

    def refreshed(self, listeners: Collection[Listener]) -> tuple[Listener, ...] | None:
        """Those of these listeners that still are, with their queues as they are now; None where nothing tells them."""
        try:
            return tuple(self._looked_up(listeners))
        except (NetlinkError, LookupError):
            listening = self.listeners(kinds_of(listeners))
        inodes = {listener.inode for listener in listeners}
        return None if listening is None else tuple(each for each in listening if each.inode in inodes)

    def _looked_up(self, listeners: Collection[Listener]) -> Iterator[Listener]:
        """One question each, at half the cost of the search for all.

        Raises:
            LookupError: one is gone, shares its address, or is a unix socket.
        """
        for listener in listeners:
            kind, host = _kind(listener), listener.address.rpartition(":")[0].strip("[]")
            tcp = self._netlink().tcp_listener(kind, host, listener.port or 0) if kind != "unix" else None
            if tcp is None or tcp.inode != listener.inode:
                raise LookupError(listener.address)
            yield replace(listener, queue=tcp.receive_queue, backlog=tcp.send_queue)

    def accepted(self, listeners: Collection[Listener]) -> Accepted | None:
        """Connections that came through these listeners and that somebody accepted.

        ESTABLISHED or CLOSE_WAIT ones only; None where nothing tells them. Unread bytes are told of TCP alone.
        """
        ports = frozenset(listener.port for listener in listeners if listener.port is not None)
        families: list[AddressFamily] = [family for family, _ in _TCP_FILES if family in kinds_of(listeners)]
        paths = frozenset(each.address.removeprefix("unix:") for each in listeners if each.port is None)
        try:
            return _asked_accepted(self._netlink(), families, ports, paths)
        except NetlinkError:
            self.close()
        try:
            return self._read_accepted(ports, paths)
        except OSError:
            return None

    def _netlink(self) -> Netlink:
        if not self._use_netlink:
            raise NetlinkError(None, "netlink is switched off")
        if self._open is None:
            self._open = Netlink()
        return self._open

    def _read_listeners(self) -> Iterator[Listener]:
        for family, name in _TCP_FILES:
            for host, port, state, queue, inode in self._tcp_lines(family, name):
                if state == LISTEN:
                    yield Listener(inode=inode, address=_address(family, host, port), queue=queue, backlog=None)

    def _read_accepted(self, ports: Collection[int], paths: Collection[str]) -> Accepted:
        queues = {
            inode: queue
            for family, name in (_TCP_FILES if ports else ())
            for _, port, state, queue, inode in self._tcp_lines(family, name)
            if inode and port in ports and state in _HELD
        }
        unix = {
            int(fields[6])
            for fields in (self._lines("unix") if paths else ())
            if len(fields) > 7 and fields[5] == _CONNECTED and fields[7] in paths
        }
        unread = frozenset(inode for inode, queue in queues.items() if queue)
        return Accepted(inodes=frozenset(queues.keys() | unix - {0}), unread=unread)

    def _tcp_lines(self, family: AddressFamily, name: str) -> Iterator[tuple[str, int, int, int, int]]:
        """Local host, local port, state, receive queue, inode of each line."""
        for fields in self._lines(name):
            host, _, port = fields[1].partition(":")
            yield _host(family, host), int(port, 16), int(fields[3], 16), int(fields[4][9:], 16), int(fields[9])

    def _lines(self, name: str) -> Iterator[list[str]]:
        try:
            with open(f"{self._net}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                next(file, None)
                for line in file:
                    yield line.split()
        except FileNotFoundError:
            # A kernel without IPv6 has no tcp6.
            if name != "tcp6":
                raise


def _asked_listeners(netlink: Netlink, kinds: Collection[Kind]) -> Iterator[Listener]:
    for family, _ in _TCP_FILES:
        for tcp in netlink.tcp_listeners(family) if family in kinds else ():
            address = _address(family, tcp.host, tcp.port)
            yield Listener(inode=tcp.inode, address=address, queue=tcp.receive_queue, backlog=tcp.send_queue)
    for unix in netlink.unix_sockets(1 << LISTEN) if "unix" in kinds else ():
        address = f"unix:{unix.path}"
        yield Listener(inode=unix.inode, address=address, queue=unix.receive_queue, backlog=unix.send_queue)


def _asked_accepted(
    netlink: Netlink, families: Iterable[AddressFamily], ports: Collection[int], paths: Collection[str]
) -> Accepted:
    accepted = Accepted()
    for family in families:
        accepted |= netlink.tcp_accepted(family, ports)
    if not paths:
        return accepted
    unix = (unix.inode for unix in netlink.unix_sockets(HELD_STATES) if unix.inode and unix.path in paths)
    return accepted | Accepted(inodes=frozenset(unix))


def _address(family: AddressFamily, host: str, port: int) -> str:
    return f"{host}:{port}" if family == "inet" else f"[{host}]:{port}"


def _host(family: AddressFamily, text: str) -> str:
    """/proc/net writes addresses as 32-bit words of the machine's own byte order."""
    words = bytes.fromhex(text)
    packed = b"".join(_word(words[at : at + 4]) for at in range(0, len(words), 4))
    return str(IPv4Address(packed) if family == "inet" else IPv6Address(packed))


def _word(word: bytes) -> bytes:
    return word if sys.byteorder == "big" else word[::-1]
