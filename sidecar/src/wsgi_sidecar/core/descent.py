"""Where a process comes from that nobody here is the parent of.

In: the process, and the place it hangs in. Out: `Origin`, or None where it is no business of ours. Rule: only what a
server's process alone can hand down proves descent; a sign that an entrypoint's, a supervisor's or another server's
processes may bear, too, is told and proves nothing.

- A fork holds one of the master's listening sockets. If it also holds heartbeat files, and the master holds none of
  them, its worker is dead: the master keeps a worker's file until it has reaped the worker.
- What was executed has gunicorn's name in its environment (SERVER_SOFTWARE, set before the first worker is born).
- Signs only: the server's session (supervisord's programs share it), the master's command line (a second server may
  have it), a worker's title.

Where process 1 is an ancestor of the master it is the server's supervisor or entrypoint, and its other children hang
below it by intent: there a sign is not even told.
"""

from dataclasses import dataclass
from typing import Final, Literal

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.command import role
from wsgi_sidecar.core.snapshot import Process

INIT: Final = 1
_LOGIN_SESSIONS: Final = "/user.slice/"
EARLY_S: Final = 1.0
"""A master forks its workers within milliseconds of what its own hooks start. Where nobody saw its first worker, what
is at most so much older than the eldest living one may come from the master."""
LOADING_S: Final = 180.0
"""As long as a master may take to load an application, or a hook's code, before it forks. Until then it is not stuck,
and what it started itself cannot be told from what its first worker did."""

Origin = Literal["dead worker", "worker", "unknown"]
"""`dead worker`: of one that is known to be dead. `worker`: of one, alive or dead. `unknown`: perhaps of none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Where an orphan comes from.

    Attributes:
        root: the topmost of its tree; itself where it hangs there alone.
        origin: of that one.
        maybe_masters: the root is so little younger than the master that the master's own code may have started it, if
            it runs any; False where the first worker's birth is known.
    """

    root: ProcessId
    origin: Origin
    maybe_masters: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where orphans of a server hang.

    Attributes:
        master: the server's.
        above: pids of its ancestors, and of process 1.
        by_cgroup: see `tells_by_cgroup`.
        adopter: pid of a child subreaper of ours; None if there is none.
        eldest_at: wall clock at the start of the eldest worker that lives; None while there is none.
        init_is_above: process 1 is among the master's ancestors.
    """

    master: Process
    above: frozenset[int]
    by_cgroup: bool
    adopter: int | None
    eldest_at: float | None
    init_is_above: bool

    def hangs(self, process: Process) -> bool:
        """Whether it hangs where the kernel puts what lost its parent."""
        if process.ppid == self.master.id.pid or process.id == self.master.id:
            return False
        if process.ppid == self.adopter:
            return True
        return self.by_cgroup and is_stranger(process, self.master)


def tells_by_cgroup(master: Process, observer: Process | None) -> bool:
    """Whether the master's cgroup is its container's own, so that it tells who belongs to the server."""
    if master.cgroup in ("", "/") or _LOGIN_SESSIONS in master.cgroup:
        return False
    return observer is not None and observer.cgroup != master.cgroup


def is_stranger(process: Process, master: Process) -> bool:
    """Whether it runs in the master's cgroup without a parent there: an orphan, unless it is no business of ours."""
    return process.ppid == INIT and process.id != master.id and shares_cgroup(process.cgroup, master.cgroup)


def descent(root: Process, place: Place, *, known_birth: bool) -> Origin | None:
    """Where the root of a tree comes from that hangs in that place and was never seen in a worker's tree.

    Args:
        root: of the tree.
        place: where it hangs.
        known_birth: whoever is older than the server's first worker is known, and left out.
    """
    if root.id.started < place.master.id.started or root.id.pid in place.above:
        return None
    forked = bool((root.listeners or frozenset()) & (place.master.listeners or frozenset()))
    if forked and _lost_its_worker(root, place.master):
        return "dead worker"
    if forked or root.says_gunicorn:
        return "worker" if known_birth or not _is_early(root, place) else "unknown"
    if root.ppid == place.adopter:
        # What our own child, the master, lost comes to us, but so does what the entrypoint before it lost.
        return "unknown" if place.master.ppid == place.adopter or _bears_a_sign(root, place.master) else None
    return "unknown" if not place.init_is_above and _bears_a_sign(root, place.master) else None


def maybe_masters(root: Process, master: Process, *, known_birth: bool) -> bool:
    """See `Descent.maybe_masters`."""
    return not known_birth and root.started_at - master.started_at < LOADING_S


def _lost_its_worker(fork: Process, master: Process) -> bool:
    if not fork.heartbeats or master.heartbeats is None:
        return False
    return not {file.id for file in fork.heartbeats} & {file.id for file in master.heartbeats}


def _is_early(root: Process, place: Place) -> bool:
    return place.eldest_at is not None and 0 < place.eldest_at - root.started_at < EARLY_S


def _bears_a_sign(process: Process, master: Process) -> bool:
    like_master = process.command == master.command and role(process.command) != "master"
    return process.session == master.session or like_master or role(process.command) == "worker"


def shares_cgroup(cgroup: str, other: str) -> bool:
    """Whether the one is the other, or within it."""
    return cgroup == other or cgroup.startswith(f"{other}/")
