"""Who is who, whichever server it is: gunicorn by `family`, uWSGI and the others here.

In: a `Snapshot`, the `Family` of the look before, and `Hints` from what the server was told. Out: `Family`. Rule: what
only gunicorn has (a heartbeat) is None for the others; what has no arbiter that wakes up by itself is never called
stuck; where ending a worker would end the server, or the server may be another container's, `untouchable` says so.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.report import ServerKind
from wsgi_sidecar.core.adopted import find_adopted
from wsgi_sidecar.core.family import Family, Worker, dated, family_of
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.leaders import Leader, other_workers
from wsgi_sidecar.core.orphans import orphaned
from wsgi_sidecar.core.slots import assign
from wsgi_sidecar.core.snapshot import Listener, Process, Snapshot
from wsgi_sidecar.core.uwsgi_family import kin_of

WATCHED_ONLY: Final = (
    "this server is watched only: ending a worker of hypercorn or granian ends the whole server, and uvicorn's own "
    "supervisor replaces those that die"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What the last reading of a uWSGI's settings said.

    Attributes:
        has_master: whether it has a master process; None unknown.
        strange: addresses it listens on for others than its workers.
    """

    has_master: bool | None = None
    strange: tuple[str, ...] = ()


NO_HINTS: Final = Hints()


def gather_any(
    snapshot: Snapshot,
    before: Family | None = None,
    *,
    within: int | None = None,
    container: str | None = None,
    timeout_s: float | None = None,
    adopter: int | None = None,
    awaited: bool = False,
    hints: Hints = NO_HINTS,
) -> Family | None:
    """Tell who is who; None while there is no server.

    Args:
        snapshot: this look.
        before: the Family of the look before, also if it was another server's: a doubt outlives its master.
        within: see `find_adopted`.
        container: likewise.
        timeout_s: the server's timeout, if known: a worker past it is overdue.
        adopter: pid of our own child subreaper, to which the kernel gives orphans; None if there is none.
        awaited: an earlier look found no server.
        hints: from what the server was told.
    """
    kinship = Kinship(snapshot.processes)
    preferred = before.master.id if before else None
    found = find_adopted(
        snapshot.processes,
        kinship,
        within=within,
        container=container,
        preferred=preferred,
        observer=kinship.find(snapshot.observer_pid or 0),
    )
    if found is None:
        return None
    family = _family(found.leader, _Scene(snapshot, kinship, before, adopter, awaited), hints, timeout_s)
    doubt = found.doubt or (before.doubt if before is not None and not found.certain else None)
    return family if doubt is None else replace(family, doubt=doubt, untouchable=doubt)


def _family(leader: Leader, scene: "_Scene", hints: Hints, timeout_s: float | None) -> Family:
    if leader.kind == "gunicorn":
        return family_of(
            leader.process,
            scene.snapshot,
            scene.kinship,
            scene.before,
            timeout_s=timeout_s,
            adopter=scene.adopter,
            awaited=scene.awaited,
        )
    if scene.before is not None and scene.before.master.id != leader.process.id:
        scene = replace(scene, before=None, awaited=True)
    if leader.kind == "uwsgi":
        return _uwsgi(leader.process, scene, hints)
    workers = other_workers(leader.process, scene.kinship)
    return scene.family(leader.kind, leader.process, workers, untouchable=WATCHED_ONLY)


def _uwsgi(master: Process, scene: "_Scene", hints: Hints) -> Family:
    kin = kin_of(
        master,
        scene.kinship,
        has_master=hints.has_master,
        listeners=scene.snapshot.listeners,
        strange=hints.strange,
    )
    return scene.family(
        "uwsgi",
        kin.master,
        kin.workers,
        strange=hints.strange,
        by_title=not kin.certain,
        has_arbiter=hints.has_master is True,
    )


@dataclass(frozen=True, slots=True)
class _Scene:
    """One look, and what is common to all servers in it."""

    snapshot: Snapshot
    kinship: Kinship
    before: Family | None
    adopter: int | None
    awaited: bool

    def family(
        self,
        kind: ServerKind,
        master: Process,
        workers: tuple[Process, ...],
        *,
        strange: Collection[str] = (),
        by_title: bool = False,
        has_arbiter: bool = False,
        untouchable: str | None = None,
    ) -> Family:
        snapshot, kinship, before = self.snapshot, self.kinship, self.before
        memory = before.memory if before else None
        left = orphaned(snapshot, kinship, master, workers, memory, adopter=self.adopter, awaited=self.awaited)
        return Family(
            at=snapshot.at,
            monotonic=snapshot.monotonic,
            kind=kind,
            master=master,
            workers=self._workers(workers),
            orphans=dated(left.processes, before, snapshot.at),
            listeners=self._listeners(master, workers, strange),
            descents=left.descents,
            memory=left.memory,
            by_title=by_title,
            sees_all_orphans=left.sees_all,
            has_arbiter=has_arbiter,
            untouchable=untouchable,
        )

    def _workers(self, workers: tuple[Process, ...]) -> tuple[Worker, ...]:
        known = {worker.process.id: worker.slot for worker in self.before.workers} if self.before else {}
        slots = assign(known, (process.id for process in workers))
        told = (
            Worker(
                slot=slots[process.id],
                process=process,
                state="alive",
                heartbeat=None,
                heartbeat_age_s=None,
                connections=None if process.connections is None else len(process.connections),
                tree=self.kinship.descendants(process),
            )
            for process in workers
        )
        return tuple(sorted(told, key=lambda worker: worker.slot))

    def _listeners(
        self, master: Process, workers: tuple[Process, ...], strange: Collection[str]
    ) -> tuple[Listener, ...] | None:
        readable = [process.listeners for process in (master, *workers) if process.listeners is not None]
        if self.snapshot.listeners is None or not readable:
            return None
        held = frozenset[int]().union(*readable)
        return tuple(each for each in self.snapshot.listeners if each.inode in held and each.address not in strange)
