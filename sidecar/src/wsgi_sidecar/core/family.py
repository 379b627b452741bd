"""Who is who: the master, its workers in stable slots, and what they left behind.

In: a `Snapshot` and the `Family` of the look before. Out: `Family`. Rule: told by ancestry, heartbeat files and
cgroup, never by process titles alone: an orphan of a worker carries the title "gunicorn: worker", too.

A worker is a child of the master that holds a heartbeat file which the master holds, too. From gunicorn 25 on a child
may hold its siblings' files besides its own: the eldest child that holds a file is its owner. Where the master's files
cannot be read, its children that look like gunicorns are taken, and the Family says so (`by_title`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.report import Orphan, ProcessId, ServerKind, WorkerState
from wsgi_sidecar.core.command import role
from wsgi_sidecar.core.heartbeat import Beat, beat
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.masters import find_master, is_candidate
from wsgi_sidecar.core.orphans import NOTHING, Descent, Memory, orphaned
from wsgi_sidecar.core.slots import assign
from wsgi_sidecar.core.snapshot import HeartbeatFile, Listener, Process, Snapshot

CONTROL_SOCKET: Final = "/gunicorn.ctl"
"""Gunicorn's own control socket (25.1 and later) listens, too, but not for requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker.

    Attributes:
        slot: stable number; see `WorkerInfo.slot`.
        process: as seen now.
        state: see `WorkerState`.
        heartbeat: its file; None where it could not be read.
        heartbeat_age_s: as the arbiter computes it; None likewise.
        connections: accepted connections held; None where they could not be counted.
        tree: its descendants, children first.
    """

    slot: int
    process: Process
    state: WorkerState
    heartbeat: HeartbeatFile | None
    heartbeat_age_s: float | None
    connections: int | None
    tree: tuple[Process, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One server's processes in one look.

    Attributes:
        at: wall clock of the snapshot.
        monotonic: monotonic clock of the snapshot.
        kind: which server.
        master: the arbiter.
        workers: by slot.
        orphans: processes that a worker left behind, zombies excluded; None where it cannot be told.
        descents: where each of them comes from.
        listeners: the ones the master or its workers hold; None where they could not be told.
        memory: what this look leaves to the next; see `orphans`.
        by_title: the workers could only be told by name, because file descriptors could not be read.
        sees_all_orphans: False where an orphan is told only if an earlier look saw it in its worker's tree.
        has_arbiter: the master wakes up once a second whatever happens; where it does not, stillness says nothing.
        untouchable: why nothing of this server may be ended; None where it may.
        doubt: why this may be another's server, which untouchable then says, too; None: nothing speaks against it.
    """

    at: float
    monotonic: float
    kind: ServerKind
    master: Process
    workers: tuple[Worker, ...]
    orphans: tuple[Orphan, ...] | None
    listeners: tuple[Listener, ...] | None
    descents: Mapping[ProcessId, Descent] = field(default_factory=dict)
    memory: Memory = NOTHING
    by_title: bool = False
    sees_all_orphans: bool = True
    has_arbiter: bool = True
    untouchable: str | None = None
    doubt: str | None = None
    _by_id: Mapping[ProcessId, Worker] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the workers: each of them is asked for several times a look."""
        object.__setattr__(self, "_by_id", {worker.process.id: worker for worker in self.workers})

    def worker(self, process: ProcessId) -> Worker | None:
        """The worker that is this very process, if it still lives."""
        return self._by_id.get(process)


def gather(
    snapshot: Snapshot,
    before: Family | None = None,
    *,
    within: int | None = None,
    timeout_s: float | None = None,
    adopter: int | None = None,
    awaited: bool = False,
) -> Family | None:
    """Tell who is who; None while there is no master.

    Args:
        snapshot: this look.
        before: the Family of the look before: gives slots and memory, and is forgotten if its master is gone.
        within: pid of a process that must be the master or above it; None allows any.
        timeout_s: the server's timeout, if known: a worker past it is overdue.
        adopter: pid of our own child subreaper, to which the kernel gives orphans; None if there is none.
        awaited: an earlier look found no server, or another one.
    """
    kinship = Kinship(snapshot.processes)
    preferred = before.master.id if before else None
    master = find_master(snapshot.processes, kinship, within=within, preferred=preferred)
    if master is None:
        return None
    return family_of(master, snapshot, kinship, before, timeout_s=timeout_s, adopter=adopter, awaited=awaited)


def family_of(
    master: Process,
    snapshot: Snapshot,
    kinship: Kinship,
    before: Family | None = None,
    *,
    timeout_s: float | None = None,
    adopter: int | None = None,
    awaited: bool = False,
) -> Family:
    """The family of a gunicorn's master that was found; arguments as those of `gather`."""
    master, owned = _serving(master, kinship, before)
    if before is not None and before.master.id != master.id:
        before, awaited = None, True
    listeners = _server_listeners(snapshot, master, [process for process, _ in owned])
    states = _States(accepting=frozenset(each.inode for each in listeners or ()), timeout_s=timeout_s)
    workers = _workers(snapshot, kinship, owned, before, states)
    processes, memory = tuple(worker.process for worker in workers), before.memory if before else None
    left = orphaned(snapshot, kinship, master, processes, memory, adopter=adopter, awaited=awaited)
    return Family(
        at=snapshot.at,
        monotonic=snapshot.monotonic,
        kind="gunicorn",
        master=master,
        workers=workers,
        orphans=dated(left.processes, before, snapshot.at),
        listeners=listeners,
        descents=left.descents,
        memory=left.memory,
        by_title=master.heartbeats is None,
        sees_all_orphans=left.sees_all,
    )


