"""How many workloads roll at once."""

from dataclasses import replace

import pytest

from wsgi_operator.core.roll import Roll, Undone, Wish
from wsgi_operator.core.turns import UNLOOKED_S, Turns
from wsgi_operator.testing import planned, server

KEYS = [("default", "Deployment", name) for name in "abc"]
A, B, C = (server(uid=name, name=name, workload=name) for name in "abc")


def record_of(uid: str, kind: str = "settings", ended: float | None = None, undone: Undone | None = None):
    roll = Roll(kind=kind, began=0.0, theirs="", calm=True, ended=ended)
    return replace(planned().record, server=uid, roll=roll, undone=undone)


def test_as_many_roll_at_once_as_may_and_the_next_says_why_not():
    turns = Turns(at_once=2)
    assert turns.take(A, 0.0) is None
    assert turns.take(B, 0.0) is None
    assert turns.take(C, 0.0) == "waits its turn: as many workloads as may roll at once (2) roll already"
    assert turns.take(A, 0.0) is None  # whoever has it keeps it


def test_who_gives_its_turn_calls_the_one_that_waits_longest():
    turns = Turns(at_once=1)
    turns.take(A, 0.0)
    turns.take(B, 0.0)
    turns.take(C, 0.0)
    turns.take(B, 0.0)
    assert turns.give("nobody") is None
    assert turns.give("a") == KEYS[1]
    assert turns.take(B, 0.0) is None
    assert turns.give("b") == KEYS[2]


def test_after_a_restart_the_records_tell_who_rolls():
    turns = Turns(at_once=1)
    turns.told(record_of("a"), "default/a")
    turns.told(record_of("c", ended=5.0), "default/c")
    assert turns.take(B, 0.0) is not None
    turns.give("a")  # its follower has looked: the roll has ended
    assert turns.take(B, 0.0) is None
    turns.told(record_of("a"), "default/a")  # a watch that is late
    assert turns.give("b") is None
    assert turns.take(C, 0.0) is None


def test_a_record_that_nobody_follows_keeps_nobody_waiting_for_ever():
    turns = Turns(at_once=1)
    turns.told(record_of("left-behind"), "default/left-behind")
    assert turns.take(A, 100.0) is not None
    assert turns.take(A, 100.0 + UNLOOKED_S + 1) is None


def test_upgrades_go_one_after_the_other_and_others_beside_them():
    turns = Turns(at_once=3)
    assert turns.take(A, 0.0, upgrade=True) is None
    assert turns.take(B, 0.0, upgrade=True) == "waits its turn: WSGIServer default/a is being upgraded"
    assert turns.take(C, 0.0) is None
    turns.give("a")
    assert turns.take(B, 0.0, upgrade=True) is None


@pytest.mark.parametrize("restarted", [False, True])
def test_an_upgrade_that_was_undone_stops_the_others_until_it_is_mended(restarted: bool):
    turns, image = Turns(at_once=3), A.sidecar.image
    wish = Wish(settings={}, policy="{}", sidecar={"image": image})
    undone = Undone(generation=1, wish=wish, at=0.0, tried="", why="", kind="upgrade")
    if restarted:
        turns.told(record_of("a", "undo", undone=undone), "default/a")
    else:
        turns.stop(A, image)
    assert "WSGIServer default/a was rolled back from it" in str(turns.take(B, 0.0, upgrade=True))
    assert turns.take(C, 0.0) is None  # a change of settings has nothing to do with it
    another = replace(B, sidecar=replace(B.sidecar, image="registry.example/wsgi-sidecar:3"))
    assert turns.take(another, 0.0, upgrade=True) is None
    turns.give("b")
    turns.stop(A, None)
    assert turns.take(B, 0.0, upgrade=True) is None


def test_who_is_gone_holds_nothing():
    turns = Turns(at_once=1)
    turns.take(A, 0.0)
    turns.stop(A, A.sidecar.image)
    turns.take(B, 0.0)
    assert turns.forget("a") == KEYS[1]
    assert turns.take(B, 0.0, upgrade=True) is None
