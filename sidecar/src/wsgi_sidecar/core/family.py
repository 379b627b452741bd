"""Who is who: the master, its workers in stable slots, and what they left behind.

In: a `Snapshot` and the slots of the look before. Out: `Family`. Rule: told by ancestry, heartbeat inodes and cgroup,
never by process titles alone: an orphan of a worker carries the title "gunicorn: worker", too.
"""

from dataclasses import dataclass

from wsgi_contract.report import Orphan, ProcessId, ServerKind, WorkerState
from wsgi_sidecar.core.snapshot import HeartbeatFile, Listener, Process


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
        listeners: the ones the master or its workers hold; None where they could not be told.
        kin: every living process that was in a worker's tree in this look or an earlier one: how an orphan is told
            where a cgroup does not tell.
        guests: living processes that came from outside (`kubectl exec` and what it started): never orphans.
        by_title: the workers could only be told by name, because file descriptors could not be read.
    """

    at: float
    monotonic: float
    kind: ServerKind
    master: Process
    workers: tuple[Worker, ...]
    orphans: tuple[Orphan, ...] | None
    listeners: tuple[Listener, ...] | None
    kin: frozenset[ProcessId] = frozenset()
    guests: frozenset[ProcessId] = frozenset()
    by_title: bool = False

    def worker(self, process: ProcessId) -> Worker | None:
        """The worker that is this very process, if it still lives."""
        return next((worker for worker in self.workers if worker.process.id == process), None)
