"""TCP connections of this network namespace, one by one: both ends, unread bytes, bytes ever moved.

In: local ports. Out: `TcpConnection`s. Rule: as `netlink`, whose questions these are: dearer ones, asked at a slow pace
and about few connections.
"""

import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from wsgi_sidecar.netlink import (
    _ATTRIBUTE,
    _FAMILIES,
    _INET_REQUEST,
    ESTABLISHED,
    AddressFamily,
    Netlink,
    _messages,
    _port_filter,
)

FAMILIES: Final[tuple[AddressFamily, ...]] = ("inet", "inet6")
_WITH_INFO: Final = 1 << (2 - 1)
"""Asks for INET_DIAG_INFO (2), the kernel's tcp_info."""
_INET_DIAG_INFO: Final = 2
_MESSAGE: Final = struct.Struct("=B3x2s2s16s16s12x4xII4xI")
"""inet_diag_msg: family, local port, far port, both addresses, receive and send queue, inode (linux/inet_diag.h)."""
_BYTES_MOVED: Final = struct.Struct("=120xQQ")
"""tcp_info: tcpi_bytes_acked and tcpi_bytes_received (linux/tcp.h, Linux 4.1 and later)."""
_MOST_PORTS: Final = 32
"""The kernel's filter program grows by 28 bytes for each; beyond this many all connections are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpConnection:
    """One established connection.

    Attributes:
        inode: joins it with its holders.
        local_port: this end's.
        peer: the far end, for example `10.0.0.5:5432` or `[fd00::5]:5432`.
        peer_port: its port.
        moved: bytes that the far end confirmed and bytes that came from it; None where nobody asked.
    """

    inode: int
    local_port: int
    peer: str
    peer_port: int
    moved: int | None


class Connections(Netlink):
    """A conversation with the kernel about single connections.

    Raises:
        NetlinkError: the kernel has no sock_diag, forbids it, or broke off; from every method likewise.
    """

    def established(self, ports: Collection[int] = (), *, traffic: bool = False) -> tuple[TcpConnection, ...]:
        """Established connections.

        Args:
            ports: local ones; empty means all.
            traffic: whether to ask for the bytes moved, at twice the cost.
        """
        chosen = ports if len(ports) <= _MOST_PORTS else ()
        return tuple(self._connections(_WITH_INFO if traffic else 0, chosen))

    def _connections(self, extensions: int, ports: Collection[int]) -> Iterator[TcpConnection]:
        for family in FAMILIES:
            for data in self._datagrams(family, extensions, 1 << ESTABLISHED, ports):
                whole = ((at, end) for at, end in _messages(data) if end - at >= _MESSAGE.size)
                yield from (_connection(data, at, end) for at, end in whole)

    def _datagrams(
        self, family: AddressFamily, extensions: int, states: int, ports: Collection[int]
    ) -> Iterator[bytes]:
        request = _INET_REQUEST.pack(_FAMILIES[family], socket.IPPROTO_TCP, extensions, states)
        return self._dump(request + (_port_filter(ports) if ports else b""))


def _connection(data: bytes, at: int, end: int) -> TcpConnection:
    family, local_port, peer_port, _, peer, _, _, inode = _MESSAGE.unpack_from(data, at)
    port = int.from_bytes(peer_port, "big")
    return TcpConnection(
        inode=inode,
        local_port=int.from_bytes(local_port, "big"),
        peer=_address(family, peer, port),
        peer_port=port,
        moved=_moved(data, at + _MESSAGE.size, end),
    )


def _address(family: int, packed: bytes, port: int) -> str:
    if family == socket.AF_INET:
        return f"{IPv4Address(packed[:4])}:{port}"
    host = IPv6Address(packed)
    return f"{host.ipv4_mapped}:{port}" if host.ipv4_mapped else f"[{host}]:{port}"


def _moved(data: bytes, at: int, end: int) -> int | None:
    while at + _ATTRIBUTE.size <= end:
        length, name = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return None
        if name == _INET_DIAG_INFO and length - _ATTRIBUTE.size >= _BYTES_MOVED.size:
            acked, received = _BYTES_MOVED.unpack_from(data, at + _ATTRIBUTE.size)
            return int(acked + received)
        at += (length + 3) & ~3
    return None
