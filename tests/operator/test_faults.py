"""An API server that is slow, refuses, forgets, loses answers and goes away: each change is made, and made once."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from ssl import Purpose, create_default_context
from typing import Any

import pytest

from tests.cluster.kube import ROOT, eventually, run
from tests.operator.fault_proxy import EXPIRED, Fault, FaultProxy, fault_proxy
from tests.operator.ground import ACCOUNT, Ground, deployment, free_port

pytestmark = pytest.mark.cluster

PORT = free_port()


@pytest.fixture(scope="module")
def proxy(here: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxy]:
    folder = tmp_path_factory.mktemp("proxy")
    with fault_proxy(here.kubeconfig(), folder) as proxy:
        here.start(KUBECONFIG=str(proxy.kubeconfig), WSGI_OPERATOR_PORT=str(PORT))
        yield proxy
        proxy.heal()
        assert here.stop() == 0


@pytest.fixture(autouse=True)
def healed(proxy: FaultProxy) -> Iterator[None]:
    yield
    proxy.heal()


def asks(method: str, *parts: str, watch: bool = False) -> Callable[[str, str], bool]:
    """Which requests a fault is meant for."""
    return lambda said, path: said == method and all(part in path for part in parts) and watch == ("watch=true" in path)


def adopted(here: Ground, name: str) -> int:
    """A Deployment that is adopted with two workers; its revision."""
    here.apply(deployment(name))
    here.adopt(name, settings={"workers": 2})
    here.until(name, "Ready", "True")
    return here.revision(name)


def resized(here: Ground, name: str, before: int, *, within_s: float = 60) -> None:
    """Wait until three workers are set, and see that they were set by one change that is told once."""
    here.until(name, "Ready", "True", within_s=within_s)
    web = here.deployment(name)["spec"]["template"]["spec"]["containers"][0]
    assert [entry["value"] for entry in web["env"] if entry["name"] == "GUNICORN_CMD_ARGS"] == ["--workers=3"]
    assert here.revision(name) == before + 1
    assert here.replica_sets(name) == 3

    def told() -> list[str]:
        return [message for reason, message in here.events("WSGIServer", name) if reason == "SettingsChanged"]

    eventually(lambda: told() == [f"Deployment {name} rolls: workers 2 -> 3"], within_s=30)


def alive(here: Ground) -> bool:
    """Whether the kubelet would leave the operator alone."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/livez", timeout=10) as answer:
        return bool(answer.status == 200) and here.alive()


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


def test_an_api_server_that_asks_to_wait_is_not_asked_before(here: Ground, proxy: FaultProxy):
    before = adopted(here, "throttled")
    meant = asks("PATCH", "/deployments/throttled")
    fault = proxy.add(Fault(meant=meant, status=429, headers={"Retry-After": "4"}, times=1))
    here.adopt("throttled", settings={"workers": 3})
    eventually(lambda: fault.hits, within_s=20, every_s=0.02)
    refused_at, asked = time.monotonic(), proxy.requests("PATCH", "/deployments/throttled")
    eventually(lambda: proxy.requests("PATCH", "/deployments/throttled") > asked, within_s=20, every_s=0.02)
    assert time.monotonic() - refused_at > 3.5
    resized(here, "throttled", before)


@pytest.mark.parametrize("what", ["deployments", "wsgiservers", "events"])
def test_an_answer_that_is_lost_on_its_way_is_no_second_change(here: Ground, proxy: FaultProxy, what: str):
    name = f"lost-{what}"
    before = adopted(here, name)
    method, part = ("POST", "/events") if what == "events" else ("PATCH", f"/{what}/{name}")
    fault = proxy.add(Fault(meant=asks(method, part), lost=True, times=2))
    here.adopt(name, settings={"workers": 3})
    resized(here, name, before)
    eventually(lambda: fault.hits, within_s=30)


@pytest.mark.parametrize(
    ("what", "gone"), [("deployments", {"status": 410}), ("deployments", {"event": EXPIRED}), ("", {"event": EXPIRED})]
)
def test_what_happened_in_a_gap_of_the_watch_is_seen(here: Ground, proxy: FaultProxy, what: str, gone: dict[str, Any]):
    name = f"gap-{what}-{len(proxy.asked)}"
    before = adopted(here, name)
    fault = proxy.add(Fault(meant=asks("GET", what, watch=True), times=6, **gone))
    proxy.drop()
    here.adopt(name, settings={"workers": 3})
    resized(here, name, before)
    assert fault.hits


def test_a_watch_that_falls_silent_is_not_believed_for_long(here: Ground, proxy: FaultProxy):
    before = adopted(here, "silent")
    proxy.add(Fault(meant=asks("GET", "/wsgiservers", watch=True), silent=True, times=1))
    proxy.drop()
    eventually(lambda: proxy.faults[0].hits, within_s=30)
    here.adopt("silent", settings={"workers": 3})
    resized(here, "silent", before, within_s=120)


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
    here.start(KUBECONFIG=str(proxy.kubeconfig), WSGI_OPERATOR_PORT=str(PORT))


def test_a_watch_that_is_refused_is_asked_for_until_it_is_granted(here: Ground, proxy: FaultProxy):
    before = adopted(here, "refused-for-long")
    fault = proxy.add(Fault(meant=asks("GET", "/wsgiservers", watch=True), status=403))
    proxy.drop()
    eventually(lambda: fault.hits >= 4, within_s=60)
    here.adopt("refused-for-long", settings={"workers": 3})
    proxy.heal()
    resized(here, "refused-for-long", before)
    assert alive(here)


def test_a_token_that_expires_is_replaced_by_the_one_that_the_kubelet_wrote_meanwhile(
    here: Ground, proxy: FaultProxy, tmp_path: Path
):
    account = tmp_path / "account"
    account.mkdir()
    certificate, key = account / "ca.crt", tmp_path / "key.pem"
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate,
    )  # fmt: skip
    tls = create_default_context(Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    first, second = (here.kubectl("create", "token", ACCOUNT, "--duration=1h").strip() for _ in range(2))
    (account / "token").write_text(first)
    before = adopted(here, "expired")
    assert here.stop() == 0
    with fault_proxy(here.kubeconfig(), tmp_path, tls) as secure:
        pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(secure.port)}
        here.start(module="tests.operator.in_pod", SERVICE_ACCOUNT=str(account), PYTHONPATH=str(ROOT), **pod)
        eventually(lambda: secure.requests("GET", "/wsgiservers?"), within_s=30)
        (account / "token").write_text(second)
        secure.refused_tokens.add(first)
        secure.drop()
        here.adopt("expired", settings={"workers": 3})
        resized(here, "expired", before, within_s=120)
        assert here.stop() == 0
    here.start(KUBECONFIG=str(proxy.kubeconfig), WSGI_OPERATOR_PORT=str(PORT))
