"""Storms of worker timeouts: when it is one, what it is about, and what to do."""

import pytest

from wsgi_sidecar.core.timeouts import TimedOut, advise, evidence, find_storm, recent, tell, window_s
from wsgi_sidecar.core.waits import Wait

POSTGRES = Wait(
    thread=9, kind="network", doing="reads from 10.0.0.5:5432 (PostgreSQL)", peer="10.0.0.5:5432", service="PostgreSQL"
)
CPU = Wait(thread=9, kind="cpu", doing="runs on a CPU, or is ready for one")


def client(port):
    return Wait(thread=9, kind="client", doing=f"reads the request of client 10.1.1.1:{port}", peer=f"10.1.1.1:{port}")


def timed_out(*seconds, wait=None, silent_s=30.5, slots=4):
    return [TimedOut(at=at, slot=number % slots, silent_s=silent_s, wait=wait) for number, at in enumerate(seconds)]


def storm(timeouts, now=100.0, timeout_s=30.0):
    return find_storm(timeouts, now=now, timeout_s=timeout_s)


@pytest.mark.parametrize(("timeout_s", "expected"), [(0, 60), (3, 60), (15, 60), (30, 120), (120, 480)])
def test_the_window_grows_with_the_timeout(timeout_s, expected):
    assert window_s(timeout_s) == expected


@pytest.mark.parametrize(
    ("seconds", "is_storm"),
    [
        ((), False),
        ((99,), False),
        ((98, 99), False),
        ((97, 98, 99), True),
        ((-100, -50, 99), False),  # too old to belong together
        ((-20, 40, 100), True),  # one worker, whose every request hangs
        ((98, 99, 101), False),  # not yet
    ],
)
def test_three_timeouts_that_belong_together_are_a_storm(seconds, is_storm):
    assert (storm(timed_out(*seconds)) is not None) is is_storm


def test_where_the_timeout_is_switched_off_there_is_no_storm():
    assert storm(timed_out(97, 98, 99), timeout_s=0) is None


def test_what_is_too_old_is_forgotten():
    assert [each.at for each in recent(timed_out(99, -300, 50), now=100, timeout_s=30)] == [50, 99]


def test_a_storm_is_told_in_one_sentence_with_its_numbers():
    timeouts = [*timed_out(40, 70, 99, wait=POSTGRES), *timed_out(98.5, wait=CPU, silent_s=31.4)]
    assert tell(storm(timeouts)) == (
        "4 worker timeouts within 59 s in 3 slots: the workers were last seen silent for 30.5 to 31.4 s (timeout is 30 "
        "s); what their main threads did: 3 reads from 10.0.0.5:5432 (PostgreSQL), 1 runs on a CPU, or is ready for one"
    )


def test_the_evidence_holds_the_numbers_of_the_sentence():
    found = {each.name: each.value for each in evidence(storm(timed_out(97, 98, 99, wait=POSTGRES, slots=2)))}
    assert found == {
        "timeouts": 3, "over": 2.0, "slots": 2, "shortest silence": 30.5, "longest silence": 30.5, "timeout": 30.0,
        "main thread reads from 10.0.0.5:5432 (PostgreSQL)": 3,
    }  # fmt: skip


def test_the_advice_names_the_service_that_everybody_waits_for():
    advice = advise(storm(timed_out(97, 98, 99, wait=POSTGRES)))
    assert "PostgreSQL at 10.0.0.5:5432" in advice
    assert "below 30 s" in advice


def test_clients_are_one_cause_whatever_their_ports():
    timeouts = [*timed_out(90, 91, wait=POSTGRES)] + [timed_out(95 + at, wait=client(5000 + at))[0] for at in range(3)]
    assert storm(timeouts).kind == "client"
    assert "buffering proxy" in advise(storm(timeouts))


def test_a_flood_of_different_waits_is_kept_short():
    timeouts = [timed_out(90 + at / 10, wait=client(5000 + at))[0] for at in range(50)]
    assert "46 something else" in tell(storm(timeouts))
    assert len(evidence(storm(timeouts))) == 11


def test_where_nobody_could_look_a_stack_is_the_advice():
    found = storm(timed_out(97, 98, 99))
    assert found.kind is None
    assert "3 unknown" in tell(found)
    assert "py-spy" in advise(found)


@pytest.mark.parametrize(
    "kind", ["cpu", "lock", "child", "pipe", "disk", "sleep", "listener", "events", "stopped", "unknown"]
)
def test_every_kind_of_wait_has_its_advice(kind):
    advice = advise(storm(timed_out(97, 98, 99, wait=Wait(thread=1, kind=kind, doing="does"))))
    assert len(advice) > 20
