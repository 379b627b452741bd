"""What Prometheus reads: the latest state of the sidecar, as samples.

In: a function that gives the latest `Report` and `Ledger`. Out: a collector for a registry that is handed in. Rule: the
names of all metrics stand in this file and nowhere else; what the Report does not know has no sample, never a 0; labels
come from the contract's words, our own sentences and worker slots only, so the number of series is bounded.

Counters of label values that can happen exist from the start as 0: the first incident must not be the first sample, or
rate() would miss it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from wsgi_contract.in_place import STATES, InPlace
from wsgi_contract.report import RESTART_REASONS, KillOutcome, Limit, Report, RequestTotals, WorkerInfo
from wsgi_sidecar.core.account import KillLabels, Ledger
from wsgi_sidecar.core.diagnosis import RULES
from wsgi_sidecar.core.health import UNSEEN, Health
from wsgi_sidecar.core.stopwatch import BOUNDS_S, Stopwatch
from wsgi_sidecar.core.traffic import PUBLISHED_BOUNDS_S

KILL_OUTCOMES: Final[tuple[KillOutcome, ...]] = ("killed", "survived", "gone", "spared", "dry-run", "refused")
POSSIBLE_KILLS: Final[tuple[KillLabels, ...]] = tuple(
    (rule.target, rule.kind, outcome) for rule in RULES if rule.target is not None for outcome in KILL_OUTCOMES
)

MOST_PEERS: Final = 20
"""Series of shared sockets: more peers than that are told in the Report alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the last look left for readers; its Report is told when somebody asks, which is rarer than a look.

    Attributes:
        tell: the Report of the look, with what is in a ledger.
        ledger: of the look.
        health: of the server.
    """

    tell: Callable[[Ledger], Report]
    ledger: Ledger
    health: Health = UNSEEN

    @property
    def report(self) -> Report:
        """Of the look, made anew."""
        return self.tell(self.ledger)


class StateCollector(Collector):
    """Turns the latest state into samples whenever somebody scrapes."""

    def __init__(self, latest: Callable[[], Published | None]) -> None:
        """Nothing is read before the first scrape.

        Args:
            latest: the last published state; None before the first look.
        """
        self._latest = latest

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not take a scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The samples of this moment."""
        published = self._latest()
        if published is not None:
            report = published.report
            yield from _server(report)
            yield from _workers(report)
            yield from _accept_queue(report)
            yield from _container(report)
            yield from _crowd(report)
            yield from _told(report)
            yield from _requests(report.requests)
            yield from _in_place(report.in_place, published.ledger)
            yield from _totals(report, published.ledger)


def _server(report: Report) -> Iterator[Metric]:
    yield _gauge("wsgi_up", "Whether a server was found at the last look.", int(report.server is not None))
    yield from _known("wsgi_workers", "Workers alive.", None if report.workers is None else len(report.workers))
    yield from _known("wsgi_workers_configured", "Workers the server is set to run.", _number(report, "workers"))
    timeout_s = _number(report, "timeout_s") or None
    yield from _known("wsgi_timeout_seconds", "Heartbeat age at which a worker is ended; absent if none.", timeout_s)
    yield from _known(
        "wsgi_connection_limit", "Connections one worker accepts at most; absent if none.", report.connection_limit
    )
    orphans = None if report.orphans is None else len(report.orphans)
    yield from _known("wsgi_orphan_processes", "Processes that a worker left behind.", orphans)
    info = InfoMetricFamily("wsgi", "The server and its watcher; version is the sidecar's.")
    server = report.server
    labels = {"kind": server.kind if server else "", "release": (server.release if server else None) or ""}
    info.add_metric((), labels | {"version": report.sidecar.version})
    yield info


def _number(report: Report, name: str) -> float | None:
    setting = report.setting(name)
    return setting.value if setting and isinstance(setting.value, (int, float)) else None


