"""How many requests the server answered, in the Report's words, and by slot where the sender of a number is known.

In: the totals of the statsd receiver, and the family of a look. Out: `RequestTotals`, and what the next look needs.
Rule: totals only grow; a slot keeps what its earlier workers served; a number that is known to be too small has an
`Unknown` beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.report import RequestTotals, Unknown
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.statsd_lines import LOG_LEVELS
from wsgi_sidecar.core.traffic import BOUNDS_S, Histogram, Traffic

REQUESTS: Final = "requests"
FIRST_STATUSES: Final[Mapping[str, int]] = {"200": 0, "500": 0}
"""There from the start: the first failure must not be the first sample, or rate() would miss it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BySlot:
    """Requests by slot.

    Attributes:
        served: by slot, dead workers' included.
        counted: of each sender, what is in `served` already.
        slots: of the senders of this look; a worker's last datagrams may come when it is gone.
        gone: senders that nobody needs any more.
    """

    served: Mapping[int, int] = field(default_factory=dict)
    counted: Mapping[int, int] = field(default_factory=dict)
    slots: Mapping[int, int] = field(default_factory=dict)
    gone: tuple[int, ...] = ()


def by_slot(before: BySlot, traffic: Traffic, family: Family | None) -> BySlot:
    """The requests by slot after this look."""
    now = {worker.process.id.pid: worker.slot for worker in family.workers} if family else {}
    slots = {**before.slots, **now}
    served = dict(before.served)
    for pid, part in traffic.by_worker.items():
        if pid in slots:
            seen = before.counted.get(pid, 0)
            # Fewer than before: it was forgotten meanwhile, and has begun anew.
            fresh = part.requests - seen if part.requests >= seen else part.requests
            served[slots[pid]] = served.get(slots[pid], 0) + fresh
    known = {pid: part.requests for pid, part in traffic.by_worker.items() if pid in slots}
    gone = tuple(pid for pid in traffic.by_worker if pid not in slots)
    return BySlot(served=served, counted=known, slots=now, gone=gone)


def totals(
    traffic: Traffic, slots: BySlot, *, dropped: int | None = None, forwarded: tuple[int, int] | None = None
) -> RequestTotals:
    """The totals as the Report tells them.

    Args:
        traffic: of the receiver.
        slots: of the same look.
        dropped: datagrams that the kernel threw away; None where it does not say.
        forwarded: datagrams that were passed on, and those that could not be; None where none is passed on.
    """
    return RequestTotals(
        count=traffic.requests,
        by_status=tuple(sorted({**FIRST_STATUSES, **traffic.by_status}.items())),
        durations=_pairs(traffic.durations),
        duration_sum_s=traffic.durations.sum_s,
        by_slot=tuple(sorted(slots.served.items())),
        log_lines=tuple((level, traffic.log_lines.get(level, 0)) for level in LOG_LEVELS),
        dropped=dropped,
        forwarded=forwarded[0] if forwarded else None,
        forward_failed=forwarded[1] if forwarded else None,
    )


def _pairs(durations: Histogram) -> tuple[tuple[float | None, int], ...]:
    bounds = (*BOUNDS_S, None)
    return tuple((bound, count) for bound, count in zip(bounds, durations.counts, strict=True) if count)


def undercounted(told: RequestTotals) -> tuple[Unknown, ...]:
    """Says that requests are missing from the totals, if any is."""
    if not told.dropped:
        return ()
    return (
        Unknown(
            what=REQUESTS,
            why="the kernel dropped datagrams of statsd, for the sidecar did not read them in time",
            remedy="give the sidecar more CPU; the totals are too small by some of wsgi_statsd_dropped_total",
        ),
    )
