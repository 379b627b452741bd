"""Who belongs to a process tree, also after leaving it: the process table as the door `kill` needs it.

In: /proc. Out: `Seen` by pid, sets of pids, and `Marks` that tell a stray. Rule: read anew for every walk, nothing
kept; a process that vanishes while we look is not there.

A fork that left its tree (double fork, setsid) is known by marks: it holds open the tree's own heartbeat file, or,
where a whole server ends, it was born during the kill with the root's user, cgroup and environment and has no parent
but a reaper. A worker's stray that shed its mark by an exec is an orphan, which has a rule of its own.

An inode's number alone is nobody's mark: another container's file system counts from the same start, and once the
worker is dead its number is free for the next server's heartbeat. So the file is held until the tree is gone.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.remedy import Order
from wsgi_sidecar.subreaper import adopts_orphans

HEARTBEAT_NAME = "wgunicorn-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One line of the process table: what a walk needs to know."""

    id: ProcessId
    ppid: int
    state: str

    @property
    def ended(self) -> bool:
        """Dead, though somebody may still have to reap it."""
        return self.state in ("Z", "X")

    @property
    def still(self) -> bool:
        """Unable to fork: stopped, traced or dead."""
        return self.state in ("T", "t", "Z", "X")


Table = Mapping[int, Seen]


def read_process(pid: int) -> Seen | None:
    """A process of the process table; None if there is none of that pid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    # Behind the name: state (field 3), ppid (4), ..., start time in ticks (22).
    return Seen(id=ProcessId(pid=pid, started=int(fields[19])), ppid=int(fields[1]), state=fields[0].decode())


def process_table() -> Table:
    """All processes of this PID namespace."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return {pid: seen for pid in pids if (seen := read_process(pid)) is not None}


def lives(process: ProcessId, table: Table) -> bool:
    """Whether this very process, not another one of its pid, is in the table."""
    return process.pid in table and table[process.pid].id == process


def below(roots: Iterable[int], table: Table) -> set[int]:
    """The descendants of all roots, without the roots."""
    children: dict[int, list[int]] = {}
    for seen in table.values():
        children.setdefault(seen.ppid, []).append(seen.id.pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        fresh = [child for child in children.get(ahead.pop(), ()) if child not in found]
        found.update(fresh)
        ahead.extend(fresh)
    return found


def ancestors(pid: int, table: Table) -> Iterator[int]:
    """The process itself, its parent, and so on up."""
    passed: set[int] = set()
    while pid in table and pid not in passed:
        passed.add(pid)
        yield pid
        pid = table[pid].ppid


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFile:
    """A file that nobody else's can be mistaken for while we hold it: its number is not given away.

    Attributes:
        descriptor: what we hold it by.
        identity: device and inode.
    """

    descriptor: int
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How a process that left the tree is known to be of it. To be let go of.

    Attributes:
        heartbeat: the file that only this tree holds open; None where there is none, or the root does not hold it.
        kinship: what those born during the kill must share with the root; None where it could not be read, or where
            others of the same server outlive the kill: what those start meanwhile looks the same.
        reapers: who their parent must be: whoever adopts what this tree leaves behind.
        strangers: who was there before the kill and holds no such file: asked once, fds cost too much each time.
        older: who was there before the kill.
    """

    heartbeat: HeldFile | None
    kinship: tuple[object, ...] | None
    reapers: frozenset[int]
    older: frozenset[ProcessId]
    strangers: set[ProcessId] = field(default_factory=set)

    @classmethod
    def of(cls, order: Order, table: Table) -> "Marks":
        """The marks of a tree that is about to be ended, given who lives now."""
        return cls(
            heartbeat=None if order.mark is None else _hold(order.process.pid, order.mark),
            kinship=None if order.bystanders else _kinship(order.process.pid),
            reapers=_reapers(order.process.pid, table),
            older=frozenset(seen.id for seen in table.values()),
        )

    def let_go(self) -> None:
        """Let go of the file."""
        if self.heartbeat is not None:
            os.close(self.heartbeat.descriptor)

    def strays(self, table: Table, known: set[int]) -> set[int]:
        """Those of the table that left the tree; `known` are in it, or out of reach anyway."""
        candidates = (seen for pid, seen in table.items() if pid not in known and not seen.ended)
        return {seen.id.pid for seen in candidates if self._kin(seen)}

    def _kin(self, seen: Seen) -> bool:
        if seen.id in self.strangers:
            return False
        if self.heartbeat is not None and self.heartbeat.identity in _heartbeats(seen.id.pid):
            return True
        if seen.id in self.older:
            self.strangers.add(seen.id)
            return False
        return self.kinship is not None and seen.ppid in self.reapers and _kinship(seen.id.pid) == self.kinship


def _reapers(root: int, table: Table) -> frozenset[int]:
    """Who adopts what the tree leaves behind, and starts nothing like it itself.

    A process that starts servers may start their like at any moment, with the same user and environment: a script that
    is init, for one. So init counts only where the server does not descend from it, as in a pod; and we ourselves
    where it descends from us, for we start nothing while we kill.
    """
    above = set(ancestors(root, table))
    if os.getpid() in above:
        return frozenset({os.getpid()} if adopts_orphans() else ())
    return frozenset() if 1 in above else frozenset({1})


def _kinship(pid: int) -> tuple[object, ...] | None:
    """User, cgroup and environment: a fork has its parent's; a stranger born in the same moment has not."""
    base = Path(f"/proc/{pid}")
    try:
        return base.stat().st_uid, (base / "cgroup").read_bytes(), (base / "environ").read_bytes()
    except OSError:
        return None


def _hold(pid: int, inode: int) -> HeldFile | None:
    """Take hold of the heartbeat file of this inode that the process has open."""
    for path in _descriptors(pid):
        if HEARTBEAT_NAME not in _target(path):
            continue
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        identity = _identity(os.fstat(descriptor))
        if identity[1] == inode:
            return HeldFile(descriptor=descriptor, identity=identity)
        os.close(descriptor)
    return None


def _heartbeats(pid: int) -> Iterator[tuple[int, int]]:
    for path in _descriptors(pid):
        if HEARTBEAT_NAME in _target(path):
            with suppress(OSError):
                yield _identity(os.stat(path))


def _identity(file: os.stat_result) -> tuple[int, int]:
    return file.st_dev, file.st_ino


def _descriptors(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        yield from (f"{folder}/{name}" for name in os.listdir(folder))


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
