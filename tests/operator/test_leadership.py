"""Who may take the Lease, with plain values; and two real operators, of which one is killed."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment, free_port
from wsgi_operator.core.leadership import GIVE_UP_S, LASTS_S, Sighting, held, may_take, sighted


def lease(holder: str | None = "other", version: str = "1", **spec: Any) -> dict[str, Any]:
    fields = {"holderIdentity": holder, "leaseDurationSeconds": 15} | spec
    return {"metadata": {"resourceVersion": version}, "spec": fields}


@pytest.mark.parametrize(
    ("holder", "unchanged_s", "expected"),
    [("other", 0.0, False), ("other", 14.9, False), ("other", 15.1, True), ("me", 0.0, True), ("", 0.0, True)],
)
def test_a_lease_is_taken_once_we_saw_it_unchanged_for_as_long_as_it_lasts(
    holder: str, unchanged_s: float, expected: bool
):
    assert may_take(Sighting(lease=lease(holder), since_s=100.0), "me", 100.0 + unchanged_s) is expected


def test_a_lease_that_is_not_there_may_be_taken():
    assert may_take(None, "me", 0.0)


def test_each_renewal_begins_the_wait_anew_whatever_its_own_time_says():
    first = sighted(lease(version="1", renewTime="1999-01-01T00:00:00.000000Z"), None, 0.0)
    assert sighted(lease(version="1"), first, 10.0).since_s == 0.0
    assert sighted(lease(version="2"), first, 10.0).since_s == 10.0


def test_a_leader_gives_up_before_its_lease_runs_out():
    assert GIVE_UP_S + 2.5 < LASTS_S  # 2.5 s for the work to stop; then the process ends hard


def test_a_write_is_guarded_by_the_version_that_was_seen():
    taken = held("ns", "op", "me", "now", lease(version="7", leaseTransitions=2))
    assert taken["metadata"]["resourceVersion"] == "7"
    assert taken["spec"]["leaseTransitions"] == 3
    assert "resourceVersion" not in held("ns", "op", "me", "now", None)["metadata"]


def test_renewing_keeps_since_when_we_lead():
    again = held("ns", "op", "me", "later", lease("me", acquireTime="then", leaseTransitions=2))
    assert (again["spec"]["acquireTime"], again["spec"]["renewTime"], again["spec"]["leaseTransitions"]) == (
        "then",
        "later",
        2,
    )


@pytest.fixture
def two(here: Ground) -> Iterator[tuple[Ground, Ground]]:
    """Two operators of one release; neither is started."""
    second = here.twin("second")
    yield here, second
    for one in (here, second):
        one.kill()


@pytest.mark.cluster
def test_a_standby_takes_over_when_the_active_one_is_killed(two: tuple[Ground, Ground]):
    active, standby = two
    ports = {one: free_port() for one in ("active", "standby")}
    more = {"WSGI_OPERATOR_LEASE": "op-wsgi-operator", "POD_NAMESPACE": active.namespace}
    active.start(POD_NAME="one", WSGI_OPERATOR_PORT=str(ports["active"]), **more)
    standby.start(wait=False, POD_NAME="two", WSGI_OPERATOR_PORT=str(ports["standby"]), **more)
    eventually(lambda: "standing by: one_" in standby.log.read_text())
    assert get(ports["standby"], "/readyz") == "standing by\n"
    active.apply(deployment("led"))
    active.adopt("led", settings={"workers": 3})
    active.until("led", "Ready", "True")
    # The status is written before it is counted.
    told = eventually(lambda: counted(ports["active"], 'wsgi_operator_servers{ready="True"} 1.0'))
    assert "wsgi_operator_leading 1.0" in told
    assert "wsgi_operator_changes_total 1.0" in told
    assert 'wsgi_operator_api_requests_total{method="PATCH",status="200"}' in told
    assert "wsgi_operator_leading 0.0" in get(ports["standby"], "/metrics")

    active.kill()
    began = time.monotonic()
    active.adopt("led", settings={"workers": 4})
    active.until("led", "Ready", "True", within_s=90)
    took_s = time.monotonic() - began
    assert took_s <= 30, f"the standby took {took_s:.1f} s"
    held_by = active.get("leases", "op-wsgi-operator")["spec"]
    assert (held_by["holderIdentity"].split("_")[0], held_by["leaseTransitions"]) == ("two", 1)
    assert standby.log.read_text().count("leading as two_") == 1

    active.start(wait=False, POD_NAME="one", WSGI_OPERATOR_PORT=str(ports["active"]), **more)
    eventually(lambda: "standing by: two_" in active.log.read_text())
    with kept_open(ports["standby"]):
        began = time.monotonic()
        assert standby.stop() == 0  # gives the Lease up, so that nobody waits for it to run out
        assert time.monotonic() - began < 4, "kopf waited for tasks and connections that are not its own: 5 s"
    eventually(lambda: active.log.read_text().count("leading as one_") == 2, within_s=10)
    usurp = {"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 1}}
    active.kubectl("patch", "lease", "op-wsgi-operator", "--type=merge", "-p", json.dumps(usurp))
    assert active.process is not None
    assert active.process.wait(timeout=30) == 1
    active.process = None
    assert "lost the Lease to somebody-else" in active.log.read_text()


def counted(port: int, line: str) -> str:
    told = get(port, "/metrics")
    return told if line in told else ""


@contextmanager
def kept_open(port: int) -> Iterator[None]:
    """A connection that asked for /metrics and would ask again, as Prometheus does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    connection.getresponse().read()
    try:
        yield
    finally:
        connection.close()


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())
