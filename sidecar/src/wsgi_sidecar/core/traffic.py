"""Requests, their durations and the server's log lines, added up.

In: datagrams, each with how often it came and from which pid. Out: `Traffic`, a new value for each batch; what happened
between two of them is their difference. Rule: totals only grow, and what they hold is bounded: statuses by the
protocol, buckets by this file, workers by `MAX_WORKERS`.

Equal datagrams are counted before they are read: three per request, of which two (`requests:1`, `status.200:1`) are the
same bytes every time, so a batch of 300 datagrams is about 100 to parse.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from wsgi_sidecar.core.statsd_lines import Sample, parse_datagram

BOUNDS_S: Final[tuple[float, ...]] = tuple(
    sorted(
        {
            round(step * 10.0**decade, 6)
            for decade in range(-3, 3)
            for step in (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)
        }
        | {30.0, 60.0, 120.0, 300.0, 1000.0}
    )
)
"""Upper bounds of the duration buckets, seconds: Renard's R10 series, ten to a decade from 1 ms to 1,000 s, and the
usual timeouts of servers and load balancers (30, 60, 120, 300).

Neighbours are at most a factor of 1.28 apart, so a quantile read from the histogram is off by less than that: fine
enough to size a timeout from the tail, which prometheus_client's default buckets (2 to 2.5 apart, none beyond 10 s)
are not. They are integers in one tuple, not a series each: see `PUBLISHED_BOUNDS_S`.
"""

PUBLISHED_BOUNDS_S: Final[tuple[float, ...]] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
)  # fmt: skip
"""The bounds for Prometheus, where each is a time series: a subset of `BOUNDS_S`, so that coarsening loses nothing."""

MAX_WORKERS: Final = 1024
"""Senders told apart at most; further ones are counted in the totals only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Durations by bucket.

    Attributes:
        counts: per bucket of `BOUNDS_S`, not cumulative, and last those beyond the last bound.
        sum_s: of all durations, seconds.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    sum_s: float = 0.0

    @property
    def count(self) -> int:
        """Durations in it."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerTraffic:
    """What one sender counted.

    Attributes:
        requests: served by it.
        server_errors: of those, with a status from 500 on.
        busy_s: sum of their durations.
    """

    requests: int = 0
    server_errors: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Totals since the receiver began.

    Attributes:
        requests: by gunicorn's own counter of them.
        by_status: responses by code; differs from `requests` only where datagrams were lost.
        durations: of requests.
        log_lines: by level; one WORKER TIMEOUT is one `critical`.
        workers: gunicorn's last word on how many it has; None before the first. Not a count of healthy ones.
        backlog: last word on the accept queue (gunicorn >= 24 with `--enable-backlog-metric`); None before the first.
        by_worker: by sender's pid; empty over UDP, which does not tell the sender.
        datagrams: received.
        malformed: lines that were not statsd's.
        foreign: lines that gunicorn does not send.
    """

    requests: int = 0
    by_status: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    durations: Histogram = Histogram()
    log_lines: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    workers: int | None = None
    backlog: int | None = None
    by_worker: Mapping[int, WorkerTraffic] = field(default_factory=lambda: MappingProxyType({}))
    datagrams: int = 0
    malformed: int = 0
    foreign: int = 0


