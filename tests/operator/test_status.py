"""The status, from facts."""

import pytest

from wsgi_contract.report import Saturation, Unknown
from wsgi_contract.settings import Wanted
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.record import Change
from wsgi_operator.core.rollout import Rollout, rollout
from wsgi_operator.core.server import Obstacle
from wsgi_operator.core.status import broken_off, cut_down, status_of
from wsgi_operator.status_model import Status
from wsgi_operator.testing import (
    IMAGE,
    NOW,
    deployment,
    gunicorn,
    heard,
    incident,
    kill,
    report,
    server,
    setting,
    silence,
    uwsgi,
)

DONE = Rollout(done=True, failed=False, message="all 2 pods carry the template")
GOING = Rollout(done=False, failed=False, message="1 of 2 pods carry the new template")
THEN, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def facts(*answers, wanted=None, **fields):
    wanted = Wanted(workers=3) if wanted is None else wanted
    healthy = {"generation": 1, "rollout": DONE, "evidence": gather(answers, wanted), "image": IMAGE}
    return Facts(**(healthy | fields))


def told(found, before=None, now=THEN):
    status = status_of(server(), found, before or {}, now)
    Status.model_validate(status)  # what is made fits into the schema
    return status


def conditions(found):
    """Each condition as (status, reason, message)."""
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in told(found)["conditions"]}


def test_a_workload_that_is_as_wanted_is_ready_and_calm():
    found = conditions(facts(heard()))
    assert {name: status for name, (status, _, _) in found.items()} == {
        "Ready": "True", "Injected": "True", "Tuned": "True", "Reconciling": "False", "Stalled": "False",
        "Degraded": "False",
    }  # fmt: skip
    assert found["Ready"][2] == "all 1 pods report; in force: workers 3"


def test_an_obstacle_stalls_and_says_what_to_do():
    found = conditions(Facts(generation=1, obstacle=Obstacle(reason="HostPID", message="remove hostPID")))
    assert found["Ready"] == ("False", "HostPID", "remove hostPID")
    assert found["Stalled"] == ("True", "HostPID", "remove hostPID")
    assert found["Injected"][0] == "False"
    assert found["Reconciling"][0] == "False"


def test_a_roll_is_reconciling_and_not_degraded_by_young_pods():
    found = conditions(facts(heard("a"), silence("b"), rollout=GOING))
    assert found["Ready"][:2] == ("False", "RollingOut")
    assert found["Reconciling"] == ("True", "RollingOut", GOING.message)
    assert found["Degraded"][0] == "False"


def test_a_roll_that_gave_up_is_stalled():
    found = conditions(facts(rollout=Rollout(done=False, failed=True, message="the roll does not go on")))
    assert found["Stalled"][:2] == ("True", "RolloutFailed")
    assert found["Reconciling"][0] == "False"


def test_a_silent_pod_after_the_roll_is_not_ready_and_degraded():
    found = conditions(facts(heard("a"), silence("b", "no answer from 10.0.0.1:9177 within 3 s")))
    assert found["Ready"][:2] == ("False", "PodsSilent")
    assert "1 of 2 pods do not report; b: no answer" in found["Degraded"][2]


def test_a_pinned_setting_says_by_what_and_how_to_free_it():
    pinned = report(setting("workers", 2, "command-line", "-w 2"))
    found = conditions(facts(heard("a", pinned)))
    assert found["Stalled"][:2] == ("True", "SettingPinned")
    assert "workers is pinned to 2 by -w 2" in found["Ready"][2]
    assert "remove that flag" in found["Ready"][2]
    effective = told(facts(heard("a", pinned)))["effective"][0]
    assert (effective["pinned"], effective["value"], effective["wanted"], effective["saidBy"]) == (
        True,
        "2",
        "3",
        "-w 2",
    )


def test_a_pinned_setting_that_is_as_wanted_disturbs_nobody():
    pinned = report(setting("workers", 3, "command-line", "-w 3"))
    assert conditions(facts(heard("a", pinned)))["Ready"][0] == "True"


def test_a_setting_that_did_not_come_into_force_is_told():
    found = conditions(facts(heard("a", report(setting("workers", 2, "config-file", "config file")))))
    assert found["Ready"] == ("False", "SettingsNotInForce", "workers is 2 (config-file: config file), wanted is 3")


