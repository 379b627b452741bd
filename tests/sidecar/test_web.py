"""The port and the metrics behind it, over real sockets."""

import http.client
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from wsgi_contract.policy import Policy
from wsgi_contract.report import RESTART_REASONS, Report, SharedSocket, SidecarInfo
from wsgi_contract.settings import Setting
from wsgi_sidecar.core.account import Ledger
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.stopwatch import Stopwatch
from wsgi_sidecar.core.telling import Teller, View, tell
from wsgi_sidecar.metrics import KILL_OUTCOMES, Published, StateCollector
from wsgi_sidecar.testing import AT, family, listener, worker
from wsgi_sidecar.web import Pages, PortError, WebThread, listen

SETTINGS = (
    Setting(name="workers", value=2, source="default"),
    Setting(name="worker_class", value="gthread", source="default"),
    Setting(name="worker_connections", value=1000, source="default"),
)


def published(seen: Family | None, ledger: Ledger | None = None, **fields: Any) -> Published:
    defaults: dict[str, Any] = {
        "at": AT, "family": seen, "before": None, "release": "23.0.0", "settings": SETTINGS if seen else (),
        "unknowns": (), "policy": Policy(),
    }  # fmt: skip
    teller = Teller(sidecar=SidecarInfo(version="0.1.0", started_at=AT, uid=1, gid=1), pod=None)
    view = View(**(defaults | fields))
    return Published(tell=lambda ledger: tell(view, ledger, teller), ledger=ledger or Ledger())


def samples(state: Published | None) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    registry = CollectorRegistry()
    registry.register(StateCollector(lambda: state))
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in registry.collect()
        for sample in metric.samples
    }


def test_a_healthy_server_in_numbers() -> None:
    seen = family(worker(1, connections=3), worker(2), listeners=(listener(queue=7),))
    told = samples(published(seen))
    assert told["wsgi_up", ()] == 1
    assert told["wsgi_workers", ()] == 2
    assert told["wsgi_workers_configured", ()] == 2
    assert told["wsgi_worker_heartbeat_age_seconds", (("slot", "1"),)] == 0.5
    assert told["wsgi_connections", (("slot", "1"),)] == 3
    assert told["wsgi_connections", (("slot", "2"),)] == 0
    assert told["wsgi_connection_limit", ()] == 1000
    assert (told["wsgi_accept_queue_length", ()], told["wsgi_accept_queue_limit", ()]) == (7, 2048)
    assert told["wsgi_orphan_processes", ()] == 0
    assert told["wsgi_info", (("kind", "gunicorn"), ("release", "23.0.0"), ("version", "0.1.0"))] == 1


def test_what_is_unknown_is_absent() -> None:
    blind = family(worker(1, connections=None, heartbeat_age_s=None), orphans=None, listeners=None)
    names = {name for name, _ in samples(published(blind, settings=(), release=None))}
    absent = {
        "wsgi_worker_heartbeat_age_seconds", "wsgi_connections", "wsgi_connection_limit", "wsgi_workers_configured",
        "wsgi_accept_queue_length", "wsgi_accept_queue_limit", "wsgi_orphan_processes",
    }  # fmt: skip
    assert not names & absent
    assert "wsgi_workers" in names


def test_without_a_server_it_is_down_and_nothing_is_said_of_it() -> None:
    told = samples(published(None))
    assert told["wsgi_up", ()] == 0
    assert not {"wsgi_workers", "wsgi_worker_threads"} & {name for name, _ in told}


def test_a_path_that_is_no_text_breaks_no_metrics() -> None:
    strange = SharedSocket(peer="unix:/run/\udc80\n", service=None, holders=(), users=(), moved=None)
    state = published(family())
    told = replace(state.report, shared_sockets=(strange,))
    registry = CollectorRegistry()
    registry.register(StateCollector(lambda: Published(tell=lambda _: told, ledger=state.ledger)))
    assert b'wsgi_shared_sockets{peer="unix:/run/?\\n"} 1.0' in generate_latest(registry)


def test_before_the_first_look_there_are_no_samples() -> None:
    assert samples(None) == {}


