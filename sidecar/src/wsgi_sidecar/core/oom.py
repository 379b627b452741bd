"""Whom the kernel's OOM killer ended.

In: two looks, and by how much the container's count of OOM kills rose meanwhile. Out: the workers that it took. Rule:
the kernel counts and does not name, so a worker counts as a victim only if it is gone, nobody else is known to have
ended it and its wait status, where the kernel keeps it, says SIGKILL; never more victims than kills, first those whose
status is known (one that nobody has reaped yet has none), then the largest, for that is how the kernel chooses. What
gunicorn writes ("Perhaps out of memory?") is a guess about every SIGKILL, also about its own, and counts for nothing.
"""

from collections.abc import Mapping
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.family import Family

_SIGNAL_BITS: Final = 0x7F
_SIGKILL: Final = 9


def victims(
    before: Family | None, now: Family, *, kills: int, struck: frozenset[ProcessId], statuses: Mapping[ProcessId, int]
) -> frozenset[ProcessId]:
    """The workers that the kernel ended between two looks.

    Args:
        before: the earlier look, of the same master.
        now: this look.
        kills: OOM kills counted since then.
        struck: processes that this sidecar ended.
        statuses: wait statuses of ended workers, as far as the kernel tells them.
    """
    if before is None or kills <= 0 or before.master.id != now.master.id:
        return frozenset()
    gone = [
        worker.process
        for worker in before.workers
        if now.worker(worker.process.id) is None
        and worker.process.id not in struck
        and worker.state != "draining"
        and statuses.get(worker.process.id, _SIGKILL) & _SIGNAL_BITS == _SIGKILL
    ]
    likeliest = sorted(gone, key=lambda process: (process.id in statuses, process.rss_bytes), reverse=True)
    return frozenset(process.id for process in likeliest[:kills])
