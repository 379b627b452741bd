"""Looks at many workloads, spread over the interval."""

import pytest

from wsgi_operator.core.pace import SOONEST, wait_s


@pytest.mark.parametrize("now", [0.0, 3.3, 1_000_000.7])
def test_the_first_wait_brings_everyone_to_a_place_of_its_own(now):
    waits = [wait_s(f"uid-{n}", now, 10.0) for n in range(1000)]
    assert all(10 * SOONEST <= wait <= 10 * (1 + SOONEST) for wait in waits)
    per_second = [sum(int((now + wait) % 10) == second for wait in waits) for second in range(10)]
    assert all(60 < count < 140 for count in per_second)


@pytest.mark.parametrize("lasted", [0.0, 0.1, 3.0, 7.0])
def test_from_then_on_one_look_comes_an_interval_after_the_other_however_long_it_takes(lasted):
    now = 100.0 + wait_s("uid", 100.0, 10.0)
    assert wait_s("uid", now + lasted, 10.0) == pytest.approx(10.0 - lasted)


def test_a_look_that_takes_up_the_interval_leaves_a_place_out():
    now = 100.0 + wait_s("uid", 100.0, 10.0)
    assert wait_s("uid", now + 9.0, 10.0) == pytest.approx(11.0)
