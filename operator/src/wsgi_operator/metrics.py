"""What the operator counts of itself, for `/metrics`.

In: what rounds, requests and sweeps tell. Out: Prometheus' text. Rule: names of metrics live only in this file; nothing
is labelled by workload or pod, so that a hundred teams cost as many samples as one. What the workloads do is told by
the sidecars' own `/metrics` and by the WSGIServers' status, not here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

Outcome = Literal["settled", "unsettled", "repeated", "failed"]

_OUTCOMES: Final = ("settled", "unsettled", "repeated", "failed")
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Meters:
    """All counters of one operator, in a registry of its own."""

    def __init__(self) -> None:
        """Everything at zero; no gauge speaks of what nobody looked at."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        registry = self.registry
        self._rounds = Counter(
            "wsgi_operator_rounds_total",
            "Rounds over one WSGIServer. settled: all as wanted. unsettled: work goes on, or something is in the way. "
            "repeated: a conflict, or the API server was away. failed: a bug, look into the log.",
            ["outcome"],
            registry=registry,
        )
        for outcome in _OUTCOMES:
            self._rounds.labels(outcome)
        self._round_s = Histogram(
            "wsgi_operator_round_seconds", "How long one round took.", buckets=_SECONDS, registry=registry
        )
        self._sweep_s = Histogram(
            "wsgi_operator_sweep_seconds",
            "How long it took to read the reports of all pods of one workload.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._pods = Gauge(
            "wsgi_operator_pods",
            "Adopted pods by whether they reported in the last look.",
            ["state"],
            registry=registry,
        )
        self._servers = Gauge(
            "wsgi_operator_servers", "WSGIServers by whether they are Ready.", ["ready"], registry=registry
        )
        self._requests = Counter(
            "wsgi_operator_api_requests_total",
            "Requests to the API server by method and status (0: no answer), without the watches.",
            ["method", "status"],
            registry=registry,
        )
        self.changes = Counter(
            "wsgi_operator_changes_total", "Times that a workload's template was changed.", registry=registry
        )
        self.undone = Counter(
            "wsgi_operator_undone_total",
            "Times that a change was taken back because its pods did not become ready.",
            registry=registry,
        )
        self.restores = Counter(
            "wsgi_operator_restores_total", "Times that a workload was given back.", registry=registry
        )
        self.leading = Gauge(
            "wsgi_operator_leading", "1 if this operator is the active one, 0 if it stands by.", registry=registry
        )
        self._seen: dict[str, tuple[bool, int, int]] = {}

    @contextmanager
    def round(self) -> Iterator[None]:
        """Time one round."""
        with _timed(self._round_s):
            yield

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """Time one reading of a workload's pods."""
        with _timed(self._sweep_s):
            yield

    def ended(self, outcome: Outcome) -> None:
        """A round ended like this."""
        self._rounds.labels(outcome).inc()

    def requested(self, method: str, status: int) -> None:
        """The API server was asked; status 0: no answer came."""
        self._requests.labels(method, str(status)).inc()

    def saw(self, uid: str, *, ready: bool, reporting: int, silent: int) -> None:
        """What the last round over this WSGIServer saw."""
        self._seen[uid] = (ready, reporting, silent)

    def forget(self, uid: str) -> None:
        """This WSGIServer is gone."""
        self._seen.pop(uid, None)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        seen = self._seen.values()
        for ready in (True, False):
            self._servers.labels(str(ready)).set(sum(one[0] is ready for one in seen))
        self._pods.labels("reporting").set(sum(one[1] for one in seen))
        self._pods.labels("silent").set(sum(one[2] for one in seen))
        return generate_latest(self.registry)


@contextmanager
def _timed(histogram: Histogram) -> Iterator[None]:
    began = perf_counter()
    try:
        yield
    finally:
        histogram.observe(perf_counter() - began)