_Owned = tuple[Process, HeartbeatFile | None]


def _serving(master: Process, kinship: Kinship, before: Family | None) -> tuple[Process, list[_Owned]]:
    """The master with its workers; its successor, where only that one has some (USR2); else whoever it was before."""
    owned = _owned(master, kinship)
    if owned:
        return master, owned
    heirs = [child for child in kinship.children(master) if is_candidate(child)]
    for heir in heirs:
        if theirs := _owned(heir, kinship):
            return heir, theirs
    return next((heir for heir in heirs if before is not None and heir.id == before.master.id), master), []


def _owned(master: Process, kinship: Kinship) -> list[_Owned]:
    """The master's workers, each with its heartbeat file."""
    if master.heartbeats is None:
        return [(child, None) for child in kinship.children(master) if _looks_like_worker(child)]
    unclaimed = {file.id for file in master.heartbeats}
    owned: list[_Owned] = []
    for child in kinship.children(master):
        files = [file for file in child.heartbeats or () if file.id in unclaimed]
        if files:
            own = max(files, key=lambda file: file.ctime)
            unclaimed.discard(own.id)
            owned.append((child, own))
        elif child.heartbeats is None and unclaimed and _looks_like_worker(child):
            owned.append((child, None))
    return owned


def _looks_like_worker(process: Process) -> bool:
    return process.state != "Z" and role(process.command) in ("gunicorn", "worker")


def _server_listeners(snapshot: Snapshot, master: Process, workers: Iterable[Process]) -> tuple[Listener, ...] | None:
    """Those that the master or (with reuse_port) its workers hold; None where that cannot be told."""
    readable = [process.listeners for process in (master, *workers) if process.listeners is not None]
    if snapshot.listeners is None or not readable:
        return None
    held = frozenset[int]().union(*readable)
    return tuple(
        each for each in snapshot.listeners if each.inode in held and not each.address.endswith(CONTROL_SOCKET)
    )


def _workers(
    snapshot: Snapshot, kinship: Kinship, owned: list[_Owned], before: Family | None, states: "_States"
) -> tuple[Worker, ...]:
    known = {worker.process.id: worker.slot for worker in before.workers} if before else {}
    slots = assign(known, (process.id for process, _ in owned))
    workers = []
    for process, file in owned:
        last = beat(file, at=snapshot.at, monotonic=snapshot.monotonic) if file else None
        workers.append(
            Worker(
                slot=slots[process.id],
                process=process,
                state=states.of(process, last),
                heartbeat=file,
                heartbeat_age_s=last.age_s if last else None,
                connections=None if process.connections is None else len(process.connections),
                tree=kinship.descendants(process),
            )
        )
    return tuple(sorted(workers, key=lambda worker: worker.slot))


@dataclass(frozen=True, slots=True, kw_only=True)
class _States:
    """How a worker's state is told: from the listeners that a working one holds, and the server's timeout."""

    accepting: frozenset[int]
    timeout_s: float | None

    def of(self, process: Process, last: Beat | None) -> WorkerState:
        if last is not None and last.booting:
            return "booting"
        # A leaving worker closes the listeners first; from then on it may beat no more (23.0.0 gthread).
        if process.listeners is not None and self.accepting and not process.listeners & self.accepting:
            return "draining"
        if last is not None and self.timeout_s and last.age_s > self.timeout_s:
            return "overdue"
        return "alive"


def dated(orphans: Iterable[Process], before: Family | None, at: float) -> tuple[Orphan, ...]:
    """The orphans, each with the time it was first seen as one."""
    known = {orphan.process: orphan.since for orphan in (before.orphans if before else None) or ()}
    return tuple(
        Orphan(process=process.id, name=process.name, since=known.get(process.id, at), rss_bytes=process.rss_bytes)
        for process in orphans
    )
