"""When a change begins, on the real API server: windows, cooldown, how many at once. No pods are needed for that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def ended(here: Ground) -> Iterator[None]:
    yield
    here.kill()


def closed() -> dict[str, Any]:
    """A window of tomorrow's."""
    later = datetime.now(UTC) + timedelta(hours=12)
    return {"windows": [{"start": f"{later:%H:%M}", "end": f"{later + timedelta(minutes=5):%H:%M}"}]}


def args_of(here: Ground, name: str) -> str:
    return str(here.deployment(name)["spec"]["template"]["spec"]["containers"][0]["env"][0].get("value", ""))


def versions(here: Ground, name: str) -> tuple[str, str]:
    return here.deployment(name)["metadata"]["resourceVersion"], here.server(name)["metadata"]["resourceVersion"]


def test_adopting_waits_for_no_window_a_change_does_and_giving_back_does_not(here: Ground):
    here.apply(deployment("night"))
    owners = here.template("night")
    here.start()
    here.adopt("night", settings={"workers": 2}, tuning=closed())
    here.until("night", "Ready", "True")
    here.adopt("night", settings={"workers": 5}, tuning=closed())
    message = here.until("night", "Reconciling", "True", "Waiting")
    assert "what this spec asks for waits for the window that opens" in message
    assert "UTC" in message
    before = (
        here.deployment("night")["metadata"]["resourceVersion"],
        here.server("night")["metadata"]["resourceVersion"],
    )
    time.sleep(3)
    here.kill()
    here.start()
    time.sleep(3)
    assert versions(here, "night") == before  # it waits, and nothing ticks, also through a restart
    assert args_of(here, "night") == "--workers=2"
    here.adopt("night", settings={"workers": 5})
    here.until("night", "Ready", "True")
    assert args_of(here, "night") == "--workers=5"
    assert here.replica_sets("night") == 3
    here.adopt("night", settings={"workers": 6}, tuning=closed())
    here.until("night", "Reconciling", "True", "Waiting")
    here.release("night")
    assert here.template("night") == owners


def test_what_somebody_else_changes_is_put_right_while_a_change_waits(here: Ground):
    here.apply(deployment("meddled"))
    here.start()
    here.adopt("meddled", settings={"workers": 2}, tuning=closed())
    here.until("meddled", "Ready", "True")
    here.adopt("meddled", settings={"workers": 5}, tuning=closed())
    here.until("meddled", "Reconciling", "True", "Waiting")
    here.kubectl("set", "env", "deployment/meddled", "GUNICORN_CMD_ARGS=-w 1")
    eventually(lambda: args_of(here, "meddled") == "-w 1 --workers=2", within_s=20)
    here.until("meddled", "Reconciling", "True", "Waiting")


def test_a_time_zone_that_nobody_knows_is_told_and_adopting_goes_on(here: Ground):
    here.apply(deployment("mars"))
    here.start()
    windows = [{"start": "00:00", "end": "23:59", "timeZone": "Mars/Olympus"}]
    here.adopt("mars", settings={"workers": 2}, tuning={"windows": windows})
    assert "'Mars/Olympus'" in here.until("mars", "Stalled", "True", "TimeZoneUnknown")
    here.until("mars", "Injected", "True")
    assert args_of(here, "mars") == "--workers=2"
    windows[0]["timeZone"] = "Europe/Berlin"
    here.adopt("mars", settings={"workers": 2}, tuning={"windows": windows})
    here.until("mars", "Ready", "True")


def test_after_a_change_the_next_one_waits_for_the_cooldown(here: Ground):
    here.apply(deployment("cool"))
    here.start()
    here.adopt("cool", settings={"workers": 2}, tuning={"cooldownSeconds": 8})
    here.until("cool", "Ready", "True")
    changed = time.monotonic()
    here.adopt("cool", settings={"workers": 3}, tuning={"cooldownSeconds": 8})
    assert "the cooldown of 8 s after the last change, which ends at" in here.until("cool", "Ready", "False", "Waiting")
    here.kill()
    here.start()
    here.until("cool", "Ready", "True", within_s=30)
    assert time.monotonic() - changed > 5
    assert args_of(here, "cool") == "--workers=3"


def test_no_more_workloads_roll_at_once_than_may_also_after_a_restart(here: Ground):
    names = ("one", "two", "three")
    here.apply(deployment("stuck", replicas=1), *(deployment(name) for name in names))  # its image is not there
    here.start(WSGI_OPERATOR_ROLLS_AT_ONCE="1")
    here.adopt("stuck", settings={"workers": 2})
    here.until("stuck", "Reconciling", "True", "RollingOut")
    for name in names:
        here.adopt(name, settings={"workers": 2})
    for name in names:
        assert "as many workloads as may roll at once (1) roll already" in here.until(name, "Reconciling", "True")
        assert here.condition(name, "Injected")[:2] == ("False", "Waiting")
    here.kill()
    here.start(WSGI_OPERATOR_ROLLS_AT_ONCE="1")
    time.sleep(4)
    assert [args_of(here, name) for name in names] == ["", "", ""]
    here.kubectl("scale", "deployment", "stuck", "--replicas=0")
    for name in names:
        here.until(name, "Ready", "True", within_s=40)
    assert [args_of(here, name) for name in names] == ["--workers=2"] * 3