@pytest.mark.parametrize(
    ("found", "fields", "expected"),
    [
        (facts(heard()), {}, ("True", "AsWanted", "in force: workers 3")),
        (
            facts(heard("a", report(setting("workers", 2, "command-line", "-w 2")))),
            {},
            ("False", "SettingPinned", "-w 2"),
        ),
        (facts(heard("a", report(setting("workers", 2)))), {}, ("False", "SettingsNotInForce", "workers is 2")),
        (facts(silence()), {}, ("False", "SettingsUnknown", "workers is told by no pod yet, wanted is 3")),
        (facts(heard(), pending=True), {}, ("False", "CmdArgsUnknown", "write GUNICORN_CMD_ARGS")),
        (facts(heard()), {"tuner": "Auto"}, ("False", "NoTuner", "this version has no tuner")),
        (Facts(generation=1, obstacle=Obstacle(reason="HostPID", message="x")), {}, ("False", "HostPID", "x")),
    ],
)
def test_tuned_says_whether_the_wanted_settings_are_in_force(found, fields, expected):
    status = status_of(server(**fields), found, {}, THEN)
    tuned = next(c for c in status["conditions"] if c["type"] == "Tuned")
    assert (tuned["status"], tuned["reason"]) == expected[:2]
    assert expected[2] in tuned["message"]


def saturated(ratio):
    return report(saturation=Saturation(ratio=ratio, busy=1.0, slots=4, waiting=0))


@pytest.mark.parametrize(
    ("before", "ratios", "expected"),
    [
        (None, (), None),
        (None, (0.12, 0.34), "0.3"),
        ("0.3", (0.49,), "0.3"),
        ("0.3", (0.12,), "0.3"),
        ("0.3", (0.51,), "0.5"),
        ("0.9", (1.0,), "1.0"),
        ("1.0", (0.99,), "0.9"),
        (None, (0.96,), "0.9"),
        ("1.1", (1.2,), "1.1"),
    ],
)
def test_saturation_is_the_fullest_pods_and_told_when_it_moved(before, ratios, expected):
    found = facts(*(heard(f"web-{n}", saturated(ratio)) for n, ratio in enumerate(ratios)))
    assert told(found, before={"saturation": before} if before else {}).get("saturation") == expected


def test_a_sidecar_of_another_user_is_told_as_denied():
    blind = report(server=gunicorn(uid=33, gid=33))
    assert told(facts(heard("a", blind), heard("b")))["pods"]["denied"] == [
        {"name": "a", "reason": "the sidecar runs as 1000:1000, the server as 33:33"}
    ]


def test_what_is_in_the_way_beside_the_workload_stalls_and_the_pods_are_told_all_the_same():
    found = facts(heard(), stuck=Obstacle(reason="NotOurs", message="there is a Service shop"))
    assert conditions(found)["Stalled"] == ("True", "NotOurs", "there is a Service shop")
    assert conditions(found)["Ready"][0] == "False"
    assert told(found)["pods"]["summary"] == "1/1"


def test_what_cannot_be_had_degrades_and_no_more():
    found = conditions(facts(heard(), told=(Obstacle(reason="PodMonitorUnknown", message="no such kind"),)))
    assert found["Degraded"] == ("True", "PodMonitorUnknown", "no such kind")
    assert found["Ready"][0] == "True"


@pytest.mark.parametrize(
    ("kind", "way"), [("uwsgi", "set spec.server to auto or uwsgi"), ("uvicorn", "remove spec.settings")]
)
def test_settings_that_no_server_in_the_pods_takes_are_told(kind, way):
    found = conditions(facts(heard("a", report(server=gunicorn(kind=kind))), runs="gunicorn"))
    assert found["Stalled"][:2] == ("True", "OtherServer")
    assert f"the pods run {kind}, and spec.settings are written for gunicorn" in found["Stalled"][2]
    assert way in found["Stalled"][2]


def test_a_pinned_setting_of_uwsgi_names_its_own_way_out():
    pinned = report(setting("workers", 2, "command-line", "app.ini: processes = 2"), server=uwsgi())
    assert "name it in UWSGI_INI instead" in conditions(facts(heard("a", pinned), runs="uwsgi"))["Stalled"][2]


def test_pods_that_differ_are_listed_and_not_averaged():
    both = facts(heard("a"), heard("b", report(setting("workers", 2))))
    effective = told(both)["effective"][0]
    assert (effective["state"], effective["values"]) == ("Mixed", ["2", "3"])
    assert "value" not in effective


def test_what_nobody_can_see_is_told_with_its_remedy():
    blind = report(
        setting("workers", None, "unknown"), unknowns=(Unknown(what="settings", why="uid", remedy="runAsUser: 1"),)
    )
    found = conditions(facts(heard("a", blind)))
    assert found["Degraded"] == ("True", "NotVisible", "settings: uid; runAsUser: 1")
    assert found["Ready"][0] == "True"


