"""A worker that has not beaten yet: slow is not stuck, asleep for long is told, too long is ended."""

from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.policy import Policy
from wsgi_sidecar.core.rules.boot_hang import RULE
from wsgi_sidecar.core.rules.rule import Fault, Sight, Terms, about
from wsgi_sidecar.core.snapshot import HeartbeatFile
from wsgi_sidecar.core.waits import Wait, Waits
from wsgi_sidecar.testing import AT, MONOTONIC, closeup, family, heartbeat, thread, worker

TERMS = Terms(release="27.0.1", worker_class="sync", connection_limit=None, timeout_s=30.0)
WAIT = Wait(thread=101, kind="network", doing="connects to 10.0.0.5:5432 (PostgreSQL), which has not answered yet")


def boot(
    until: float,
    *,
    cores: float = 0.0,
    waits: float = 0.0,
    state: str = "booting",
    jump_s: float = 0.0,
    **policy: Any,
) -> tuple[Fault, ...]:
    """A worker seen booting every five seconds."""
    memory = RULE.blank
    faults: tuple[Fault, ...] = ()
    for second in range(0, int(until) + 1, 5):
        someone = worker(1, state=state, heartbeat_age_s=second + jump_s)
        who, now = someone.process.id, MONOTONIC + second
        here = Sight(
            family=family(someone, at=AT + second + jump_s, monotonic=now),
            before=None,
            terms=TERMS,
            policy=Policy(**policy),
            closeups={},
        )
        wanted, wished = RULE.suspects(here, memory), RULE.wishes(here, memory).waits
        main = thread(101, cpu_s=cores * second, waited_s=waits * second)
        look = closeup(main, process=who, monotonic=now)
        seen = Sight(
            family=here.family,
            before=None,
            terms=TERMS,
            policy=here.policy,
            closeups={who: look} if who in wanted else {},
            waits={who: Waits(threads=(WAIT,))} if who in wished else {},
        )
        verdict = RULE.judge(seen, memory)
        memory, faults = verdict.memory, verdict.faults
    return faults


def test_an_idle_boot_is_told_with_what_it_waits_on_and_left_alone() -> None:
    assert boot(55) == ()
    (fault,) = boot(60)
    assert "connects to 10.0.0.5:5432 (PostgreSQL)" in fault.summary
    assert "ended after 300 s" in (fault.spare or "")


@pytest.mark.parametrize("cores", [0.1, 0.9])
def test_a_boot_that_computes_is_healthy_up_to_the_limit(cores: float) -> None:
    assert boot(295, cores=cores) == ()
    (fault,) = boot(300, cores=cores)
    assert (fault.target, fault.spare) == ("worker", None)


def test_a_boot_that_computes_but_gets_hardly_any_cpu_is_not_idle() -> None:
    assert boot(295, cores=0.02, waits=0.9) == ()
    (fault,) = boot(300, cores=0.02, waits=0.9)
    assert "it used 0.02 cores of 0.92 that it wanted" in fault.summary


def test_a_boot_that_wakes_now_and_then_on_a_busy_machine_is_idle() -> None:
    (fault,) = boot(60, cores=0.005, waits=0.02)
    assert "it used 0.01 cores;" in fault.summary


def test_an_idle_boot_is_ended_at_the_limit_unless_that_is_switched_off() -> None:
    assert [fault.spare for fault in boot(300)] == [None]
    (fault,) = boot(600, boot_limit_s=0.0)
    assert "boot_limit_s is 0" in (fault.spare or "")


def test_a_step_of_the_wall_clock_makes_no_boot_old() -> None:
    assert boot(20, jump_s=3600.0) == ()


def test_a_worker_that_beats_has_booted() -> None:
    assert boot(600, state="alive") == ()


@pytest.mark.parametrize("age_s", [0.0, 20.0])
def test_one_that_beats_by_now_is_spared_though_it_has_accepted_nothing(age_s: float) -> None:
    (fault,) = boot(300)
    beats, booting = heartbeat(1, age_s=age_s), replace(heartbeat(1), mtime=AT, ctime=AT)
    sibling = heartbeat(2)

    def doubt(*files: HeartbeatFile) -> str | None:
        later = about(fault, closeup(heartbeats=files))
        return RULE.doubt(about(fault, closeup()), later, TERMS, Policy())

    assert doubt(beats) == "it beats"
    assert doubt(booting) is None
    assert doubt(booting, sibling) is None, "from gunicorn 25 on a child may hold its siblings' files"


def test_one_that_accepts_connections_in_between_is_spared() -> None:
    assert RULE.doubt(closeup(), closeup(), TERMS, Policy()) is None
    assert RULE.doubt(closeup(), closeup(connections=frozenset({7})), TERMS, Policy()) is not None
