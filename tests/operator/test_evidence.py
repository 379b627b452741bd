"""What several pods say, put together."""

import pytest

from wsgi_contract.report import Unknown
from wsgi_contract.settings import Wanted
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.pods import pods_for, pods_of
from wsgi_operator.core.seen import Seen, look_at
from wsgi_operator.core.sidecar import Identity
from wsgi_operator.core.times import moment
from wsgi_operator.testing import NOW, gunicorn, heard, incident, report, setting, silence


def workers(*values, wanted=None):
    answers = [heard(f"web-{n}", report(setting("workers", value))) for n, value in enumerate(values)]
    return gather(answers, Wanted(workers=wanted)).settings[0]


@pytest.mark.parametrize(
    ("values", "state", "value"),
    [
        ((3, 3), "Agreed", 3),
        ((3, 4), "Mixed", None),
        ((3, None), "Agreed", 3),
        ((None, None), "Unknown", None),
    ],
    ids=["all the same", "in the middle of a roll", "one cannot tell", "nobody can tell"],
)
def test_pods_agree_or_they_do_not(values, state, value):
    found = workers(*values)
    assert (found.state, found.value) == (state, value)


@pytest.mark.parametrize(
    ("values", "wanted", "met"), [((3,), None, True), ((3,), 3, True), ((3,), 4, False), ((3, 4), 4, False)]
)
def test_a_wanted_setting_is_met_only_where_all_agree(values, wanted, met):
    assert workers(*values, wanted=wanted).met is met


def test_a_flag_on_one_command_line_pins_the_setting():
    answers = [
        heard("a", report(setting("workers", 3))),
        heard("b", report(setting("workers", 2, "command-line", "-w 2"))),
    ]
    assert gather(answers, Wanted()).settings[0].pinned


def test_the_words_are_those_of_a_pod_that_knows():
    answers = [heard("a", report(setting("workers", None, "unknown", "?"))), heard("b", report(setting("workers", 3)))]
    found = gather(answers, Wanted()).settings[0]
    assert (found.source, found.said_by) == ("environment", "GUNICORN_CMD_ARGS: workers")


def test_a_silent_pod_says_nothing():
    evidence = gather([silence("a"), heard("b")], Wanted())
    assert (evidence.pods, len(evidence.heard), len(evidence.silent)) == (2, 1, 1)


def test_a_wanted_setting_that_no_pod_mentions_is_unknown():
    found = gather([], Wanted(workers=3)).settings
    assert [(one.name, one.state, one.value) for one in found] == [("workers", "Unknown", None)]


def test_a_sidecar_without_a_server_is_told():
    assert gather([heard("a", report(server=None))], Wanted()).without_server == ("a",)


def test_open_incidents_come_first_and_the_latest_before_the_older():
    first = report(incidents=(incident(id="old", since=NOW - 100), incident(id="over", since=NOW, ended_at=NOW)))
    second = report(incidents=(incident(id="new", since=NOW - 50),))
    found = gather([heard("a", first), heard("b", second)], Wanted()).incidents()
    assert [one.id for _, one in found] == ["new", "old", "over"]


def test_what_cannot_be_seen_is_counted_over_pods():
    blind = report(unknowns=(Unknown(what="heartbeats", why="other user", remedy="runAsUser: 1"),))
    found = gather([heard("a", blind), heard("b", blind), heard("c")], Wanted()).unknowns()
    assert [(unknown.what, pods) for unknown, pods in found] == [("heartbeats", 2)]


@pytest.mark.parametrize(
    ("servers", "seen"),
    [
        ([gunicorn()], Seen(runs="gunicorn", cmd_args="")),
        ([gunicorn(uid=33, gid=33)], Seen(runs="gunicorn", identity=Identity(uid=33, gid=33), cmd_args="")),
        ([gunicorn(uid=33), gunicorn(uid=34)], Seen(runs="gunicorn", cmd_args="")),
        ([gunicorn(cmd_args="-w 2"), gunicorn(cmd_args="-w 3")], Seen(runs="gunicorn")),
        ([gunicorn(cmd_args=None), gunicorn(cmd_args="-w 3")], Seen(runs="gunicorn", cmd_args="-w 3")),
        ([None], Seen()),
        ([], Seen()),
    ],
    ids=["nobody mistaken", "another user", "users differ", "arguments differ", "one blind", "no server", "no report"],
)
def test_only_what_all_agree_on_is_seen(servers, seen):
    assert look_at(report(server=one) for one in servers) == seen


@pytest.mark.parametrize(
    ("at", "text"),
    [(0.0, "1970-01-01T00:00:00Z"), (None, None), (float("nan"), None), (float("inf"), None), (1e300, None)],
)
def test_a_number_that_is_no_time_has_no_moment(at, text):
    assert moment(at) == text


def pod_body(name="web-1", phase="Running", state=None, **status):
    containers = [] if state is None else [{"name": "wsgi-sidecar", "state": state}]
    return {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "status": {"phase": phase, "podIP": "10.0.0.1", "initContainerStatuses": containers} | status,
    }


def test_pods_that_end_are_not_there_any_more():
    going = pod_body()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pods_of([going, pod_body(phase="Failed"), pod_body(phase="Succeeded")]) == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (pod_body(state={"running": {}}), None),
        (
            pod_body(state={"waiting": {"reason": "ErrImagePull", "message": "no such image"}}),
            "ErrImagePull: no such image",
        ),
        (pod_body(state={"terminated": {"reason": "OOMKilled"}}), "terminated (OOMKilled)"),
        (pod_body(), "has not started yet"),
        (
            pod_body(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]),
            "not scheduled: 0/1 nodes",
        ),
    ],
)
def test_a_pod_that_cannot_answer_says_why_in_the_kubelets_words(body, words):
    waiting = pods_of([body])[0].waiting
    assert waiting is None if words is None else words in (waiting or "")


def owned(kind, name, **labels):
    body = pod_body(phase="Running")
    body["metadata"] |= {"ownerReferences": [{"kind": kind, "name": name, "controller": True}], "labels": labels}
    return body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (owned("ReplicaSet", "web-7d9f", **{"pod-template-hash": "7d9f"}), True),
        (owned("ReplicaSet", "web-api-7d9f", **{"pod-template-hash": "7d9f"}), False),
        (owned("ReplicaSet", "web"), False),
        (owned("StatefulSet", "web"), False),
        (owned("Job", "web-migrate"), False),
        (pod_body(phase="Running"), True),
    ],
    ids=["ours", "of a longer name", "of nobody's", "another kind", "a Job from the template", "made by hand"],
)
def test_a_pod_that_is_another_workloads_is_not_counted(body, expected):
    assert bool(pods_for(pods_of([body]), "Deployment", "web")) is expected
