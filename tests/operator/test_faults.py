"""An API server that is slow, refuses, loses answers and goes away: each change is made, and made once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster.kube import eventually
from tests.operator.fault_proxy import Fault, FaultProxy
from tests.operator.faulty import adopted, alive, asks, resized, start
from tests.operator.ground import Ground, deployment

pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture(autouse=True)
def healed(proxy: FaultProxy) -> Iterator[None]:
    yield
    proxy.heal()


@pytest.mark.parametrize(
    ("status", "headers"),
    [(429, {"Retry-After": "1"}), (409, {}), (500, {})],
)
def test_a_change_that_is_refused_for_now_is_made_later_and_once(
    here: Ground, proxy: FaultProxy, status: int, headers: dict[str, str]
):
    name = f"refused-{status}"
    before = adopted(here, name)
    fault = proxy.add(Fault(meant=asks("PATCH", f"/deployments/{name}"), status=status, headers=headers, times=2))
    here.adopt(name, settings={"workers": 3})
    resized(here, name, before)
    assert fault.hits == 2


def test_an_api_server_that_asks_to_wait_is_not_asked_before_whatever_happens_meanwhile(
    here: Ground, proxy: FaultProxy
):
    before = adopted(here, "throttled")
    meant = asks("PATCH", "/deployments/throttled")
    fault = proxy.add(Fault(meant=meant, status=429, headers={"Retry-After": "4"}, times=1))
    here.adopt("throttled", settings={"workers": 4})
    eventually(lambda: fault.hits, within_s=20, every_s=0.02)
    refused_at, asked = time.monotonic(), proxy.requests("PATCH", "/deployments/throttled")
    here.adopt("throttled", settings={"workers": 3})
    eventually(lambda: proxy.requests("PATCH", "/deployments/throttled") > asked, within_s=20, every_s=0.02)
    assert time.monotonic() - refused_at > 3.5
    resized(here, "throttled", before)


def test_an_api_server_that_goes_on_refusing_is_told_in_the_status_with_its_own_words(here: Ground, proxy: FaultProxy):
    fault = proxy.add(Fault(meant=asks("PATCH", "/deployments/webhook-down"), status=500))
    here.apply(deployment("webhook-down"))
    here.adopt("webhook-down", settings={"workers": 3})
    message = here.until("webhook-down", "Ready", "False", "TryingAgain", within_s=40)
    assert "the proxy says so" in message
    assert here.condition("webhook-down", "Reconciling")[:2] == ("True", "TryingAgain")
    proxy.faults.remove(fault)
    here.until("webhook-down", "Ready", "True")


@pytest.mark.parametrize("what", ["deployments", "wsgiservers", "events"])
def test_an_answer_that_is_lost_on_its_way_is_no_second_change(here: Ground, proxy: FaultProxy, what: str):
    name = f"lost-{what}"
    before = adopted(here, name)
    method, part = ("POST", "/events") if what == "events" else ("PATCH", f"/{what}/{name}")
    fault = proxy.add(Fault(meant=asks(method, part), lost=True, times=2))
    here.adopt(name, settings={"workers": 3})
    resized(here, name, before)
    eventually(lambda: fault.hits, within_s=30)


def test_a_slow_api_server_is_waited_for(here: Ground, proxy: FaultProxy):
    before = adopted(here, "slow")
    proxy.delay_s = 2.0
    here.adopt("slow", settings={"workers": 3})
    resized(here, "slow", before)
    assert alive(here)


def test_an_api_server_that_was_away_finds_the_operator_where_it_was(here: Ground, proxy: FaultProxy):
    before = adopted(here, "away")
    pid = here.process.pid if here.process else 0
    proxy.cut()
    here.adopt("away", settings={"workers": 3})
    time.sleep(15)
    assert alive(here)
    assert here.revision("away") == before
    proxy.heal()
    resized(here, "away", before, within_s=90)
    assert here.process is not None
    assert here.process.pid == pid


def test_an_operator_that_is_told_to_stop_stops_although_the_api_server_is_away(here: Ground, proxy: FaultProxy):
    adopted(here, "stopped")
    proxy.cut()
    time.sleep(2)
    began = time.monotonic()
    assert here.stop() == 0
    assert time.monotonic() - began < 25
    proxy.heal()
    start(here, proxy)