def test_looking_first_is_reconciling_until_nobody_can_tell():
    looking = conditions(facts(pending=True, rollout=GOING))
    assert looking["Reconciling"][:2] == ("True", "RollingOut")
    blind = conditions(facts(heard("a"), pending=True))
    assert blind["Stalled"][:2] == ("True", "CmdArgsUnknown")
    assert "write GUNICORN_CMD_ARGS into the container's env" in blind["Stalled"][2]
    waiting = conditions(facts(heard("a", report(server=None)), pending=True))
    assert waiting["Reconciling"][:2] == ("True", "LookingFirst")


def test_incidents_are_summed_up():
    sick = report(incidents=(incident(), incident(id="2", since=NOW - 60, ended_at=NOW)), kills=(kill(),))
    summary = told(facts(heard("a", sick)))["incidents"]
    assert (summary["open"], summary["kills"], len(summary["recent"])) == (1, 1, 2)
    assert conditions(facts(heard("a", sick)))["Degraded"][:2] == ("True", "IncidentsOpen")


def test_the_same_facts_give_the_same_status_whatever_the_time():
    first = told(facts(heard()), now=THEN)
    assert told(facts(heard()), before=first, now=LATER) == first


def test_a_condition_that_turns_gets_the_time_and_the_others_keep_theirs():
    first = told(facts(heard()), now=THEN)
    second = told(facts(silence("web-1")), before=first, now=LATER)
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert {name for name, at in times.items() if at == LATER} == {"Ready", "Tuned", "Degraded"}


def test_changes_are_told_once_newest_first_and_not_for_ever():
    status = {}
    for n in range(12):
        change = (Change(name="workers", before=str(n), after=str(n + 1)),)
        for _ in range(2):
            status = told(facts(heard(), changes=(NOW + n, change)), before=status)
    assert [line["after"] for line in status["lastChanges"]] == [str(n) for n in range(12, 2, -1)]


def test_whatever_a_pod_says_the_status_stays_small():
    loud = report(
        setting("worker_class", "x" * 100_000, said_by="y" * 100_000),
        incidents=tuple(incident(id=str(n), summary="z" * 100_000, since=float("nan")) for n in range(50)),
        unknowns=tuple(Unknown(what=str(n), why="w" * 100_000, remedy="r") for n in range(50)),
    )
    status = told(
        facts(*(heard(f"web-{n}", loud) for n in range(50)), *(silence(f"s-{n}", "q" * 9999) for n in range(50)))
    )
    assert len(str(status)) < 100_000


def test_a_roll_is_judged_as_kubectl_does():
    def roll(**status):
        live = deployment(generation=2)
        live["status"] = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2} | status
        return rollout(live)

    assert roll().done
    assert not roll(observedGeneration=1).done
    assert "1 of 2 pods carry" in roll(updatedReplicas=1).message
    assert "1 old pods are still to end" in roll(replicas=3).message
    assert "1 of 2 pods are available" in roll(availableReplicas=1).message
    assert roll(conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]).failed


def test_where_rounds_end_early_nothing_is_said_to_be_known_any_more_and_the_rest_stays():
    before = told(facts(heard()))
    now = broken_off(before, 2, "the API server cannot be reached", "2026-02-01T00:00:00Z")
    found = {c["type"]: (c["status"], c["reason"], c["observedGeneration"]) for c in now["conditions"]}
    assert (found["Ready"], found["Reconciling"]) == (("False", "TryingAgain", 2), ("True", "TryingAgain", 2))
    assert found["Injected"] == ("True", "Applied", 1)
    assert (now["pods"], now["observedGeneration"]) == (before["pods"], 1)
    assert len(now["conditions"]) == len(before["conditions"])


def test_a_status_that_is_cut_down_keeps_its_conditions_and_says_why_and_since_when():
    whole = told(facts(heard()))
    once = cut_down(whole, {}, ".status.new: field not declared in schema", THEN)
    again = cut_down(whole, once, ".status.new: field not declared in schema", LATER)
    assert again == once, "nothing in it ticks"
    Status.model_validate(once)
    assert once.keys() == {"observedGeneration", "conditions"}
    degraded = {c["type"]: c for c in once["conditions"]}["Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", "CustomResourceDefinitionTooOld")
    assert ".status.new: field not declared in schema" in degraded["message"]
    assert [c for c in once["conditions"] if c["type"] != "Degraded"] == [
        c for c in whole["conditions"] if c["type"] != "Degraded"
    ]
