"""Which Events are posted."""

import pytest

from wsgi_contract.settings import Wanted
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.notices import event_of, kill_notices
from wsgi_operator.testing import NOW, heard, kill, report, server

BODY = {"metadata": {"name": "shop", "namespace": "default", "uid": "uid-shop"}}


def notices(*kills, now=NOW, pod="web-1"):
    return tuple(kill_notices(server(), gather([heard(pod, report(kills=kills))], Wanted()), now))


def names(*kills, **more):
    return {event_of(notice, BODY)["metadata"]["name"] for notice in notices(*kills, **more)}


def test_a_kill_is_told_on_the_server_and_on_its_pod():
    events = [event_of(notice, BODY) for notice in notices(kill())]
    assert [event["involvedObject"]["kind"] for event in events] == ["WSGIServer", "Pod"]
    assert {event["reason"] for event in events} == {"WorkerKilled"}
    assert events[0]["message"].startswith("pod web-1: frozen-worker: its main thread used 0.9 cores")
    assert events[0]["firstTimestamp"] == "2026-09-21T14:13:15Z"


def test_the_same_kill_has_the_same_name_whenever_it_is_told():
    assert names(kill()) == names(kill(), now=NOW + 500)


@pytest.mark.parametrize(
    "other", [kill(id="2"), kill(at=NOW - 6)], ids=["another kill", "the first kill of a restarted sidecar"]
)
def test_another_kill_has_another_name(other):
    assert not names(kill()) & names(other)


def test_the_same_kill_id_in_another_pod_has_another_name():
    assert not names(kill()) & names(kill(), pod="web-2")


def test_an_old_kill_is_not_told_again_after_the_api_server_forgot_it():
    assert notices(kill(at=NOW - 3600)) == ()


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [("survived", "KillIncomplete"), ("dry-run", "WouldKill"), ("refused", "KillRefused"), ("spared", "KillSpared")],
)
def test_a_kill_that_was_none_has_its_own_reason(outcome, reason):
    assert {notice.reason for notice in notices(kill(outcome=outcome))} == {reason}


def test_a_worker_that_was_gone_already_is_no_event():
    assert notices(kill(outcome="gone")) == ()


def test_a_long_message_fits_into_an_event():
    events = [event_of(notice, BODY) for notice in notices(kill(message="x" * 5000))]
    assert [len(event["message"]) for event in events] == [1024, 1024]
