"""Finds connections that several processes of a server hold, and who of them uses them.

In: the server's family, look after look. Out: the Report's `SharedSocket`s. Rule: who holds what is compared only when
somebody's files were read anew; a connection that the server accepted is no candidate, nor is one without a name at
its far end (a pipe to a sibling), nor the system's log.

Use is told by system calls: a process counts as a user once one of its threads was seen reading from, writing to or
polling the very socket. Bytes alone do not say whose they are. A request to a database is over in milliseconds, so
while bytes move on a candidate and less than two users are known, a look takes a burst of glances at its holders.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import is_
from pathlib import Path
from typing import Final

from wsgi_contract.report import ProcessId, SharedSocket
from wsgi_sidecar.connections import Connections, TcpConnection
from wsgi_sidecar.core.endpoints import Endpoint
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.netlink import HELD_STATES, NetlinkError
from wsgi_sidecar.waits import sockets_in_use

GLANCES: Final = 8
GLANCE_PAUSE_S: Final = 0.0025
"""A burst takes 20 ms, nearly all of it asleep; a query takes a millisecond or more, so real use is seen soon."""
MOST_BURSTS: Final = 600
"""Ten minutes of traffic without a second user: the socket is one process's own; from then on a burst a minute."""
RARE_BURST_S: Final = 60.0
MOST_HOLDERS: Final = 16
"""Processes glanced at: two are enough for a proof."""
_SYSTEM_LOG: Final = ("/run/systemd/journal/", "/dev/log")


@dataclass(slots=True)
class _Candidate:
    """One socket that several processes hold."""

    inode: int
    peer: str
    service: str | None
    local_port: int | None
    first: int | None = None
    moved: int | None = None
    active: bool = True
    users: set[ProcessId] = field(default_factory=set)


Held = Mapping[ProcessId, frozenset[int]]
Sets = tuple[frozenset[int] | None, ...]


class SharedSockets:
    """Looks for them; remembers what each socket is, and who was seen using it. Not thread-safe."""

    def __init__(self, proc: str = "/proc") -> None:
        """Read nothing yet."""
        self._proc = proc
        self._held: Held = {}
        self._sets: Sets = ()
        self._found: dict[int, _Candidate] = {}
        self._nameless: frozenset[int] = frozenset()
        self._bursts = 0
        self._last_burst = 0.0

    def look(self, family: Family, held: Held) -> tuple[SharedSocket, ...] | None:
        """Take one look.

        Args:
            family: now.
            held: inodes of all sockets of the processes that could be read.

        Returns:
            The shared connections; None where master or workers cannot be read.
        """
        members = (family.master.id, *(worker.process.id for worker in family.workers))
        sets = tuple(held.get(member) for member in members)
        if None in sets:
            return None
        if not _same(sets, self._sets):
            # Each scan makes a new set, so what is the same object is what it was.
            self._sets = sets
            self._held = {member: each for member, each in zip(members, sets, strict=True) if each is not None}
            self._name(_candidates(self._held, family))
        if self._found:
            self._follow()
        return tuple(self._told(candidate) for candidate in self._found.values())

    def _name(self, inodes: frozenset[int]) -> None:
        """Find out what the candidates lead to; those that lead nowhere are not asked about again."""
        self._found = {inode: each for inode, each in self._found.items() if inode in inodes}
        for each in self._found.values():
            each.users &= self._held.keys()  # workers come and go for as long as the master lives
        self._nameless &= inodes
        fresh = inodes - self._found.keys() - self._nameless
        if fresh:
            self._found |= {each.inode: each for each in _named(fresh)}
            self._nameless |= fresh - self._found.keys()

    def _follow(self) -> None:
        self._count_bytes()
        wanted = [each for each in self._found.values() if each.active and len(self._users(each)) < 2]
        now = time.monotonic()
        if not wanted or (self._bursts >= MOST_BURSTS and now - self._last_burst < RARE_BURST_S):
            return
        self._bursts, self._last_burst = self._bursts + 1, now
        for glance in range(GLANCES):
            if glance:
                time.sleep(GLANCE_PAUSE_S)
            self._glance(wanted)

    def _count_bytes(self) -> None:
        """A connection that is gone is no candidate any more; where the kernel tells no bytes, each may be active."""
        ports = {each.local_port for each in self._found.values() if each.local_port is not None}
        traffic = _traffic(ports)
        for inode, candidate in tuple(self._found.items()):
            if traffic is None or candidate.local_port is None:
                candidate.active = True
            elif inode not in traffic:
                del self._found[inode]
            else:
                moved = traffic[inode].moved
                candidate.active = moved is None or moved != candidate.moved
                candidate.first = moved if candidate.first is None else candidate.first
                candidate.moved = moved

    def _glance(self, wanted: list[_Candidate]) -> None:
        inodes = {each.inode: each for each in wanted}
        holders = [who for who, sockets in self._held.items() if not sockets.isdisjoint(inodes)]
        for who in holders[:MOST_HOLDERS]:
            for inode in sockets_in_use(who.pid, proc=Path(self._proc)) & inodes.keys():
                inodes[inode].users.add(who)

    def _users(self, candidate: _Candidate) -> tuple[ProcessId, ...]:
        return tuple(sorted(who for who in candidate.users if candidate.inode in self._held.get(who, ())))

    def _told(self, candidate: _Candidate) -> SharedSocket:
        known = candidate.moved is not None and candidate.first is not None
        return SharedSocket(
            peer=candidate.peer,
            service=candidate.service,
            holders=tuple(sorted(who for who, sockets in self._held.items() if candidate.inode in sockets)),
            users=self._users(candidate),
            moved=candidate.moved != candidate.first if known else None,
            inode=candidate.inode,
        )


