"""When a change may begin, and what it says while it may not."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from wsgi_operator.core.brakes import Moment, unknown_zones, why_not_in_place, why_not_yet
from wsgi_operator.core.budgets import Budget, Unread
from wsgi_operator.core.roll import Roll
from wsgi_operator.core.rollout import Rollout
from wsgi_operator.core.server import Sidecar, Terms
from wsgi_operator.core.standing import Standing
from wsgi_operator.core.turns import Turns
from wsgi_operator.core.windows import Window
from wsgi_operator.testing import NOW, planned, server

CALM = Rollout(done=True, failed=False, message="all 2 pods carry the template", finished=True)
GOING = Rollout(done=False, failed=False, message="1 of 2 pods carry the new template")
SICK = Rollout(done=False, failed=False, message="1 of 2 pods are available", finished=True)
PAUSED = replace(GOING, by_hand="the Deployment is paused (spec.paused)")
CLOSED = Terms(windows=(Window(start="00:00", end="00:01", zone="Asia/Tokyo"),))
ZONES = {"Asia/Tokyo": ZoneInfo("Asia/Tokyo")}
USED_UP = Budget(name="web", room=1, allowed=0)
STRICT = Budget(name="strict", room=0, allowed=0)


def why(kind, *, terms=None, before=None, turns=None, upgrade="Automatic", **at):
    of = server(terms=terms or Terms(), sidecar=Sidecar(image="x:1", upgrade=upgrade))
    surroundings = Moment(**({"now": NOW, "zones": ZONES, "rollout": CALM} | at))
    return why_not_yet(kind, of, before, surroundings, turns or Turns(at_once=1))


def ended(seconds_ago: float):
    roll = Roll(kind="settings", began=0.0, theirs="", calm=True, ended=NOW - seconds_ago, outcome="Kept")
    return replace(planned().record, roll=roll)


@pytest.mark.parametrize(
    ("kind", "surroundings", "words"),
    [
        ("settings", {}, None),
        ("settings", {"rollout": GOING}, "waits until the roll that is under way has ended: 1 of 2 pods carry"),
        ("settings", {"rollout": SICK}, None),  # nobody rolls, and a change may be the cure
        ("upgrade", {"rollout": SICK}, "waits until the roll that is under way has ended: 1 of 2 pods are available"),
        ("settings", {"rollout": PAUSED}, "waits because the Deployment is paused"),
        ("settings", {"unnoted": True}, "waits until the roll that is under way has ended"),
        ("settings", {"terms": CLOSED}, "waits for the window that opens Tue 00:00 Asia/Tokyo (2026-09-21T15:00:00Z)"),
        ("upgrade", {"terms": CLOSED}, "the sidecar x:1 waits for the window that opens"),
        ("settings", {"terms": CLOSED, "zones": {}}, "the time zones of spec.tuning.windows are not known"),
        ("settings", {"terms": Terms(cooldown_s=60), "before": ended(59)}, "the cooldown of 60 s after the last"),
        ("settings", {"terms": Terms(cooldown_s=60), "before": ended(60)}, None),
        ("settings", {"budgets": (USED_UP,), "takes": 1}, "waits until PodDisruptionBudget web allows a disruption"),
        ("settings", {"budgets": (USED_UP,), "takes": 0}, None),  # it takes no pod away
        ("settings", {"budgets": (STRICT,), "takes": 1}, None),  # it would wait for ever
        ("settings", {"budgets": Unread(why="forbidden"), "takes": 1}, "cannot be read (forbidden)"),
        ("undo", {"budgets": Unread(why="forbidden"), "takes": 1}, None),
        ("upgrade", {"upgrade": "OnNextChange"}, "with the next change"),
        ("upgrade", {"upgrade": "Manual"}, "waits for spec.sidecar.image"),
    ],
)  # fmt: skip
def test_a_change_waits_with_its_reason(kind, surroundings, words):
    told = why(kind, **surroundings)
    assert told is None if words is None else words in str(told)


@pytest.mark.parametrize("kind", ["adoption", "staged", "identity"])
def test_what_belongs_to_the_adoption_waits_for_no_window_and_no_cooldown(kind):
    terms = replace(CLOSED, cooldown_s=600)
    assert why(kind, terms=terms, before=ended(1)) is None


def standing(phase: str, seconds_ago: float = 0.0) -> Standing:
    at = NOW - seconds_ago
    return Standing(order="g1-x", generation=1, settings={}, before={}, phase=phase, reason="", at=at)


@pytest.mark.parametrize(
    ("terms", "last", "words"),
    [
        (Terms(), None, None),
        (CLOSED, None, "what this spec asks for waits for the window that opens Tue 00:00 Asia/Tokyo"),
        (CLOSED, standing("Applied"), "waits for the window"),
        (CLOSED, standing("Stopped"), None),  # what went wrong is corrected at once
        (Terms(cooldown_s=60), standing("Applied", 59), "the cooldown of 60 s after the last"),
        (Terms(cooldown_s=60), standing("Applied", 60), None),
    ],
)
def test_a_change_in_running_pods_waits_as_a_roll_does(terms, last, words):
    told = why_not_in_place(server(terms=terms), planned().record, last, ZONES, NOW)
    assert told is None if words is None else words in str(told)


def test_after_a_change_in_running_pods_a_roll_waits_for_the_cooldown_and_after_a_roll_they_do():
    terms = Terms(cooldown_s=60)
    assert "the cooldown of 60 s" in str(why("settings", terms=terms, standing=standing("Applied", 59)))
    assert "the cooldown of 60 s" in str(why_not_in_place(server(terms=terms), ended(59), None, ZONES, NOW))


def test_an_adoption_begins_while_its_owner_rolls_and_counts_among_those_that_roll():
    turns = Turns(at_once=1)
    assert why("adoption", rollout=GOING, turns=turns) is None
    assert "as many workloads as may roll at once (1)" in str(turns.take(server(uid="other"), NOW))


@pytest.mark.parametrize("kind", ["undo", "repair"])
def test_what_puts_things_right_waits_for_nothing(kind):
    full = Turns(at_once=1)
    full.take(server(uid="other"), NOW)
    everything = {"terms": CLOSED, "rollout": GOING, "budgets": (USED_UP,), "takes": 1, "turns": full}
    assert why(kind, **everything) is None
    assert why("settings", **everything, mending=True) is None  # a spec that takes the place of one that failed


def test_the_last_question_is_whose_turn_it_is():
    full = Turns(at_once=1)
    full.take(server(uid="other"), NOW)
    assert "window" in str(why("settings", terms=CLOSED, turns=full))
    assert "as many workloads as may roll at once (1)" in str(why("settings", turns=full))


def test_a_reason_to_wait_holds_nothing_that_ticks():
    terms = Terms(cooldown_s=600)
    assert len({why("settings", terms=terms, before=ended(0), now=NOW + s) for s in range(0, 600, 60)}) == 1


def test_a_time_zone_that_nobody_knows_is_a_persons_to_mend():
    found = unknown_zones(server(terms=CLOSED), {})
    assert found is not None
    assert found.reason == "TimeZoneUnknown"
    assert "'Asia/Tokyo'" in found.message
    assert "such as Europe/Berlin" in found.message
    assert unknown_zones(server(terms=CLOSED), ZONES) is None