def _workers(report: Report) -> Iterator[Metric]:
    workers = report.workers or ()
    yield _by_slot(
        "wsgi_worker_heartbeat_age_seconds",
        "Seconds since the worker's last heartbeat, as the arbiter computes them.",
        ((worker, worker.heartbeat_age_s) for worker in workers),
    )
    yield _by_slot(
        "wsgi_connections",
        "Accepted connections that the worker holds.",
        ((worker, worker.connections) for worker in workers),
    )
    yield _by_slot(
        "wsgi_worker_threads",
        "Operating system threads of the worker.",
        ((worker, worker.threads) for worker in workers),
    )
    yield _by_slot(
        "wsgi_worker_resident_memory_bytes",
        "Resident memory of the worker, shared pages included.",
        ((worker, worker.rss_bytes) for worker in workers),
    )
    yield _by_slot(
        "wsgi_worker_proportional_memory_bytes",
        "Memory of the worker, shared pages divided among their users (PSS); where the policy has workers weighed.",
        ((worker, worker.pss_bytes) for worker in workers),
    )


def _accept_queue(report: Report) -> Iterator[Metric]:
    queue = report.accept_queue
    if queue is not None:
        yield _gauge("wsgi_accept_queue_length", "Connections that no worker has accepted yet.", queue.length)
        yield from _known("wsgi_accept_queue_limit", "Backlog in force, over all listeners.", queue.limit)


def _container(report: Report) -> Iterator[Metric]:
    container = report.container
    if container is None:
        return
    yield from _limit("wsgi_container_cpu_limit_cores", "CPU quota; +Inf if there is none.", container.cpu_limit_cores)
    yield from _limit(
        "wsgi_container_memory_limit_bytes", "Memory limit; +Inf if there is none.", container.memory_limit_bytes
    )
    yield from _known(
        "wsgi_container_memory_working_set_bytes",
        "Memory used, without the page cache that can be dropped.",
        container.memory_working_set_bytes,
    )
    yield from _count(
        "wsgi_container_cpu_throttled_seconds", "Time for which the quota held it back.", container.throttled_s
    )
    yield from _count("wsgi_container_oom_kills", "Processes that the kernel killed for memory.", container.oom_kills)


def _limit(name: str, text: str, limit: Limit | None) -> Iterator[Metric]:
    yield from _known(name, text, inf if limit == "unlimited" else limit)


