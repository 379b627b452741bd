"""What a report holds too much of.

In: a report. Out: a sentence, or None. Rule: each list has a bound, a few times what an honest sidecar sends, so that a
newer one that sends more is heard, too; a megabyte of invented things is no report. The sidecar's own limits are named
beside each bound; `tests/contract/test_both_ends.py` holds them together.
"""

from collections.abc import Iterator
from typing import Final

from wsgi_contract.policy import MOST_PATTERNS
from wsgi_contract.report import Report

WORKERS: Final = 2048
"""A WSGIServer asks for 512 at most; the sidecar tells 1,024 senders of statsd apart (`traffic.MAX_WORKERS`), and a
reload has old and new workers side by side. Nor are there more slots, or listeners: with SO_REUSEPORT one for each."""

INCIDENTS: Final = 1500
"""The last 20 that ended (`account.KEPT_ENDED`), and open ones: two for each of 512 workers, and 20 OOM kills
(`oom_kill.MOST_TOLD`), are 1,064, which at 700 bytes each are most of what a report may have."""

EVIDENCE: Final = 32
"""In one incident. Rules give up to 10: `stuck_request` 6 and 4 more."""

KILLS: Final = 100
"""The sidecar keeps the last 20 (`account.KEPT_KILLS`)."""

SURVIVORS: Final = 2048
"""Of all kills together. Few processes survive SIGKILL: those that the kernel holds in a call. A tree has hundreds."""

ORPHANS: Final = 4096
"""Nothing but the pod's own limit of processes bounds them; where the kubelet has one, that is 1,024 to 4,096."""

SOCKETS: Final = 512
"""Shared ones: a pool that was filled before the fork has some 10 connections, to each of a few services."""

HOLDERS: Final = 16_384
"""Holders and users of all shared sockets together: 16 sockets in each of 512 workers."""

STATUSES: Final = 1000
"""Codes 100 to 599, and `other`."""

BUCKETS: Final = 256
"""The sidecar has 66: `traffic.BOUNDS_S`, and one beyond."""

FEW: Final = 64
"""Of what there is one for each of a known set: 11 settings, 8 reasons and 10 kinds (in `wsgi_contract`), 4 levels of a
log, 16 rules of the lint (`lint.RULES`), and 14 causes why something cannot be seen, at most one `Unknown` each."""


def excess_of(report: Report) -> str | None:
    """The first list that is longer than any sidecar's; None: none is."""
    return next((f"it holds more than {most} {what}" for what, found, most in _lengths(report) if found > most), None)


def _lengths(report: Report) -> Iterator[tuple[str, int, int]]:
    """What each list holds, how much of it, and how much it may."""
    sockets, queue = report.shared_sockets or (), report.accept_queue
    yield "settings", len(report.settings), FEW
    yield "workers", len(report.workers or ()), WORKERS
    yield "listeners", len(queue.listeners) if queue is not None else 0, WORKERS
    yield "orphans", len(report.orphans or ()), ORPHANS
    yield "incidents", len(report.incidents), INCIDENTS
    yield "facts behind an incident", max((len(one.evidence) for one in report.incidents), default=0), EVIDENCE
    yield "kills", len(report.kills), KILLS
    yield "survivors of kills", sum(len(kill.survivors) for kill in report.kills), SURVIVORS
    yield "reasons of restarts", len(report.counts.restarts), FEW
    yield "kinds of incidents", len(report.counts.incidents), FEW
    yield "things that cannot be seen", len(report.unknowns), FEW
    yield "exempt names", len(report.policy.orphan_exempt), MOST_PATTERNS
    yield "findings", len(report.findings), FEW
    yield "shared sockets", len(sockets), SOCKETS
    yield "holders of shared sockets", sum(len(one.holders) + len(one.users) for one in sockets), HOLDERS
    if report.requests is not None:
        yield "statuses of requests", len(report.requests.by_status or ()), STATUSES
        yield "buckets of durations", len(report.requests.durations or ()), BUCKETS
        yield "slots with requests", len(report.requests.by_slot), WORKERS
        yield "levels of a log", len(report.requests.log_lines or ()), FEW
    if report.in_place is not None:
        lists = (report.in_place.ordered, report.in_place.before, report.in_place.after)
        yield "settings changed in place", max(map(len, lists)), FEW
