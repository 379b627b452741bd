"""A change of settings under constant load: a drained app loses no request, and the others are named before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.roll_apps import CASES
from demo.open_load import OpenLoad
from tests.cluster.kube import ROOT, Cluster, eventually
from tests.operator.ground import Ground

pytestmark = pytest.mark.cluster

DRAINED = next(case for case in CASES if case.name == "drained")
BARE = next(case for case in CASES if case.name == "no-prestop")


@pytest.fixture(scope="module")
def image(reached: Cluster) -> str:
    return reached.load_image("bench-roll-app", "1", Path(ROOT / "benchmarks/roll_app")).ref


@pytest.fixture(autouse=True, scope="module")
def operator(here: Ground, reached: Cluster) -> Iterator[None]:
    here.image = reached.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref
    here.start()
    yield
    assert here.stop() == 0


def test_a_roll_of_settings_loses_no_request_of_a_drained_app(here: Ground, image: str):
    here.apply(DRAINED.manifest(image), DRAINED.service())
    here.kubectl("rollout", "status", f"deployment/{DRAINED.name}", "--timeout=120s")
    here.adopt(DRAINED.name, settings={"workers": 1})
    here.until(DRAINED.name, "Ready", "True", within_s=120)
    assert here.condition(DRAINED.name, "RollSafe")[:2] == ("True", "Drained")
    host = here.get("services", DRAINED.name)["spec"]["clusterIP"]
    before = pods(here)
    with OpenLoad(host, 80, per_second=30) as load:
        time.sleep(1)
        here.adopt(DRAINED.name, settings={"workers": 2})
        eventually(lambda: here.condition(DRAINED.name, "Ready")[0] == "True" and not before & pods(here), within_s=120)
        time.sleep(1)
    assert len(load.fates()) > 100
    assert load.failures() == {}


def test_an_app_that_is_not_drained_is_told_before_any_roll(here: Ground, image: str):
    here.apply(BARE.manifest(image))
    here.adopt(BARE.name, settings={"workers": 1})
    message = here.until(BARE.name, "RollSafe", "False", "NoPreStop", within_s=60)
    assert "Add lifecycle.preStop" in message


def pods(here: Ground) -> set[str]:
    """Uids of all that are there, ending ones too."""
    found = here.get("pods", selector=f"app={DRAINED.name}")["items"]
    return {pod["metadata"]["uid"] for pod in found}
