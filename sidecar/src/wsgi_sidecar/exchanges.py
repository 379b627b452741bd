"""When each client of the server last spoke and was last answered, as the kernel counts it.

In: the ports that the server listens on. Out: the `Exchange`s in which a client waits. Rule: one dump of sock_diag with
tcp_info, asked seldom (some 2 ms for 1,000 connections); None where the kernel refuses. Unix sockets have no such
clocks.
"""

import struct
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from wsgi_sidecar.connections import (
    _INET_DIAG_INFO,
    _MESSAGE,
    _MOST_PORTS,
    _WITH_INFO,
    FAMILIES,
    Connections,
    _address,
)
from wsgi_sidecar.core.exchanges import Exchange
from wsgi_sidecar.netlink import (
    _ATTRIBUTE,
    _HEADER,
    CLOSE_WAIT,
    HELD_STATES,
    NetlinkError,
    _messages,
    columns,
    stride_of,
)
from wsgi_sidecar.segments import Moved, Segments

_CLOCKS: Final = struct.Struct("=B43xI4xI64xQQ")
"""tcp_info: state, last_data_sent and last_data_recv in ms, bytes_acked and bytes_received (linux/tcp.h, Linux 4.1)."""
_SAID_AT, _HEARD_AT, _CONFIRMED_AT = 44, 52, 120
"""Where last_data_sent, last_data_recv and bytes_acked stand in it."""


class ExchangeReader:
    """Asks the kernel, and remembers that nobody waited while nothing moved. Not thread-safe."""

    def __init__(self, segments: Segments | None = None) -> None:
        """Ask nothing yet.

        Args:
            segments: tells whether anything moved; our own by default.
        """
        self._segments = segments or Segments()
        self._still: tuple[frozenset[int], Moved | None] | None = None

    def read(self, ports: frozenset[int]) -> tuple[Exchange, ...] | None:
        """Accepted connections on these ports whose client waits for an answer; None where the kernel does not tell."""
        asked = (ports, self._segments.read())
        if asked[1] is not None and asked == self._still:
            return ()
        found = read_exchanges(ports)
        self._still = asked if found == () else None
        # Without an inode nobody has accepted it: it waits in the queue, which is told elsewhere, and is accepted
        # without that anything moves.
        return found if found is None else tuple(each for each in found if each.inode)


def read_exchanges(ports: Collection[int]) -> tuple[Exchange, ...] | None:
    """Connections on these ports whose client waits for an answer; None where the kernel does not tell."""
    if not ports:
        return ()
    try:
        connections = _Exchanges()
    except NetlinkError:
        return None
    try:
        return tuple(connections.on(ports))
    except NetlinkError:
        return None
    finally:
        connections.close()


class _Exchanges(Connections):
    def on(self, ports: Collection[int]) -> Iterator[Exchange]:
        chosen = ports if len(ports) <= _MOST_PORTS else ()
        for family in FAMILIES:
            for data in self._datagrams(family, _WITH_INFO, HELD_STATES, chosen):
                for at, end in _waiting(data):
                    exchange = _exchange(data, at, end)
                    if exchange is not None and exchange.unanswered_s is not None:
                        yield exchange


def _waiting(data: bytes) -> Iterable[tuple[int, int]]:
    """Where those messages stand in a datagram whose client may wait for an answer.

    Mostly nobody waits, and to read all of them whole is three quarters of the cost. The kernel writes the same
    attributes in the same order for each connection: where that holds, words at one distance tell who spoke last.
    """
    stride, info = stride_of(data), _info_at(data)
    if stride is None or info is None:
        return _messages(data)
    clocks = info + _ATTRIBUTE.size
    places = (info, clocks + _SAID_AT, clocks + _HEARD_AT, clocks + _CONFIRMED_AT, clocks + _CONFIRMED_AT + 4)
    told = columns(data, stride - _HEADER.size, *places)
    return [
        (number * stride + _HEADER.size, (number + 1) * stride)
        for number, (name, said, heard, low, high) in enumerate(zip(*told, strict=True))
        if heard < said or (heard == said and not (low or high)) or name >> 16 != _INET_DIAG_INFO
    ]


def _info_at(data: bytes) -> int | None:
    """Where tcp_info stands in a datagram's first message, counted from behind its header; None if it is too short."""
    at, end = next(iter(_messages(data)), (0, 0))
    for place, name, length in _attributes(data, at + _MESSAGE.size, end):
        if name == _INET_DIAG_INFO and length >= _CLOCKS.size:
            return place - _ATTRIBUTE.size - at
    return None


def _exchange(data: bytes, at: int, end: int) -> Exchange | None:
    family, _, peer_port, _, peer, _, _, inode = _MESSAGE.unpack_from(data, at)
    clocks = _clocks(data, at + _MESSAGE.size, end)
    if clocks is None:
        return None
    state, said_ms, heard_ms, confirmed, received = clocks
    return Exchange(
        inode=inode,
        peer=_address(family, peer, int.from_bytes(peer_port, "big")),
        heard_s=heard_ms / 1000,
        said_s=said_ms / 1000,
        received=received,
        confirmed=confirmed,
        left=state == CLOSE_WAIT,
    )


def _clocks(data: bytes, at: int, end: int) -> tuple[int, ...] | None:
    for place, name, length in _attributes(data, at, end):
        if name == _INET_DIAG_INFO and length >= _CLOCKS.size:
            return _CLOCKS.unpack_from(data, place)
    return None


def _attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Of each attribute: where its value begins, its name, its length."""
    while at + _ATTRIBUTE.size <= end:
        length, name = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield at + _ATTRIBUTE.size, name, length - _ATTRIBUTE.size
        at += (length + 3) & ~3