def _count(name: str, text: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield CounterMetricFamily(name, text, value=value)


def _crowd(report: Report) -> Iterator[Metric]:
    told = report.saturation
    yield from _known(
        "wsgi_saturation_ratio",
        "(busy + min(waiting, slots)) / slots, smoothed over 15 s: 0 idle, 1 full, 2 as many wait as are served.",
        told.ratio if told else None,
    )
    yield from _known("wsgi_slots", "Requests that the server can work on at a time.", told.slots if told else None)
    yield from _known("wsgi_busy_slots", "Slots taken at the last count.", told.busy if told else None)
    yield from _known("wsgi_waiting_requests", "Requests that wait for a slot.", told.waiting if told else None)
    yield _by_slot(
        "wsgi_worker_busy_threads",
        "Threads of the worker that work on a request.",
        ((worker, worker.busy) for worker in report.workers or ()),
    )
    if report.shared_sockets is not None:
        shared = GaugeMetricFamily(
            "wsgi_shared_sockets", "Connections that several of master and workers hold.", labels=("peer",)
        )
        # A path is bytes, and may be no text; one such label would cost Prometheus all metrics.
        peers = Counter(each.peer.encode(errors="replace").decode() for each in report.shared_sockets)
        for peer, count in sorted(peers.items())[:MOST_PEERS]:
            shared.add_metric((peer,), count)
        yield shared


def _told(report: Report) -> Iterator[Metric]:
    findings = GaugeMetricFamily("wsgi_lint_findings", "1 for each fault in the server's set-up.", labels=("id",))
    for finding in report.findings:
        findings.add_metric((finding.id,), 1)
    yield findings
    hidden = GaugeMetricFamily("wsgi_unknowns", "1 for each thing that cannot be seen.", labels=("what",))
    for what in sorted({unknown.what for unknown in report.unknowns}):
        hidden.add_metric((what,), 1)
    yield hidden


def _requests(told: RequestTotals | None) -> Iterator[Metric]:
    if told is None:
        return
    yield from _counted("wsgi_requests", "Responses of the server, by status.", "status", told.by_status)
    yield from _counted("wsgi_worker_requests", "Requests that a slot served.", "slot", told.by_slot or None)
    yield from _counted("wsgi_log_lines", "Lines of the server's own log.", "level", told.log_lines)
    if told.durations is not None:
        yield _durations(told.durations, told.duration_sum_s)
    ends = (("sent", told.forwarded), ("failed", told.forward_failed))
    forwarded = tuple((outcome, count) for outcome, count in ends if count is not None)
    yield from _counted("wsgi_statsd_forwarded", "Datagrams passed on.", "outcome", forwarded or None)
    if told.dropped is not None:
        text = "Datagrams of the server that were lost, so that requests are undercounted."
        yield CounterMetricFamily("wsgi_statsd_dropped", text, value=told.dropped)


def _in_place(told: InPlace | None, ledger: Ledger) -> Iterator[Metric]:
    if told is None:
        return
    state = GaugeMetricFamily("wsgi_in_place_state", "1 for the state of the last order.", labels=("state",))
    for name in STATES:
        state.add_metric((name,), int(told.state == name))
    yield state
    ends = ((name, ledger.changes.get(name, 0)) for name in STATES if name not in ("Idle", "Verifying"))
    yield from _counted("wsgi_in_place_changes", "Orders to change settings in place, by outcome.", "outcome", ends)


def _counted(name: str, text: str, label: str, counts: Iterable[tuple[object, int]] | None) -> Iterator[Metric]:
    if counts is not None:
        family = CounterMetricFamily(name, text, labels=(label,))
        for value, count in counts:
            family.add_metric((str(value),), count)
        yield family


def _durations(durations: Iterable[tuple[float | None, int]], sum_s: float) -> Metric:
    family = HistogramMetricFamily("wsgi_request_duration_seconds", "How long requests took, as the server says.")
    finite = [(bound, count) for bound, count in durations if bound is not None]
    buckets = [
        (str(edge), float(sum(count for bound, count in finite if bound <= edge))) for edge in PUBLISHED_BOUNDS_S
    ]
    buckets.append(("+Inf", float(sum(count for _, count in durations))))
    family.add_metric((), buckets, sum_s)
    return family


def _totals(report: Report, ledger: Ledger) -> Iterator[Metric]:
    restarts = CounterMetricFamily("wsgi_worker_restarts", "Workers that ended, by reason.", labels=("reason",))
    for reason in RESTART_REASONS:
        restarts.add_metric((reason,), ledger.restarts.get(reason, 0))
    yield restarts
    yield CounterMetricFamily(
        "wsgi_worker_timeouts", "Workers that ended for a late heartbeat.", value=ledger.counts.timeouts
    )
    incidents = CounterMetricFamily("wsgi_incidents", "Incidents seen, by kind.", labels=("kind",))
    now_open = GaugeMetricFamily("wsgi_open_incidents", "Incidents that last now, by kind.", labels=("kind",))
    for kind in (rule.kind for rule in RULES):
        incidents.add_metric((kind,), ledger.incidents.get(kind, 0))
        now_open.add_metric((kind,), sum(incident.kind == kind for incident in ledger.open.values()))
    yield incidents
    yield now_open
    yield _kills(ledger)
    yield _scans(ledger.stopwatch)
    yield CounterMetricFamily("wsgi_scan_errors", "Looks that failed as a whole.", value=ledger.scan_errors)
    yield _gauge("wsgi_last_scan_timestamp_seconds", "When the last look was taken, Unix seconds.", report.taken_at)


def _kills(ledger: Ledger) -> Metric:
    family = CounterMetricFamily(
        "wsgi_kills", "Kills by what was to be ended, why, and how it went.", labels=("target", "reason", "outcome")
    )
    for labels in sorted({*POSSIBLE_KILLS, *ledger.kills}):
        family.add_metric(labels, ledger.kills.get(labels, 0))
    return family


def _scans(stopwatch: Stopwatch) -> Metric:
    family = HistogramMetricFamily("wsgi_scan_duration_seconds", "Time one look took, kills not included.")
    bounds = [*(str(bound) for bound in BOUNDS_S), "+Inf"]
    buckets = zip(bounds, accumulate(stopwatch.laps), strict=True)
    family.add_metric((), [(bound, float(count)) for bound, count in buckets], stopwatch.total_s)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _known(name: str, text: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield _gauge(name, text, value)


def _by_slot(name: str, text: str, values: Iterable[tuple[WorkerInfo, float | None]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("slot",))
    for worker, value in values:
        if value is not None:
            family.add_metric((str(worker.slot),), value)
    return family
