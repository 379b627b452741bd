"""What the server's probes are told, from plain Reports: busy is not wedged."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.reports import REPORT
from wsgi_contract.policy import Policy
from wsgi_contract.report import AcceptQueue, Incident, IncidentKind, ProcessId, Report, WorkerInfo, WorkerState
from wsgi_sidecar.core.health import Vigil, examine

POLICY = Policy(probe_grace_s=30)
FULL = AcceptQueue(length=65, limit=64, listeners=("0.0.0.0:8000",))


def worker(slot: int, state: WorkerState = "alive") -> WorkerInfo:
    assert REPORT.workers is not None
    return replace(REPORT.workers[0], slot=slot, state=state, process=ProcessId(pid=100 + slot, started=1))


def incident(kind: IncidentKind, pid: int, **fields: Any) -> Incident:
    return replace(
        REPORT.incidents[0], **{"kind": kind, "process": ProcessId(pid=pid, started=1), "ended_at": None, **fields}
    )


def report(*workers: WorkerInfo, **fields: Any) -> Report:
    return replace(REPORT, workers=workers, incidents=fields.pop("incidents", ()), **fields)


def told(seen: Report, *, for_s: float = 60.0, policy: Policy = POLICY) -> tuple[bool, bool, bool]:
    """Live, ready, started, when the server has looked like this for so long."""
    vigil, _ = examine(Vigil(seen=True), seen, policy, 1000.0)
    _, health = examine(vigil, seen, policy, 1000.0 + for_s)
    return health.live.ok, health.ready.ok, health.started.ok


FROZEN_1 = incident("frozen-worker", 101)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(report(worker(1), worker(2)), (True, True, True), id="healthy"),
        pytest.param(report(worker(1), accept_queue=FULL), (True, True, True), id="busy with a full queue"),
        pytest.param(report(worker(1, "booting")), (True, False, False), id="an import that takes long"),
        pytest.param(report(worker(1, "draining")), (True, False, False), id="on its way out"),
        pytest.param(report(worker(1), worker(2), incidents=(FROZEN_1,)), (True, True, True), id="one of two frozen"),
        pytest.param(report(worker(1), incidents=(FROZEN_1,)), (False, False, True), id="all frozen"),
        pytest.param(
            report(worker(1), incidents=(replace(FROZEN_1, ended_at=5.0),)), (True, True, True), id="healed since"
        ),
        pytest.param(report(worker(1, "overdue")), (False, False, True), id="all overdue"),
        pytest.param(report(), (False, False, False), id="no worker"),
        pytest.param(
            report(worker(1), incidents=(incident("stuck-arbiter", 100),)), (False, True, True), id="stuck arbiter"
        ),
        pytest.param(replace(report(), workers=None), (True, False, False), id="workers that cannot be seen"),
        pytest.param(replace(report(), server=None, workers=None), (False, False, False), id="gone"),
    ],
)
def test_each_probe_is_told_what_is_so(seen: Report, expected: tuple[bool, bool, bool]) -> None:
    assert told(seen) == expected


def test_live_waits_until_the_gentler_cure_had_its_time() -> None:
    assert told(report(), for_s=29)[0]
    assert not told(report(), for_s=30)[0]


def test_what_came_and_went_begins_anew() -> None:
    vigil, _ = examine(Vigil(), report(), POLICY, 1000.0)
    vigil, _ = examine(vigil, report(worker(1)), POLICY, 1029.0)
    _, health = examine(vigil, report(), POLICY, 1031.0)
    assert health.live.ok


def test_a_server_that_nobody_has_seen_yet_is_not_called_dead() -> None:
    vigil, _ = examine(Vigil(), replace(report(), server=None), POLICY, 1000.0)
    _, health = examine(vigil, replace(report(), server=None), POLICY, 9000.0)
    assert (health.live.ok, health.started.ok) == (True, False)


def test_a_queue_takes_a_pod_out_only_where_the_owner_said_so_and_after_a_while() -> None:
    wanting = Policy(probe_queue_share=0.9)
    busy = report(worker(1), accept_queue=FULL)
    assert told(busy, for_s=4, policy=wanting) == (True, True, True)
    assert told(busy, for_s=5, policy=wanting) == (True, False, True)
