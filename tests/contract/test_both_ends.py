"""What a real sidecar's port serves, a real operator's reader hears."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.contract.reports import REPORT
from wsgi_contract.in_place import BOUNDS
from wsgi_contract.report import INCIDENT_KINDS, RESTART_REASONS, Incident, WorkerInfo, dump_report
from wsgi_contract.report_token import token_of, verifier_of
from wsgi_contract.settings import SETTING_NAMES
from wsgi_operator.answers import parse_answer
from wsgi_operator.core import excess
from wsgi_operator.core.evidence import Answer, Heard, Silence
from wsgi_operator.reports import Reports
from wsgi_operator.testing import pod, report
from wsgi_sidecar.core.account import KEPT_ENDED, KEPT_KILLS, Ledger
from wsgi_sidecar.core.lint import RULES
from wsgi_sidecar.core.rules.oom_kill import MOST_TOLD
from wsgi_sidecar.core.rules.stuck_request import MOST_DOINGS
from wsgi_sidecar.core.statsd_lines import LOG_LEVELS
from wsgi_sidecar.core.traffic import BOUNDS_S, MAX_WORKERS
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


WORKERS = BOUNDS["workers"][1]


def test_the_operator_bears_a_few_times_what_a_sidecar_says() -> None:
    assert 5 * KEPT_KILLS <= excess.KILLS
    assert max(2 * MAX_WORKERS, 4 * WORKERS) <= excess.WORKERS
    assert KEPT_ENDED + MOST_TOLD + 2 * WORKERS <= excess.INCIDENTS
    assert 2 * (6 + MOST_DOINGS) <= excess.EVIDENCE
    assert 2 * (len(BOUNDS_S) + 1) <= excess.BUCKETS
    assert 3 * max(map(len, (SETTING_NAMES, RESTART_REASONS, INCIDENT_KINDS, LOG_LEVELS, RULES))) <= excess.FEW


def test_the_report_of_the_worst_night_of_the_largest_server_is_heard() -> None:
    assert REPORT.workers is not None
    told: list[Incident] = [replace(REPORT.incidents[0], id=f"worker-timeout-{n}") for n in range(2 * WORKERS)]
    workers: list[WorkerInfo] = [replace(REPORT.workers[0], slot=n, pss_bytes=2**28 + n) for n in range(2 * WORKERS)]
    kills = [replace(REPORT.kills[0], id=str(n), stack="x" * 16_384 if n > 16 else None) for n in range(KEPT_KILLS)]
    night = replace(REPORT, pod=None, workers=tuple(workers), incidents=tuple(told), kills=tuple(kills))
    answer = parse_answer(pod(), dump_report(night).encode())
    assert answer == Heard(pod=pod(), report=night)
