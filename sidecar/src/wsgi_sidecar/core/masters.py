"""Which process is the server's master.

In: the processes of one look. Out: the master, or None. Rule: the oldest gunicorn that no other gunicorn started and
that has started gunicorns itself.

During an upgrade (USR2) the new master is a child of the old one. The old one is taken as long as it has workers, for
it still answers requests, and its owner has not decided yet; see `family`, which steps down to the new one when the old
has no worker left. Orphans carry gunicorn's command line, too, and hang below process 1: they are younger than their
master, and rarely have gunicorns below them, hence the order of preference.
"""

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.command import role
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.snapshot import Process


def find_master(
    processes: tuple[Process, ...], kinship: Kinship, *, within: int | None = None, preferred: ProcessId | None = None
) -> Process | None:
    """The gunicorn master.

    Args:
        processes: all of the look.
        kinship: of the same processes.
        within: pid of a process that must be the master or above it; None allows any.
        preferred: the master of the look before: stays it while it lives, whatever else there is.
    """
    known = kinship.find(preferred.pid) if preferred else None
    if known and known.id == preferred and is_candidate(known) and _is_within(known, kinship, within):
        return known
    candidates = [process for process in processes if is_candidate(process) and _is_within(process, kinship, within)]
    tops = (process for process in candidates if not _is_started_by_gunicorn(process, kinship))
    return min(tops, key=lambda process: _preference(process, kinship), default=None)


def is_candidate(process: Process) -> bool:
    """Whether its command line allows that it is a master."""
    return role(process.command) in ("gunicorn", "master") and process.state != "Z"


def _is_within(process: Process, kinship: Kinship, within: int | None) -> bool:
    if within is None or process.id.pid == within:
        return True
    return any(ancestor.id.pid == within for ancestor in kinship.ancestors(process))


def _is_started_by_gunicorn(process: Process, kinship: Kinship) -> bool:
    parent = kinship.parent(process)
    return parent is not None and is_candidate(parent)


def _preference(process: Process, kinship: Kinship) -> tuple[bool, int, int]:
    childless = not any(role(child.command) for child in kinship.children(process))
    return childless, process.id.started, process.id.pid
