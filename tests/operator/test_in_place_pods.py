"""Settings changed in running pods: the real API server and its admission policy, real pods, real gunicorn."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from threading import Event, Thread
from typing import Any

import pytest

from tests.cluster.kube import ROOT, Cluster, eventually
from tests.operator.ground import Ground, deployment

pytestmark = [pytest.mark.cluster, pytest.mark.long]

IN_PLACE = {"apply": "InPlace"}
BOUND = {"env": [{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000"}]}
PINNED = {"env": [{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000 --workers=1"}]}
PICKY = """
import os, time
path = "/run/wsgi-sidecar/in-place.json"
if os.path.exists(path) and '"settings": {"workers": 5}' in open(path).read():
    time.sleep(600)

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
"""
"""An application that does not load with five workers."""


@pytest.fixture(autouse=True, scope="module")
def adopted(here: Ground, reached: Cluster, app: str) -> Iterator[None]:
    """All workloads at once, since each needs seconds to roll."""
    here.image = reached.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref
    picky = {"name": "picky", "configMap": {"name": "picky"}}
    command = ["gunicorn", "--worker-class=gthread", "--pythonpath=/picky", "picky:app"]
    here.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "picky"}, "data": {"picky.py": PICKY}},
        deployment("shop", replicas=3, image=app, **BOUND),
        deployment("pinned", replicas=1, image=app, **PINNED),
        deployment(
            "picky",
            replicas=2,
            image=app,
            command=command,
            volumeMounts=[{"name": "picky", "mountPath": "/picky"}],
            pod={"volumes": [picky]},
            **BOUND,
        ),
    )
    here.give_policy()
    here.start(WSGI_OPERATOR_ADMISSION="true")
    here.adopt("shop", settings={"workers": 1, "threads": 2}, tuning=IN_PLACE)
    here.adopt("pinned", settings={"workers": 2}, tuning=IN_PLACE)
    here.adopt("picky", settings={"workers": 2}, tuning=IN_PLACE)
    for name in ("shop", "picky"):
        here.until(name, "Ready", "True", within_s=180)
    yield
    assert here.stop() == 0


def pods(here: Ground, name: str) -> dict[str, dict[str, Any]]:
    items = here.get("pods", selector=f"app={name}")["items"]
    return {item["metadata"]["uid"]: item for item in items if "deletionTimestamp" not in item["metadata"]}


def orders(here: Ground, name: str) -> list[str | None]:
    found = (pod["metadata"]["annotations"].get("wsgi.dev/in-place") for pod in pods(here, name).values())
    return list(found)


def in_force(here: Ground, name: str) -> dict[str, str]:
    lines = here.server(name)["status"]["effective"]
    return {line["name"]: line.get("value", "mixed") for line in lines if "wanted" in line}


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:8000/", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Load:
    """Requests to the pods of one workload, one after the other, until told to stop."""

    def __init__(self, here: Ground, name: str) -> None:
        self.addresses = [pod["status"]["podIP"] for pod in pods(here, name).values()]
        self.seen: list[str] = []
        self._stop = Event()
        self._threads = [Thread(target=self._call, args=(address,)) for address in self.addresses]

    def __enter__(self) -> Load:
        for address in self.addresses:
            eventually(partial(answers, address))  # Ready is also who does not listen yet: nothing probes these pods
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, address: str) -> None:
        while not self._stop.is_set():
            try:
                with urllib.request.urlopen(f"http://{address}:8000/", timeout=10) as answer:
                    self.seen.append(str(answer.status))
            except OSError as error:
                self.seen.append(repr(error))
            time.sleep(0.02)


def test_a_change_reaches_all_pods_without_a_new_one(here: Ground):
    before, template, sets = pods(here, "shop"), here.template("shop"), here.replica_sets("shop")
    with Load(here, "shop") as load:
        began = time.monotonic()
        here.adopt("shop", settings={"workers": 2, "threads": 2}, tuning=IN_PLACE)
        eventually(lambda: [order for order in orders(here, "shop") if order], within_s=30)
        here.until("shop", "Reconciling", "True", "ChangingInPlace", within_s=30)
        here.until("shop", "Ready", "True", within_s=180)
        took_s = time.monotonic() - began
    assert in_force(here, "shop") == {"workers": "2", "threads": "2"}
    assert pods(here, "shop").keys() == before.keys(), "no pod was replaced"
    assert (here.template("shop"), here.replica_sets("shop")) == (template, sets)
    restarts = [sum(c["restartCount"] for c in p["status"]["containerStatuses"]) for p in pods(here, "shop").values()]
    assert restarts == [0, 0, 0]
    told = [message for reason, message in here.events("WSGIServer", "shop") if reason == "SettingsChanged"]
    assert any("in place: workers 1 -> 2" in message for message in told)
    lost = [answer for answer in load.seen if answer != "200"]
    print(f"3 pods changed one after the other in {took_s:.0f} s; {len(load.seen)} requests, {len(lost)} lost: {lost}")  # noqa: T201
    assert len(lost) <= len(load.seen) / 100, "gthread of gunicorn 23.0.0 resets what it accepted and did not read"


def test_the_canary_is_alone_until_its_workers_are_up_and_a_killed_operator_goes_on(here: Ground):
    before = pods(here, "shop")
    here.adopt("shop", settings={"workers": 1, "threads": 3}, tuning=IN_PLACE)

    def canary() -> list[str]:
        return [order for order in orders(here, "shop") if order and '"threads":3' in order]

    first = eventually(canary, within_s=30)
    assert len(first) == 1
    here.kill()
    time.sleep(3)
    assert canary() == first, "nobody is ordered without an operator"
    here.start(WSGI_OPERATOR_ADMISSION="true")
    here.until("shop", "Ready", "True", within_s=180)
    assert set(canary()) == set(first), "it is the same order"
    assert len(canary()) == 3
    assert in_force(here, "shop") == {"workers": "1", "threads": "3"}
    assert pods(here, "shop").keys() == before.keys()


def test_a_new_pod_gets_the_settings_after_its_start(here: Ground):
    sets = here.replica_sets("shop")
    here.kubectl("scale", "deployment", "shop", "--replicas=4")
    here.until("shop", "Ready", "True", within_s=120)
    eventually(lambda: len(pods(here, "shop")) == 4 and len([o for o in orders(here, "shop") if o]) == 4, within_s=60)
    here.until("shop", "Ready", "True", within_s=120)
    assert in_force(here, "shop") == {"workers": "1", "threads": "3"}
    assert here.replica_sets("shop") == sets


def test_the_template_takes_the_settings_along_when_it_rolls_for_another_reason(here: Ground):
    here.adopt("shop", settings={"workers": 1, "threads": 3}, tuning=IN_PLACE, watchdog={"mode": "DryRun"})

    def rolled() -> bool:
        annotations = here.deployment("shop")["spec"]["template"]["metadata"]["annotations"]
        return '"threads": 3' in annotations["wsgi.dev/gunicorn-config"] and "DryRun" in annotations["wsgi.dev/policy"]

    eventually(rolled, within_s=30)
    here.until("shop", "Ready", "True", within_s=180)
    assert in_force(here, "shop") == {"workers": "1", "threads": "3"}
    assert orders(here, "shop") == [None] * 4, "they were born with them"


def test_what_the_owners_variable_says_comes_by_a_roll_with_the_reason(here: Ground):
    here.until("pinned", "Ready", "True", within_s=120)
    status, reason, message = here.condition("pinned", "Degraded")
    assert (status, reason) == ("True", "InPlaceUnable")
    assert "--workers 1 in the owner's GUNICORN_CMD_ARGS is stronger than any config file" in message
    assert in_force(here, "pinned") == {"workers": "2"}


def test_a_canary_that_goes_back_stops_it_all(here: Ground):
    before = pods(here, "picky")
    here.adopt("picky", settings={"workers": 5}, tuning=IN_PLACE)
    message = here.until("picky", "Stalled", "True", "InPlaceStopped", within_s=180)
    assert "RolledBack: 0 of 5 workers were up" in message
    assert len([order for order in orders(here, "picky") if order]) == 1, "nobody else was ordered"
    assert pods(here, "picky").keys() == before.keys()
    eventually(lambda: in_force(here, "picky") == {"workers": "2"}, within_s=60)
    told = lambda: [reason for reason, _ in here.events("WSGIServer", "picky") if reason.startswith("InPlace")]  # noqa: E731
    eventually(lambda: told() == ["InPlaceStopped"])  # the status is told before its Events
    here.adopt("picky", settings={"workers": 2}, tuning=IN_PLACE)
    here.until("picky", "Ready", "True", within_s=120)


def test_a_workload_that_is_let_go_has_its_owners_template(here: Ground):
    here.release("picky")
    spec = here.deployment("picky")["spec"]["template"]
    assert "annotations" not in spec["metadata"]
    assert [volume["name"] for volume in spec["spec"]["volumes"]] == ["picky"]
    annotations = here.deployment("picky")["metadata"].get("annotations", {})
    assert not [name for name in annotations if name.startswith("wsgi.dev/")]
