"""How a roll of ours ended, and whose fault that is."""

from dataclasses import replace

import pytest

from wsgi_operator.core.outcome import SILENT_FOR_S, end_of
from wsgi_operator.core.record import record_of
from wsgi_operator.core.retold import retold
from wsgi_operator.core.rollout import rollout
from wsgi_operator.testing import NOW, adopted, applied, deployment, planned, pod, server

BAD, WITHIN_S = server(generation=2, wanted=replace(server().wanted, workers=500)), 60.0


def rolling(kind="Deployment", *, closed=True, **status):
    """A workload, calm before, in which a change of settings rolls since NOW."""
    live = deployment(generation=1) | {"kind": kind}
    first = adopted(live=live, now=NOW - 1000)
    record = record_of(first)
    assert record is not None
    assert record.roll is not None
    ended = replace(record, roll=replace(record.roll, ended=NOW - 900, outcome="Kept" if closed else "Failed"))
    config = retold(first, ended)
    assert config is not None
    settled = applied(first, config)
    body = applied(settled, planned(BAD, settled, now=NOW).config)
    body["metadata"]["generation"] = 2
    body["status"] = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 1, "availableReplicas": 2} | status
    return body


def end(body, *pods, after_s=10.0, silent=False, record=None):
    record = record or record_of(body)
    assert record is not None
    return end_of(record, body, rollout(body), pods, within_s=WITHIN_S, silent=silent, now=NOW + after_s)


DONE = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
STUCK = {"conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]}
LOOP = pod("new", created=NOW + 1, trouble="container web ended 9 times (Error, exit code 3)", hopeless=True)
OLD = pod("old", created=NOW - 500, ready_since=NOW - 490)


def test_a_roll_whose_pods_are_ready_is_kept():
    found = end(rolling(**DONE))
    assert found is not None
    assert (found.outcome, found.why) == ("Kept", "")


def test_a_roll_goes_on_while_there_is_hope():
    young = pod("new", created=NOW + 1, trouble="container web: ImagePullBackOff")
    assert end(rolling(), young, OLD) is None
    assert end(rolling(), young, LOOP) is None  # not all of them are hopeless
    assert end(rolling(), after_s=WITHIN_S) is None


@pytest.mark.parametrize(
    ("body", "pods", "after_s", "words"),
    [
        (rolling(**STUCK), (LOOP,), 10, "the Deployment's progressDeadlineSeconds passed"),
        (rolling(), (LOOP, OLD), 10, "its new pods cannot become ready; pod new: container web ended 9 times"),
        (rolling("StatefulSet"), (), WITHIN_S + 1, "no new pod became ready within 60 s; no new pod was made"),
        (rolling(), (pod("new", created=NOW + 1),), WITHIN_S + 1, "its pods are silent"),
        (rolling(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]), (),
         WITHIN_S + 1, "no new pod was made (exceeded quota)"),
    ],
)  # fmt: skip
def test_a_change_whose_pods_do_not_become_ready_is_undone(body, pods, after_s, words):
    found = end(body, *pods, after_s=after_s)
    assert found is not None
    assert found.outcome == "Undone"
    assert words in found.why


def test_each_pod_that_becomes_ready_gives_the_next_its_time():
    fresh = pod("new", created=NOW + 1, ready_since=NOW + 50)
    assert end(rolling(), fresh, after_s=100) is None
    assert end(rolling(), fresh, after_s=111) is not None
    flapping = pod("new", created=NOW + 1, ready_since=NOW + 50, restarts=3)
    assert end(rolling(), flapping, after_s=100) is not None


def test_what_the_owner_changed_meanwhile_is_not_undone():
    body = rolling(**STUCK)
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/web:broken"
    found = end(body, LOOP)
    assert found is not None
    assert found.outcome == "Failed"
    assert "was changed by its owner meanwhile, so nothing is undone" in found.why


def test_a_workload_that_was_not_ready_before_proves_nothing():
    live = deployment()
    live["status"]["availableReplicas"] = 0
    body = adopted(live=live, now=NOW)
    found = end(body, LOOP)
    assert found is not None
    assert found.outcome == "Failed"
    assert "Not all pods of Deployment web were ready before either" in found.why


def test_a_sidecar_that_cannot_start_is_no_owners_fault_whatever_was_before():
    live = deployment()
    live["status"]["availableReplicas"] = 0
    ours = replace(LOOP, trouble="container wsgi-sidecar: ErrImageNeverPull")
    found = end(adopted(live=live, now=NOW), ours)
    assert found is not None
    assert found.outcome == "Undone"


def test_a_first_adoption_of_a_healthy_workload_is_undone():
    body = adopted(now=NOW)
    body["status"]["availableReplicas"] = 1
    found = end(body, LOOP)
    assert found is not None
    assert found.outcome == "Undone"


def test_what_is_undone_and_fails_again_is_the_workloads_own_fault_and_takes_its_time():
    body = rolling(**STUCK)
    record = record_of(body)
    assert record is not None
    assert record.roll is not None
    back = replace(record, roll=replace(record.roll, kind="undo"))
    assert end(body, record=back) is None  # the controller's word may still be of what was undone
    found = end(body, record=back, after_s=WITHIN_S + 1)
    assert found is not None
    assert found.outcome == "Failed"
    assert "it is Deployment web itself that does not become ready" in found.why


def test_pods_that_somebody_replaces_by_hand_have_no_deadline():
    paused = rolling()
    paused["spec"]["paused"] = True
    assert end(paused, after_s=1e6) is None
    by_hand = rolling("StatefulSet", currentRevision="a", updateRevision="b")
    by_hand["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert end(by_hand, after_s=1e6) is None


def test_an_upgrade_is_not_kept_before_its_pods_report():
    body = rolling(**DONE)
    record = record_of(body)
    assert record is not None
    assert record.roll is not None
    upgrade = replace(record, roll=replace(record.roll, kind="upgrade"))
    assert end(body, record=upgrade, silent=True) is None
    assert end(body, record=upgrade, silent=True, after_s=SILENT_FOR_S + 1) is not None
    assert end(body, record=upgrade) is not None


def test_an_ended_roll_has_no_second_end():
    assert end(adopted(now=NOW), record=replace(planned().record, roll=None)) is None
