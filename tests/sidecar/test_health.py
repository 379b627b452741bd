"""What the server's probes are told, from plain families: busy is not wedged."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contract.reports import REPORT
from wsgi_contract.policy import Policy
from wsgi_contract.report import Incident, IncidentKind, ProcessId
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.health import Vigil, examine
from wsgi_sidecar.testing import family, listener, worker

POLICY = Policy(probe_grace_s=30)
FULL = (listener(queue=65, backlog=64),)
Seen = tuple[Family | None, tuple[Incident, ...]]


def incident(kind: IncidentKind, pid: int) -> Incident:
    return replace(REPORT.incidents[0], kind=kind, process=ProcessId(pid=pid, started=4900 + pid), ended_at=None)


def seen(*workers: Worker, incidents: tuple[Incident, ...] = (), **fields: Any) -> Seen:
    return replace(family(**fields), workers=workers), incidents


def told(look: Seen, *, for_s: float = 60.0, policy: Policy = POLICY) -> tuple[bool, bool, bool]:
    """Live, ready, started, when the server has looked like this for so long."""
    vigil, _ = examine(Vigil(seen=True), *look, policy, 1000.0)
    _, health = examine(vigil, *look, policy, 1000.0 + for_s)
    return health.live.ok, health.ready.ok, health.started.ok


GONE: Seen = (None, ())
FROZEN_1 = incident("frozen-worker", 101)


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        pytest.param(seen(worker(1), worker(2)), (True, True, True), id="healthy"),
        pytest.param(seen(worker(1), listeners=FULL), (True, True, True), id="busy with a full queue"),
        pytest.param(seen(worker(1, state="booting")), (True, False, False), id="an import that takes long"),
        pytest.param(seen(worker(1, state="draining")), (True, False, False), id="on its way out"),
        pytest.param(seen(worker(1), worker(2), incidents=(FROZEN_1,)), (True, True, True), id="one of two frozen"),
        pytest.param(seen(worker(1), incidents=(FROZEN_1,)), (False, False, True), id="all frozen"),
        pytest.param(seen(worker(1, state="overdue")), (False, False, True), id="all overdue"),
        pytest.param(seen(), (False, False, False), id="no worker"),
        pytest.param(
            seen(worker(1), incidents=(incident("stuck-arbiter", 100),)), (False, True, True), id="stuck arbiter"
        ),
        pytest.param(
            seen(worker(1), incidents=(FROZEN_1,), doubt="it may be another's"), (True, False, True), id="in doubt"
        ),
        pytest.param(GONE, (False, False, False), id="gone"),
    ],
)
def test_each_probe_is_told_what_is_so(look: Seen, expected: tuple[bool, bool, bool]) -> None:
    assert told(look) == expected


def test_live_waits_until_the_gentler_cure_had_its_time() -> None:
    assert told(seen(), for_s=29)[0]
    assert not told(seen(), for_s=30)[0]


def test_what_came_and_went_begins_anew() -> None:
    vigil, _ = examine(Vigil(), *seen(), POLICY, 1000.0)
    vigil, _ = examine(vigil, *seen(worker(1)), POLICY, 1029.0)
    _, health = examine(vigil, *seen(), POLICY, 1031.0)
    assert health.live.ok


def test_a_server_that_nobody_has_seen_yet_is_not_called_dead() -> None:
    vigil, _ = examine(Vigil(), *GONE, POLICY, 1000.0)
    _, health = examine(vigil, *GONE, POLICY, 9000.0)
    assert (health.live.ok, health.started.ok) == (True, False)


def test_a_queue_takes_a_pod_out_only_where_the_owner_said_so_and_after_a_while() -> None:
    wanting = Policy(probe_queue_share=0.9)
    busy = seen(worker(1), listeners=FULL)
    assert told(busy, for_s=4, policy=wanting) == (True, True, True)
    assert told(busy, for_s=5, policy=wanting) == (True, False, True)
