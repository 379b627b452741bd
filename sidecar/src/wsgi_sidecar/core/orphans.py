"""Processes that a worker left behind.

In: the processes of a look, the master and its workers, what earlier looks remember. Out: the orphans, each with the
topmost of its tree and what is known of where that came from. Rule: a tree is judged by its root, alive, outside every
worker's tree, and known to have come from a worker by one of three marks:

- *ancestry*: an earlier look saw the root in a worker's tree. It tells only those that lived at a look before their
  worker died. What hangs below a worker that is leaving in good order has that worker for its root, and is no orphan.
- *cgroup*: it shares the master's cgroup and hangs below process 1, which is where the kernel puts those whose parent
  died. This works whenever the sidecar started, but only where the cgroup is the server's container's own: not where
  the sidecar shares it, nor in a login session. A daemon of the image's entrypoint and what a `kubectl exec` left
  running hang there, too, so a sign is asked for; see `descent`.
- *adoption*: its parent is the adopter, a child subreaper of ours, to which the kernel gives orphans.

Never an orphan: what came from outside (`kubectl exec` has no parent here), what is older than the master or its first
worker, whatever a wrapper around the server started beside it, what all those started, and zombies.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.command import role
from wsgi_sidecar.core.descent import INIT, Descent, Place, descent, is_stranger, maybe_masters, tells_by_cgroup
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.snapshot import ENDED, Process, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one look leaves to the next.

    Attributes:
        kin: living processes once seen in a worker's tree.
        guests: living processes that came from outside the container or are older than the first worker, and what they
            started.
        workers: living processes once seen as workers: one that leaves in good order lives on for as long as its jobs.
        from_birth: the master's first worker is the eldest that was ever seen: somebody looked before it was born.
        first_worker: when that one was born; None while it is not known.
    """

    kin: frozenset[ProcessId] = frozenset()
    guests: frozenset[ProcessId] = frozenset()
    workers: frozenset[ProcessId] = frozenset()
    from_birth: bool = False
    first_worker: int | None = None


NOTHING: Final = Memory()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphaned:
    """What one look found.

    Attributes:
        memory: for the next look.
        processes: the orphans.
        descents: of each, by its identity.
        sees_all: False where an orphan is told only if an earlier look saw it in its worker's tree.
    """

    memory: Memory
    processes: tuple[Process, ...] = ()
    descents: Mapping[ProcessId, Descent] = field(default_factory=dict)
    sees_all: bool = True


def orphaned(
    snapshot: Snapshot,
    kinship: Kinship,
    master: Process,
    workers: tuple[Process, ...],
    before: Memory | None,
    *,
    adopter: int | None,
    awaited: bool,
) -> Orphaned:
    """The orphans alive now, and what to remember of this look.

    Args:
        snapshot: of this look.
        kinship: of its processes.
        master: the server's.
        workers: its workers.
        before: memory of the look before; None at this master's first.
        adopter: pid of a child subreaper of ours; None if there is none.
        awaited: an earlier look found no server, or another one.
    """
    ancestors = {ancestor.id.pid: ancestor for ancestor in kinship.ancestors(master)}
    # A gunicorn that is process 1 and was upgraded (USR2) may get workers of its own again: they hang below it.
    upgraded = INIT in ancestors and role(ancestors[INIT].command) is not None
    place = Place(
        master=master,
        above=frozenset({INIT, *ancestors}),
        by_cgroup=tells_by_cgroup(master, kinship.find(snapshot.observer_pid or 0)) and not upgraded,
        adopter=adopter,
        eldest_at=min((worker.started_at for worker in workers), default=None),
        init_is_above=INIT in ancestors,
    )
    if before is None:
        before = Memory(from_birth=awaited or adopter is not None)
    memory = _remember(snapshot.processes, kinship, place, workers, before)
    found = dict(_found(snapshot.processes, kinship, place, workers, memory))
    return Orphaned(
        memory=memory,
        processes=tuple(process for process in snapshot.processes if process.id in found),
        descents=found,
        sees_all=place.by_cgroup or adopter is not None,
    )


def _remember(
    processes: Iterable[Process], kinship: Kinship, place: Place, workers: Iterable[Process], before: Memory
) -> Memory:
    """The memory after this look: what still lives of the old one, and today's trees."""

    def living(remembered: frozenset[ProcessId]) -> frozenset[ProcessId]:
        found = ((one, kinship.find(one.pid)) for one in remembered)
        return frozenset(one for one, now in found if now is not None and now.id == one and now.state not in ENDED)

    # A server that serves alone is its own worker until it has others: what it starts by itself is nobody's child.
    theirs = [worker for worker in workers if worker.id != place.master.id]
    trees = {child.id for worker in theirs for child in kinship.descendants(worker)}
    first = before.first_worker
    if first is None and before.from_birth:
        first = min((worker.id.started for worker in theirs), default=None)
    guests = {guest.id for top in _outside(processes, place, first) for guest in (top, *kinship.descendants(top))}
    return Memory(
        kin=living(before.kin) | trees,
        guests=living(before.guests) | guests - {worker.id for worker in theirs} - trees,
        workers=living(before.workers) | {worker.id for worker in theirs},
        from_birth=before.from_birth,
        first_worker=first,
    )


def _outside(processes: Iterable[Process], place: Place, first_worker: int | None) -> Iterator[Process]:
    """Topmost processes that no worker can have started.

    Those without a parent in this PID namespace; the containers' own first processes are such, too: one that is no
    ancestor of the master is another container's, nothing to us either. And those that were there before the first
    worker: an entrypoint's helpers, an application's that a hook or a preload started.
    """
    ours = {place.master.id.pid, *place.above}
    for process in processes:
        elder = first_worker is not None and process.id.started < first_worker
        outside = process.ppid == 0 or (elder and (place.hangs(process) or process.ppid == place.master.id.pid))
        if outside and process.id.pid not in ours:
            yield process


def _found(
    processes: Iterable[Process], kinship: Kinship, place: Place, workers: Iterable[Process], memory: Memory
) -> Iterator[tuple[ProcessId, Descent]]:
    if not (memory.kin or place.by_cgroup or place.adopter is not None):
        return
    owned = {child.id.pid for worker in workers for child in (worker, *kinship.descendants(worker))}
    exempt = place.above | owned | {place.master.id.pid} | {guest.pid for guest in memory.guests}
    for root in processes:
        kin = bool(memory.kin) and root.id in memory.kin and _is_root(root, kinship, place)
        if not (kin or place.hangs(root)) or root.id.pid in exempt:
            continue
        known_birth = kin or memory.first_worker is not None
        origin = "worker" if kin else descent(root, place, known_birth=known_birth)
        if origin is None:
            continue
        early = maybe_masters(root, place.master, known_birth=known_birth)
        for process in (root, *kinship.descendants(root)):
            if process.id.pid not in exempt and process.state != "Z":
                yield process.id, Descent(root=root.id, origin=origin, maybe_masters=early)


def _is_root(process: Process, kinship: Kinship, place: Place) -> bool:
    """Whether it is the topmost of its tree: its parent stands above the master, is the master, or is not here."""
    parent = kinship.parent(process)
    return parent is None or parent.id.pid in place.above or parent.id == place.master.id


__all__ = ["NOTHING", "Descent", "Memory", "Orphaned", "is_stranger", "orphaned", "tells_by_cgroup"]
