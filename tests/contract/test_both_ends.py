"""What a real sidecar's port serves, a real operator's reader hears."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from wsgi_contract.report_token import token_of, verifier_of
from wsgi_operator.core.evidence import Answer, Heard, Silence
from wsgi_operator.reports import Reports
from wsgi_operator.testing import pod, report
from wsgi_sidecar.core.account import Ledger
from wsgi_sidecar.gate import Gate
from wsgi_sidecar.metrics import Published
from wsgi_sidecar.web import Pages, WebThread, listen

TOKEN = token_of(b"k" * 32, "uid-shop")


def heard(gate: Gate | None = None, token: str | None = None) -> Answer:
    """What the operator makes of a sidecar's answer."""
    taken = Published(tell=lambda ledger: report(), ledger=Ledger())
    pages = Pages(latest=lambda: taken, stuck_s=lambda: None, registry=CollectorRegistry(), gate=gate or Gate())
    with listen("127.0.0.1", 0) as listener:
        served = WebThread(pages, listener)
        served.start()
        try:
            asked = Reports(timeout_s=10).read([pod(ip="127.0.0.1", token=token)], listener.getsockname()[1])
            return asyncio.run(asked)[0]
        finally:
            served.stop()


def test_a_report_arrives_whole() -> None:
    answer = heard()
    assert isinstance(answer, Heard)
    assert answer.report == report()


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_guarded_report_arrives_with_the_token_alone(tmp_path: Path, token: str | None) -> None:
    verifiers = tmp_path / "verifiers"
    verifiers.write_text(verifier_of(TOKEN))
    answer = heard(Gate(verifiers), token)
    assert isinstance(answer, Heard if token else Silence)
    assert token or "status 401" in str(getattr(answer, "reason", ""))