def _same(now: Sets, before: Sets) -> bool:
    """Whether nobody's files were read anew."""
    return len(now) == len(before) and all(map(is_, now, before))


def _candidates(held: Held, family: Family) -> frozenset[int]:
    """Sockets of at least two processes that are neither listeners nor accepted connections."""
    once: set[int] = set()
    twice: set[int] = set()
    for sockets in held.values():
        twice |= once & sockets
        once |= sockets
    own = {listener.inode for listener in family.listeners or ()}
    for process in (family.master, *(worker.process for worker in family.workers)):
        own |= (process.connections or frozenset()) | (process.listeners or frozenset())
    return frozenset(twice - own)


def _named(inodes: frozenset[int]) -> list[_Candidate]:
    try:
        kernel = Connections()
    except NetlinkError:
        return []
    try:
        tcp = [_of_tcp(each) for each in kernel.established() if each.inode in inodes]
        rest = inodes - {each.inode for each in tcp}
        # Datagrams may have many senders: they never mix.
        streams = {each.inode for each in kernel.unix_sockets(HELD_STATES)} & rest if rest else frozenset()
        paths = kernel.unix_peers() if streams else {}
    except NetlinkError:
        return []
    finally:
        kernel.close()
    unix = [_of_unix(inode, path) for inode, path in paths.items() if inode in streams]
    return tcp + [each for each in unix if not each.peer.removeprefix("unix:").startswith(_SYSTEM_LOG)]


def _of_tcp(connection: TcpConnection) -> _Candidate:
    end = Endpoint(
        protocol="tcp", state="established", local="", remote=connection.peer, remote_port=connection.peer_port
    )
    return _Candidate(
        inode=connection.inode, peer=connection.peer, service=end.service, local_port=connection.local_port
    )


def _of_unix(inode: int, path: str) -> _Candidate:
    end = Endpoint(protocol="unix", state="established", local="", remote=f"unix:{path}")
    return _Candidate(inode=inode, peer=f"unix:{path}", service=end.service, local_port=None)


def _traffic(ports: set[int]) -> dict[int, TcpConnection] | None:
    if not ports:
        return {}
    try:
        kernel = Connections()
    except NetlinkError:
        return None
    try:
        return {each.inode: each for each in kernel.established(ports, traffic=True)}
    except NetlinkError:
        return None
    finally:
        kernel.close()
