"""Processes that a worker left behind.

In: the processes of a look, the master, what earlier looks remember. Out: the orphans. Rule: alive, outside every
worker's tree, and known to have come from a worker by one of three marks:

- *cgroup*: it shares the master's cgroup, is not in the master's tree, and hangs below process 1, which is where the
  kernel puts those whose parent died. This works whenever the sidecar started, but only where the cgroup is the
  server's container's own: not where the sidecar shares it, nor in a login session. A daemon of the image's entrypoint
  and what a `kubectl exec` left running hang there, too, so one more sign is asked for: the server's session (they
  lead or have another), the master's own command line (a fork), or gunicorn's name in the environment (an exec).
- *adoption*: its parent is the adopter, a child subreaper of ours, to which the kernel gives orphans.
- *ancestry*: an earlier look saw it in a worker's tree. It tells only those that lived at a look before their worker
  died.

Never an orphan: what came from outside (`kubectl exec` has no parent here) and what that started, whatever a wrapper
around the server started beside it, zombies, and whatever is older than the master.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.command import role
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.snapshot import Process

INIT: Final = 1
_LOGIN_SESSIONS: Final = "/user.slice/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one look leaves to the next.

    Attributes:
        kin: living processes once seen in a worker's tree.
        guests: living processes that came from outside the container, and what they started.
    """

    kin: frozenset[ProcessId] = frozenset()
    guests: frozenset[ProcessId] = frozenset()


NOTHING: Final = Memory()


def tells_by_cgroup(master: Process, observer: Process | None) -> bool:
    """Whether the master's cgroup is its container's own, so that it tells who belongs to the server."""
    if master.cgroup in ("", "/") or _LOGIN_SESSIONS in master.cgroup:
        return False
    return observer is not None and observer.cgroup != master.cgroup


def remember(
    processes: Iterable[Process], kinship: Kinship, master: Process, workers: Iterable[Process], before: Memory
) -> Memory:
    """The memory after this look: what still lives of the old one, and today's trees."""

    def living(remembered: frozenset[ProcessId]) -> frozenset[ProcessId]:
        return frozenset(one for one in remembered if (now := kinship.find(one.pid)) is not None and now.id == one)

    # A server that serves alone is its own worker until it has others: what it starts by itself is nobody's child.
    trees = {child.id for worker in workers if worker.id != master.id for child in kinship.descendants(worker)}
    guests = {guest.id for guest in _guests(processes, kinship, master)}
    return Memory(kin=living(before.kin) | trees, guests=living(before.guests) | guests)


def find_orphans(
    processes: Iterable[Process],
    kinship: Kinship,
    master: Process,
    *,
    workers: Iterable[Process],
    memory: Memory,
    by_cgroup: bool,
    adopter: int | None,
) -> tuple[Process, ...]:
    """The orphans alive now.

    Args:
        processes: all of the look.
        kinship: of the same.
        master: the server's.
        workers: its workers.
        memory: after this look.
        by_cgroup: see `tells_by_cgroup`.
        adopter: pid of a child subreaper of ours; None if there is none.
    """
    above = {INIT, *(ancestor.id.pid for ancestor in kinship.ancestors(master))}
    below = {process.id.pid for process in kinship.descendants(master)}
    owned = {child.id.pid for worker in workers for child in (worker, *kinship.descendants(worker))}
    exempt = above | owned | {master.id.pid} | {guest.pid for guest in memory.guests}
    kin = {one.pid for one in memory.kin}
    if not (kin or by_cgroup or adopter is not None):
        return ()

    def is_orphan(process: Process) -> bool:
        if process.id.pid in exempt or process.state == "Z":
            return False
        if process.id.pid in kin:
            return True
        if process.id.pid in below or process.id.started < master.id.started:
            return False
        root = _root(process, kinship, above)
        if adopter is not None and root.ppid == adopter:
            return True
        return by_cgroup and is_stranger(root, master) and (_is_servers(root, master) or _is_servers(process, master))

    return tuple(process for process in processes if is_orphan(process))


def _root(process: Process, kinship: Kinship, above: set[int]) -> Process:
    """The topmost of its ancestors that does not stand above the master, too."""
    root = process
    for ancestor in kinship.ancestors(process):
        if ancestor.id.pid in above:
            break
        root = ancestor
    return root


def is_stranger(process: Process, master: Process) -> bool:
    """Whether it runs in the master's cgroup without a parent there: an orphan, unless it is no business of ours."""
    return process.ppid == INIT and process.id != master.id and shares_cgroup(process.cgroup, master.cgroup)


def _is_servers(process: Process, master: Process) -> bool:
    """Whether it bears a sign of the server it came from."""
    return (
        process.session == master.session
        or process.command == master.command
        or role(process.command) == "worker"
        or bool(process.says_gunicorn)
    )


def shares_cgroup(cgroup: str, other: str) -> bool:
    """Whether the one is the other, or within it."""
    return cgroup == other or cgroup.startswith(f"{other}/")


def _guests(processes: Iterable[Process], kinship: Kinship, master: Process) -> Iterator[Process]:
    """Those without a parent in this PID namespace, and all below; the containers' own first processes are such, too.

    A container's first process that is no ancestor of the master is another container's: nothing to us either.
    """
    ours = {master.id, *(ancestor.id for ancestor in kinship.ancestors(master))}
    for process in processes:
        if process.ppid == 0 and process.id.pid != INIT and process.id not in ours:
            yield process
            yield from kinship.descendants(process)
