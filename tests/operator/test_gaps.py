"""Watches that break, fall silent, are too old or refused: what happened meanwhile is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from ssl import Purpose, create_default_context
from typing import Any

import pytest

from tests.cluster.kube import ROOT, eventually, run
from tests.operator.fault_proxy import EXPIRED, Fault, FaultProxy, fault_proxy
from tests.operator.faulty import adopted, alive, asks, resized, start
from tests.operator.ground import ACCOUNT, Ground

pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture(autouse=True)
def healed(proxy: FaultProxy) -> Iterator[None]:
    yield
    proxy.heal()


@pytest.mark.parametrize(
    ("what", "gone"), [("deployments", {"status": 410}), ("deployments", {"event": EXPIRED}), ("", {"event": EXPIRED})]
)
def test_what_happened_in_a_gap_of_the_watch_is_seen(here: Ground, proxy: FaultProxy, what: str, gone: dict[str, Any]):
    name = f"gap-{what}-{len(proxy.asked)}"
    before = adopted(here, name)
    fault = proxy.add(Fault(meant=asks("GET", what, watch=True), times=4, **gone))
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
    start(here, proxy)
