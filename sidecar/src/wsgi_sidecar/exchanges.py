"""When each client of the server last spoke and was last answered, as the kernel counts it.

In: the ports that the server listens on. Out: `Exchange`s. Rule: one dump of sock_diag with tcp_info, asked seldom
(some 3 ms for 1,000 connections); None where the kernel refuses. Unix sockets have no such clocks.
"""

import struct
from collections.abc import Collection, Iterator
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
from wsgi_sidecar.netlink import _ATTRIBUTE, CLOSE_WAIT, HELD_STATES, NetlinkError

_CLOCKS: Final = struct.Struct("=B43xI4xI64xQQ")
"""tcp_info: state, last_data_sent and last_data_recv in ms, bytes_acked and bytes_received (linux/tcp.h, Linux 4.1)."""


def read_exchanges(ports: Collection[int]) -> tuple[Exchange, ...] | None:
    """All accepted connections on these local ports; None where the kernel does not tell."""
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
            for data, at, end in self._answers(family, _WITH_INFO, HELD_STATES, chosen):
                exchange = _exchange(data, at, end)
                # Without an inode nobody has accepted it: it waits in the queue, which is told elsewhere.
                if exchange is not None and exchange.inode:
                    yield exchange


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
    while at + _ATTRIBUTE.size <= end:
        length, name = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return None
        if name == _INET_DIAG_INFO and length - _ATTRIBUTE.size >= _CLOCKS.size:
            return _CLOCKS.unpack_from(data, at + _ATTRIBUTE.size)
        at += (length + 3) & ~3
    return None