def test_counters_that_can_count_are_there_as_zero_from_the_start() -> None:
    told = samples(published(None))
    for reason in RESTART_REASONS:
        assert told["wsgi_worker_restarts_total", (("reason", reason),)] == 0
    assert told["wsgi_worker_timeouts_total", ()] == 0
    assert told["wsgi_incidents_total", (("kind", "frozen-worker"),)] == 0
    for outcome in KILL_OUTCOMES:
        labels = (("outcome", outcome), ("reason", "frozen-worker"), ("target", "worker"))
        assert told["wsgi_kills_total", labels] == 0


def test_counters_tell_the_ledger() -> None:
    ledger = replace(
        Ledger(),
        restarts={"timeout": 3, "unknown": 1},
        incidents={"frozen-worker": 2},
        kills={("worker", "frozen-worker", "killed"): 2},
        scan_errors=4,
        stopwatch=Stopwatch().with_lap(0.002).with_lap(0.02),
    )
    told = samples(published(family(), ledger))
    assert told["wsgi_worker_restarts_total", (("reason", "timeout"),)] == 3
    assert told["wsgi_worker_timeouts_total", ()] == 3
    assert told["wsgi_incidents_total", (("kind", "frozen-worker"),)] == 2
    killed = (("outcome", "killed"), ("reason", "frozen-worker"), ("target", "worker"))
    assert told["wsgi_kills_total", killed] == 2
    assert told["wsgi_scan_errors_total", ()] == 4
    assert told["wsgi_scan_duration_seconds_bucket", (("le", "0.0025"),)] == 1
    assert told["wsgi_scan_duration_seconds_bucket", (("le", "+Inf"),)] == 2
    assert told["wsgi_scan_duration_seconds_count", ()] == 2


class State:
    """What the pages tell; a test changes it while the port is open."""

    def __init__(self) -> None:
        self.published: Published | None = published(family())
        self.stuck_s: float | None = None


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()


Get = Callable[..., Answer]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def get(state: State) -> Iterator[Get]:
    registry = CollectorRegistry()
    registry.register(StateCollector(lambda: state.published))
    pages = Pages(latest=lambda: state.published, stuck_s=lambda: state.stuck_s, registry=registry)
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        web = WebThread(pages, listener)
        web.start()

        def ask(path: str, method: str = "GET", **headers: str) -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request(method, path, headers=headers)
                return Answer(connection.getresponse())
            finally:
                connection.close()

        yield ask
        web.stop()


def test_the_report_is_the_contracts_and_never_stored(get: Get, state: State) -> None:
    answer = get("/report")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(answer.text)
    assert set(told) == set(Report.__slots__)
    assert told["server"]["release"] == "23.0.0"


def test_metrics_come_in_the_form_that_is_asked_for(get: Get) -> None:
    plain = get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert {family.name for family in parse_text(plain.text)} >= {"wsgi_up", "wsgi_kills", "wsgi_scan_duration_seconds"}
    open_metrics = get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert "wsgi_up" in {family.name for family in parse_openmetrics(open_metrics.text)}


def test_probes_tell_whether_looks_go_on(get: Get, state: State) -> None:
    assert (get("/livez").status, get("/readyz").status) == (200, 200)
    state.stuck_s = 12.3
    answer = get("/livez")
    assert (answer.status, answer.text) == (503, "no look succeeded for 12 s\n")
    state.published = None
    assert (get("/readyz").status, get("/report").status, get("/metrics").status) == (503, 503, 200)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/", "/report/", "/metrics/../report/x"])
def test_there_is_nothing_else(get: Get, path: str) -> None:
    assert get(path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/report", "/metrics", "/livez"])
def test_the_port_only_answers_reads(get: Get, path: str, method: str) -> None:
    assert get(path, method).status == 405


def test_a_taken_port_is_told_with_what_to_do() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: .* --port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.7", "not an address", "::ffff:999"])
def test_an_address_that_is_not_ours_is_told(host: str) -> None:
    with pytest.raises(PortError, match="cannot listen on"):
        listen(host, 0)


def test_all_interfaces_means_both_families() -> None:
    with listen("", 0) as listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        if socket.has_dualstack_ipv6():
            socket.create_connection(("::1", port)).close()
