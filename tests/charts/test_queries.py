"""Every query of the dashboard and every alert, on a real Prometheus that scrapes real sidecars while things go wrong.

The trouble is that of `trouble.py`, all of it at the same time. Prometheus gets the pods as Kubernetes' discovery would
tell them, relabelled by the chart's own PodMonitor, and evaluates the chart's own rules.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.charts.examples import ADAPTER, SCRAPING
from tests.charts.expressions import RULES, Alert, Query, alerts, queries
from tests.charts.prometheus import Job, Prometheus, discovered, relabelling_of
from tests.charts.rendered import render
from tests.charts.trouble import troubles
from tests.servers.memory_box import memory_box
from tests.servers.packages import needed
from tests.servers.rooms import prepare
from tests.servers.server import eventually, free_port
from tests.servers.watched import Told
from wsgi_operator.health import Pulse, serve_health
from wsgi_operator.metrics import Meters

pytestmark = [pytest.mark.servers, pytest.mark.timeout(400)]

DURING = {
    "WsgiFrozenWorker": "frozen",
    "WsgiStuckArbiter": "stuck",
    "WsgiWorkerTimeouts": "stormy",
    "WsgiSharedSocket": "shared",
    "WsgiBootHang": "booting",
    "WsgiStuckRequest": "waiting",
    "WsgiOrphans": "daemonic",
    "WsgiOomKill": "killed",
    "WsgiMemoryLimit": "growing",
    "WsgiConnectionSaturation": "crowded",
    "WsgiNobodyServes": "stuck",
    "WsgiWorkersMissing": "stuck",
    "WsgiAcceptQueueFull": "crowded",
    "WsgiSaturated": "crowded",
    "WsgiRestarts": "stormy",
    "WsgiKills": "leaving",
    "WsgiKillFailed": "frozen",
    "WsgiMemoryNearLimit": "growing",
    "WsgiInPlaceTakenBack": "reordered",
    "WsgiServerNotFound": "gone",
    "WsgiNobodyLooks": "inattentive",
    "WsgiSidecarDown": "silent",
    "WsgiNotVisible": "hidden",
    "WsgiOperatorNotWorking": "",
    "WsgiOperatorFails": "wsgi-system",
    "WsgiPodsSilent": "wsgi-system",
    "WsgiServersNotReady": "wsgi-system",
}
"""Where each alert has to go off: a pod, or the operator's namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that goes on.

    Attributes:
        prometheus: scrapes all of it.
        ports: of the sidecars, by pod.
    """

    prometheus: Prometheus
    ports: Mapping[str, int]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    needed("prometheus")
    prepare()
    with memory_box(1 << 30):
        pass  # skipped here rather than in a thread
    scraped, over = threading.Event(), threading.Event()
    all_of_it = troubles(scraped)
    with ThreadPoolExecutor(len(all_of_it)) as pool, operator_in_trouble() as operator_port:
        begun: dict[str, Future[int]] = {name: Future() for name in all_of_it}
        played = [pool.submit(play, trouble, begun[name], over) for name, trouble in all_of_it.items()]
        try:
            ports = {name: each.result(120) for name, each in begun.items()} | {"silent": free_port()}
            with Prometheus([*jobs(ports), operator_job(operator_port)], [RULES]) as prometheus:
                eventually("all were scraped", lambda: len(prometheus.query("wsgi_up")) == len(all_of_it))
                scraped.set()
                yield Stage(prometheus=prometheus, ports=ports)
        finally:
            over.set()
        for each in played:
            each.result()


def play(trouble: AbstractContextManager[Told], begun: Future[int], over: threading.Event) -> None:
    """Have the trouble until it shall be over."""
    try:
        with trouble as told:
            begun.set_result(told.sidecar_port)
            over.wait()
    except BaseException as error:
        if begun.done():
            raise
        begun.set_exception(error)


@contextmanager
def operator_in_trouble() -> Iterator[int]:
    """The operator's own meters behind its own port, told of a bad hour. Gives the port."""
    meters, port = Meters(), free_port()
    meters.saw("a", ready=False, reporting=1, silent=2)
    meters.leading.set(0)
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with serve_health(Pulse(), port, meters):
            while not over.is_set():
                with meters.round(), meters.sweep():
                    meters.requested("GET", 200)
                meters.ended("failed")
                await asyncio.sleep(0.5)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def pod(name: str, namespace: str, container: str, address: str, *, port_name: str = "wsgi-report") -> dict[str, Any]:
    """A pod as the API server would give it."""
    host, _, port = address.rpartition(":")
    ports = [{"name": port_name, "containerPort": int(port)}]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"wsgi.dev/server": name}},
        "spec": {"containers": [], "initContainers": [{"name": container, "ports": ports}]},
        "status": {"phase": "Running", "podIP": host},
    }


