"""Which process is a gunicorn's master.

In: the processes of one look. Out: the masters, or the one that is taken. Rule: the oldest gunicorn that has no other
above it and that has started gunicorns itself. One below another, at whatever depth, is that one's own business: its
successor in an upgrade, or what a hook of its started.

During an upgrade (USR2) the new master is a child of the old one. The old one is taken as long as it has workers, for
it still answers requests, and its owner has not decided yet; see `family`, which steps down to the new one when the old
has no worker left, and up again once it has. Orphans carry gunicorn's command line, too, and hang below process 1: they
are younger than their master, and rarely have gunicorns below them, hence the order of preference.
"""

from collections.abc import Collection

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
        preferred: the master of the look before: see `eldest`.
    """
    candidates = [process for process in processes if is_candidate(process) and kinship.is_within(process, within)]
    return eldest([each for each in candidates if is_outermost(each, kinship, within)], kinship, preferred)


def eldest(masters: Collection[Process], kinship: Kinship, preferred: ProcessId | None = None) -> Process | None:
    """The one that is taken of several masters: that of the look before, or whom it hangs below; else the oldest."""
    known = kinship.find(preferred.pid) if preferred else None
    if known is not None and known.id == preferred:
        line = {known.id, *(ancestor.id for ancestor in kinship.ancestors(known))}
        kept = next((master for master in masters if master.id in line), None)
        if kept is not None:
            return kept
    return min(masters, key=lambda process: _preference(process, kinship), default=None)


def is_candidate(process: Process) -> bool:
    """Whether its command line allows that it is a master."""
    return role(process.command) in ("gunicorn", "master") and process.state != "Z"


def is_outermost(process: Process, kinship: Kinship, within: int | None = None) -> bool:
    """Whether no other gunicorn stands above it; whatever is above `within` does not count."""
    if process.id.pid == within:
        return True
    parent = kinship.parent(process)
    if parent is None or is_candidate(parent):  # as all workers': the walk is only for who hangs elsewhere
        return parent is None
    for ancestor in kinship.ancestors(process):
        if is_candidate(ancestor):
            return False
        if ancestor.id.pid == within:
            break
    return True


def _preference(process: Process, kinship: Kinship) -> tuple[bool, int, int]:
    childless = not any(role(child.command) for child in kinship.children(process))
    return childless, process.id.started, process.id.pid