class _Sums:
    """The sums of one batch while they are being made; never leaves this file."""

    def __init__(self, before: Traffic) -> None:
        self.requests = before.requests
        self.statuses, self.log_lines = dict(before.by_status), dict(before.log_lines)
        self.buckets, self.sum_s = list(before.durations.counts), before.durations.sum_s
        self.workers, self.backlog = before.workers, before.backlog
        self.by_worker = dict(before.by_worker)

    def add(self, sample: Sample, pid: int | None, repeats: int) -> None:
        times = sample.times * repeats
        match sample.metric:
            case "requests":
                self.requests += round(sample.value * times)
                self._of_worker(pid, requests=round(sample.value * times))
            case "status":
                count = round(sample.value * times)
                self.statuses[sample.label] = self.statuses.get(sample.label, 0) + count
                if sample.label.startswith("5"):
                    self._of_worker(pid, server_errors=count)
            case "duration":
                self.buckets[bisect_left(BOUNDS_S, sample.value)] += times
                self.sum_s += sample.value * times
                self._of_worker(pid, busy_s=sample.value * times)
            case "log":
                self.log_lines[sample.label] = self.log_lines.get(sample.label, 0) + round(sample.value * times)
            case "workers":
                self.workers = int(sample.value)
            case "backlog":
                self.backlog = int(sample.value)

    def _of_worker(self, pid: int | None, *, requests: int = 0, server_errors: int = 0, busy_s: float = 0.0) -> None:
        if pid is None or (pid not in self.by_worker and len(self.by_worker) >= MAX_WORKERS):
            return
        before = self.by_worker.get(pid, WorkerTraffic())
        self.by_worker[pid] = WorkerTraffic(
            requests=before.requests + requests,
            server_errors=before.server_errors + server_errors,
            busy_s=before.busy_s + busy_s,
        )


def take_in(before: Traffic, batch: Mapping[tuple[int | None, bytes], int]) -> Traffic:
    """The totals after a batch.

    Args:
        before: the totals so far.
        batch: how often each datagram came, by sender's pid (None where it is not known) and content, newest first, so
            that the last word of a gauge stands.
    """
    sums, malformed, foreign = _Sums(before), before.malformed, before.foreign
    for (pid, data), repeats in reversed(tuple(batch.items())):
        said = parse_datagram(data)
        malformed += said.malformed * repeats
        foreign += said.foreign * repeats
        for sample in said.samples:
            sums.add(sample, pid, repeats)
    return Traffic(
        requests=sums.requests,
        by_status=MappingProxyType(sums.statuses),
        durations=Histogram(counts=tuple(sums.buckets), sum_s=sums.sum_s),
        log_lines=MappingProxyType(sums.log_lines),
        workers=sums.workers,
        backlog=sums.backlog,
        by_worker=MappingProxyType(sums.by_worker),
        datagrams=before.datagrams + sum(batch.values()),
        malformed=malformed,
        foreign=foreign,
    )


def without_workers(traffic: Traffic, gone: Iterable[int]) -> Traffic:
    """The totals without the senders that are gone: called when a worker dies, so that its pid may be reused."""
    dead = frozenset(gone)
    left = {pid: part for pid, part in traffic.by_worker.items() if pid not in dead}
    return replace(traffic, by_worker=MappingProxyType(left))


def between(earlier: Histogram, later: Histogram) -> Histogram:
    """The durations that came between two looks at one receiver's totals."""
    counts = tuple(now - then for then, now in zip(earlier.counts, later.counts, strict=True))
    return Histogram(counts=counts, sum_s=later.sum_s - earlier.sum_s)


def quantile_s(histogram: Histogram, share: float) -> float | None:
    """The duration that `share` (0 to 1) of the requests did not exceed, interpolated within its bucket.

    None without a request; beyond the last bound it is the last bound, which the true value exceeds.
    """
    rank, seen = histogram.count * share, 0
    for index, count in enumerate(histogram.counts[:-1]):
        if count and seen + count >= rank:
            low = BOUNDS_S[index - 1] if index else 0.0
            return low + (BOUNDS_S[index] - low) * (rank - seen) / count
        seen += count
    return BOUNDS_S[-1] if histogram.count else None


def cumulative(histogram: Histogram, bounds_s: tuple[float, ...] = PUBLISHED_BOUNDS_S) -> tuple[tuple[float, int], ...]:
    """(upper bound, durations up to it) as Prometheus wants them; the caller adds +Inf with `count`.

    Raises:
        ValueError: a bound that is none of `BOUNDS_S`.
    """
    return tuple((bound, sum(histogram.counts[: BOUNDS_S.index(bound) + 1])) for bound in bounds_s)