def jobs(ports: Mapping[str, int]) -> list[Job]:
    """All sidecars, as the chart's PodMonitor has them scraped."""
    monitor = monitors()["wsgi-wsgi-operator-sidecars"]
    pods = [pod(name, "shop", "wsgi-sidecar", f"127.0.0.1:{port}") for name, port in ports.items()]
    return [Job(name="sidecars", relabelling=relabelling_of(monitor), targets=discovered(pods))]


def operator_job(port: int) -> Job:
    """The operator, likewise."""
    monitor = monitors()["wsgi-wsgi-operator"]
    pods = [pod("wsgi-operator-0", "wsgi-system", "operator", f"127.0.0.1:{port}")]
    return Job(name="operator", relabelling=relabelling_of(monitor), targets=discovered(pods))


def monitors() -> dict[str, Any]:
    """The chart's PodMonitors by name."""
    made = render({"podMonitor": {"enabled": True}})
    return {thing["metadata"]["name"]: thing for thing in made if thing["kind"] == "PodMonitor"}


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.where)
def test_each_query_of_the_dashboard_has_an_answer(stage: Stage, query: Query) -> None:
    eventually(f"{query.sent} gives something", lambda: stage.prometheus.query(query.sent))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_each_alert_goes_off_in_its_trouble(stage: Stage, alert: Alert) -> None:
    where = DURING[alert.name]

    def places() -> set[str]:
        found = stage.prometheus.labels(f'ALERTS{{alertname="{alert.name}"}}')
        return {series.get("pod") or series.get("wsgiserver") or series.get("namespace", "") for series in found}

    eventually(f"{alert.name} goes off in {where or 'the cluster'}", lambda: where in places())


def test_the_rule_for_an_autoscaler_gives_each_pod_its_saturation(stage: Stage) -> None:
    """As prometheus-adapter asks it, for the pods of one Deployment."""
    (rule,) = yaml.safe_load(ADAPTER.read_text("utf-8"))["rules"]["custom"]
    assert stage.prometheus.query(rule["seriesQuery"])
    filled = {
        "Series": rule["name"]["matches"],
        "LabelMatchers": 'namespace="shop",pod=~"calm|crowded"',
        "GroupBy": "pod",
    }
    expr = re.sub(r"<<\.(\w+)>>", lambda found: filled[found[1]], rule["metricsQuery"])
    ratios = {one["metric"]["pod"]: float(one["value"][1]) for one in stage.prometheus.query(expr)}
    assert ratios.keys() == {"calm", "crowded"}
    assert ratios["crowded"] >= 1 > ratios["calm"]


def test_no_alert_goes_off_for_a_server_that_is_well(stage: Stage) -> None:
    """Judged last, over all that time."""
    seen = [
        series
        for series in stage.prometheus.over("ALERTS", 300)
        if "calm" in (series.get("pod"), series.get("wsgiserver"))
    ]
    assert seen == []
    assert stage.prometheus.query('wsgi_up{pod="calm"} == 1')


def test_what_an_alert_says_has_its_numbers_in_it(stage: Stage) -> None:
    groups = stage.prometheus.rules()
    said = {
        (rule["name"], text)
        for group in groups
        for rule in group["rules"]
        for alert in rule["alerts"]
        for text in alert["annotations"].values()
    }
    assert said
    assert [one for one in said if "error" in one[1] or "<no value>" in one[1] or "{{" in one[1]] == []


def test_a_prometheus_without_podmonitors_gets_the_same_labels(stage: Stage) -> None:
    """examples/prometheus/scrape.yaml is relabelled as the PodMonitors are."""
    (sidecars, operator) = yaml.safe_load(SCRAPING.read_text("utf-8"))["scrape_configs"]
    pods = [
        pod("calm", "shop", "wsgi-sidecar", f"127.0.0.1:{stage.ports['calm']}"),
        pod("stranger", "shop", "web", f"127.0.0.1:{stage.ports['hidden']}", port_name="http"),
    ]
    job = Job(name="wsgi", relabelling=sidecars["relabel_configs"], targets=discovered(pods))
    with Prometheus([job]) as other:
        (found,) = eventually("it was scraped", lambda: other.labels("wsgi_up"))
    (usual,) = stage.prometheus.labels('wsgi_up{pod="calm"}')
    assert {**found, "job": "", "endpoint": ""} == {**usual, "job": "", "endpoint": ""}
    assert operator["job_name"] == "wsgi-operator"
