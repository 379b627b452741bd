"""Slots are stable numbers: whoever lives keeps his, whoever comes takes the smallest free one."""

import pytest

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.slots import assign
from wsgi_sidecar.testing import pid

A, B, C, D = (pid(number, 10 * number) for number in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("before", "alive", "expected"),
    [
        pytest.param({}, (), {}, id="nobody"),
        pytest.param({}, (C, A, B), {A: 1, B: 2, C: 3}, id="the oldest comes first, whatever the order"),
        pytest.param({A: 1, B: 2, C: 3}, (A, C), {A: 1, C: 3}, id="a death moves nobody"),
        pytest.param({A: 1, B: 2, C: 3}, (A, C, D), {A: 1, D: 2, C: 3}, id="the successor takes the dead one's slot"),
        pytest.param({A: 1, C: 3}, (A, B, C, D), {A: 1, B: 2, C: 3, D: 4}, id="gaps are filled before the end"),
        pytest.param({D: 7}, (D, A), {D: 7, A: 1}, id="a high slot is kept"),
    ],
)
def test_slots(before: dict[ProcessId, int], alive: tuple[ProcessId, ...], expected: dict[ProcessId, int]) -> None:
    assert assign(before, alive) == expected


def test_a_reused_pid_is_a_new_worker() -> None:
    reused = pid(A.pid, A.started + 1)
    assert assign({A: 1, B: 2}, (B, reused, A)) == {A: 1, B: 2, reused: 3}


def test_a_thousand_respawns_use_no_new_slots() -> None:
    slots: dict[ProcessId, int] = {}
    for step in range(1000):
        slots = assign(slots, (pid(step, step), pid(step + 1, step + 1), pid(step + 2, step + 2)))
    assert set(slots.values()) == {1, 2, 3}
