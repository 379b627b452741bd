"""What became of each change, in status and Events."""

from dataclasses import replace

from wsgi_contract.settings import Wanted
from wsgi_operator.core.conditions import verdicts
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.hazards import Hazard
from wsgi_operator.core.history import history
from wsgi_operator.core.record import Change
from wsgi_operator.core.roll import Roll, Undone, Wish
from wsgi_operator.core.roll_notices import roll_notices
from wsgi_operator.core.rollout import Rollout
from wsgi_operator.core.server import Obstacle
from wsgi_operator.testing import IMAGE, NOW, heard, server

TRIED = Change(name="workers", before="3", after="500")
BACK = Change(name="workers", before="500", after="3")
ROLL = Roll(kind="settings", began=NOW, theirs="", calm=True)
WISH = Wish(settings={}, policy="{}", sidecar={})
UNDONE = Undone(generation=2, wish=WISH, at=NOW, tried="workers 3 -> 500", why="pod a: ended", kind="settings")
BACK_ROLL = replace(ROLL, kind="undo", began=NOW + 60)
DONE = Rollout(done=True, failed=False, message="all 2 pods carry the template", finished=True)


def facts(**fields):
    healthy = {"generation": 2, "rollout": DONE, "evidence": gather([heard()], Wanted()), "image": IMAGE}
    return Facts(**(healthy | fields))


def conditions(**fields):
    return {v.type: (v.status, v.reason, v.message) for v in verdicts(server(generation=2), facts(**fields))}


def outcomes(lines):
    return [(line["after"], line.get("outcome"), line.get("why")) for line in lines]


def test_a_change_is_under_way_and_then_kept_in_the_same_line():
    going = history([], facts(changes=(NOW, (TRIED,)), roll=ROLL))
    assert outcomes(going) == [("500", "UnderWay", None)]
    ended = replace(ROLL, ended=NOW + 9, outcome="Kept")
    assert outcomes(history(going, facts(changes=(NOW, (TRIED,)), roll=ended))) == [("500", "Kept", None)]


def test_a_change_that_is_undone_says_why_beside_the_one_that_undoes_it():
    going = history([], facts(changes=(NOW, (TRIED,)), roll=ROLL))
    back = facts(changes=(NOW + 60, (BACK,)), roll=BACK_ROLL, undone=UNDONE)
    assert outcomes(history(going, back)) == [("3", "UnderWay", None), ("500", "Undone", "pod a: ended")]
    later = facts(changes=(NOW + 60, (BACK,)), roll=replace(BACK_ROLL, ended=NOW + 70, outcome="Kept"))
    assert outcomes(history(history(going, back), later)) == [("3", "Kept", None), ("500", "Undone", "pod a: ended")]


def test_a_change_that_failed_and_stays_says_why():
    failed = replace(ROLL, ended=NOW, outcome="Failed", why="the owner's")
    assert outcomes(history([], facts(changes=(NOW, (TRIED,)), roll=failed))) == [("500", "Failed", "the owner's")]


def test_lines_that_an_operator_without_outcomes_wrote_stay_as_they_are():
    line = {"at": "2026-01-01T00:00:00Z", "what": "workers", "after": "2"}
    assert history([line], facts()) == [line]


def test_what_was_rolled_back_is_stalled_with_what_was_tried_and_what_the_pods_said():
    found = conditions(undone=UNDONE, roll=BACK_ROLL)
    assert found["Stalled"][:2] == (True, "RolledBack")
    assert found["Ready"][:2] == (False, "RolledBack")
    assert found["Stalled"][2] == (
        "workers 3 -> 500 was tried, and taken back: pod a: ended. What was there before is applied again; it is not "
        "tried again until spec changes"
    )
    assert found["Reconciling"][0] is False


def test_where_going_back_does_not_help_either_that_is_said_too():
    again = replace(BACK_ROLL, ended=NOW + 99, outcome="Failed", why="it is Deployment web itself")
    going = Rollout(done=False, failed=False, message="0 of 2 pods are available")
    assert "it is Deployment web itself" in conditions(undone=UNDONE, roll=again, rollout=going)["Stalled"][2]
    assert "it is Deployment web itself" not in conditions(undone=UNDONE, roll=again)["Stalled"][2]


def test_an_adoption_that_was_taken_back_is_not_injected():
    out = replace(UNDONE, out=True, tried="sidecar x:1")
    found = conditions(undone=out, roll=BACK_ROLL, image=None)
    assert found["Injected"][:2] == (False, "RolledBack")
    assert "The template is its owner's again" in found["Injected"][2]


def test_a_roll_that_failed_and_was_left_is_stalled_until_it_is_done():
    failed = replace(ROLL, ended=NOW, outcome="Failed", why="mend the workload first")
    going = Rollout(done=False, failed=False, message="0 of 2 pods are available")
    assert conditions(roll=failed, rollout=going)["Stalled"] == (True, "RolloutFailed", "mend the workload first")
    assert conditions(roll=failed)["Stalled"][0] is False


def test_a_change_that_waits_is_reconciling_and_says_for_what():
    found = conditions(held="what this spec asks for waits for the window that opens Sat 22:00 Europe/Berlin")
    assert found["Reconciling"][:2] == (True, "Waiting")
    assert found["Ready"][:2] == (False, "Waiting")
    assert "Sat 22:00 Europe/Berlin" in found["Ready"][2]
    assert found["Injected"][0] is True
    assert conditions(held="the adoption waits its turn", image=None)["Injected"][:2] == (False, "Waiting")


def test_a_spec_that_can_never_be_followed_is_stalled_while_the_rest_goes_on():
    lost = Obstacle(reason="TimeZoneUnknown", message="write an IANA name")
    found = conditions(trouble=lost)
    assert found["Stalled"] == (True, "TimeZoneUnknown", "write an IANA name")
    assert found["Injected"][0] is True


def test_whether_rolls_lose_requests_has_a_condition_of_its_own():
    assert conditions(hazards=())["RollSafe"][:2] == (True, "Drained")
    two = (Hazard(reason="NoPreStop", message="Add it"), Hazard(reason="GraceTooShort", message="Set it to 40"))
    assert conditions(hazards=two)["RollSafe"] == (False, "NoPreStop", "Add it. Set it to 40")
    assert conditions(hazards=two)["Degraded"][0] is False
    assert "RollSafe" not in conditions()


def test_a_roll_of_which_nobody_can_say_that_it_is_safe_is_unknown_and_a_sure_loss_is_told_before():
    assert conditions(hazards=(), unsure="unread")["RollSafe"] == (
        None,
        "BudgetsUnknown",
        "unread",
    )
    sure = (Hazard(reason="NoPreStop", message="Add it"),)
    assert conditions(hazards=sure, unsure="unread")["RollSafe"] == (False, "NoPreStop", "Add it")


def reasons(now=NOW + 1, **fields):
    return [(n.reason, n.note) for n in roll_notices(server(), facts(**fields), now)]


def test_a_change_is_told_in_words():
    first = Change(name="sidecar", before=None, after="x:1")
    left = Change(name="workers", before="2", after=None)
    assert reasons(changes=(NOW, (first,)))[0][0] == "Injected"
    assert reasons(changes=(NOW, (TRIED,))) == [("SettingsChanged", "Deployment web rolls: workers 3 -> 500")]
    assert reasons(changes=(NOW, (left,)))[0][1] == "Deployment web rolls: workers 2 -> as its owner has it"
    assert reasons(changes=(NOW, ())) == []
    assert reasons(changes=(NOW, (TRIED,)), now=NOW + 4000) == []


def test_a_change_that_is_taken_back_is_one_warning_and_no_change():
    told = reasons(changes=(NOW + 60, (BACK,)), roll=BACK_ROLL, undone=UNDONE, now=NOW + 61)
    assert [reason for reason, _ in told] == ["RolledBack"]
    assert "workers 3 -> 500 was tried, and taken back: pod a: ended" in told[0][1]


def test_the_same_thing_has_the_same_key_whenever_it_is_told():
    hazards = (Hazard(reason="NoPreStop", message="Add it"),)
    fields = {"changes": (NOW, (TRIED,)), "roll": ROLL, "undone": UNDONE, "hazards": hazards}
    keys = [{n.key for n in roll_notices(server(), facts(**fields), now)} for now in (NOW, NOW + 600)]
    assert keys[0] == keys[1]


def test_that_requests_will_be_lost_is_told_when_a_roll_begins_and_not_all_the_time():
    hazards = (Hazard(reason="NoPreStop", message="Add it"),)
    assert [reason for reason, _ in reasons(roll=ROLL, hazards=hazards)] == ["RollLosesRequests"]
    assert reasons(roll=replace(ROLL, ended=NOW, outcome="Kept"), hazards=hazards) == []
    assert reasons(hazards=hazards) == []
