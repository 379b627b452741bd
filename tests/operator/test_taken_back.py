"""Changes whose pods do not become ready, with real pods: taken back, remembered, told, whoever is killed meanwhile."""

from __future__ import annotations

import json
import time

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground
from tests.operator.unlucky import PATIENCE, UNLUCKY, outcomes, serving, template
from wsgi_contract import names

pytestmark = [pytest.mark.cluster, pytest.mark.long, pytest.mark.usefixtures("fresh_operator")]


def ended(here: Ground, name: str) -> bool:
    """Whether the record says that the last roll has ended, so that it keeps no place among those that roll."""
    record = json.loads(here.deployment(name)["metadata"]["annotations"]["wsgi.dev/applied"])
    return record["roll"]["ended"] is not None


def test_settings_that_no_pod_starts_with_are_taken_back_and_not_tried_again(here: Ground, app: str):
    serving(here, app, "unlucky")
    here.adopt("unlucky", settings={"workers": 2})
    here.until("unlucky", "Ready", "True", within_s=180)
    good, sets = template(here, "unlucky"), here.replica_sets("unlucky")
    here.adopt("unlucky", settings={"workers": UNLUCKY}, tuning={"readyWithinSeconds": 45})  # time to start, and end
    message = here.until("unlucky", "Stalled", "True", "RolledBack", within_s=180)
    assert message.startswith(f"workers 2 -> {UNLUCKY} was tried, and taken back: no new pod became ready within 45 s")
    assert "container web ended" in message
    assert "its last words: " in message
    assert "it is not tried again until spec changes" in message
    assert template(here, "unlucky") == good
    eventually(lambda: outcomes(here, "unlucky")[0] == ("workers 2", "Kept"), within_s=60)
    assert outcomes(here, "unlucky")[1] == (f"workers {UNLUCKY}", "Undone")
    told = [reason for reason, _ in here.events("WSGIServer", "unlucky")]
    assert (told.count("RolledBack"), told.count("SettingsChanged")) == (1, 1)
    here.kill()
    here.start()
    time.sleep(4)
    assert template(here, "unlucky") == good
    assert here.condition("unlucky", "Stalled")[:2] == ("True", "RolledBack")
    assert here.replica_sets("unlucky") == sets + 1  # the one that failed; the way back is the old one
    assert [reason for reason, _ in here.events("WSGIServer", "unlucky")].count("RolledBack") == 1
    here.adopt("unlucky", settings={"workers": 3})
    here.until("unlucky", "Ready", "True", within_s=180)
    assert here.condition("unlucky", "Stalled")[0] == "False"


@pytest.mark.parametrize("moment_s", [0.0, 0.1, 12.0])
def test_an_operator_that_is_killed_while_a_change_fails_leaves_that_to_the_next(
    here: Ground, app: str, moment_s: float
):
    name = f"cut-{int(moment_s * 10)}"
    serving(here, app, name)
    here.adopt(name, settings={"workers": 2})
    here.until(name, "Ready", "True", within_s=180)
    good, sets = template(here, name), here.replica_sets(name)
    here.adopt(name, settings={"workers": UNLUCKY}, tuning=PATIENCE)
    eventually(lambda: template(here, name) != good, every_s=0.02)
    if moment_s > 10:  # in the very moment in which it is taken back
        eventually(lambda: template(here, name) == good, within_s=60, every_s=0.02)
    else:
        time.sleep(moment_s)
    here.kill()
    here.start()
    here.until(name, "Stalled", "True", "RolledBack", within_s=180)
    assert template(here, name) == good
    eventually(lambda: outcomes(here, name)[:2] == [("workers 2", "Kept"), (f"workers {UNLUCKY}", "Undone")])
    assert here.replica_sets(name) == sets + 1
    # The status is told before its Events.
    eventually(lambda: [reason for reason, _ in here.events("WSGIServer", name)].count("RolledBack") == 1)


def test_a_stateful_set_is_taken_back_too_and_its_stuck_pod_replaced(here: Ground, app: str):
    serving(here, app, "state", kind="StatefulSet")
    workload = {"kind": "StatefulSet", "name": "state"}
    here.adopt("state", workload=workload, settings={"workers": 2})
    here.until("state", "Ready", "True", within_s=120)
    good = template(here, "state", "StatefulSet")
    here.adopt("state", workload=workload, settings={"workers": UNLUCKY}, tuning=PATIENCE)
    here.until("state", "Stalled", "True", "RolledBack", within_s=180)
    assert template(here, "state", "StatefulSet") == good
    here.kubectl("rollout", "status", "statefulset/state", "--timeout=90s")
    pods = here.get("pods", selector="app=state")["items"]
    assert all(pod["status"]["containerStatuses"][0]["ready"] for pod in pods)


def test_an_adoption_that_no_pod_survives_gives_the_template_back_and_remembers_why(here: Ground, app: str):
    serving(here, app, "fragile")
    owners = template(here, "fragile")
    sidecar = {"image": "localhost/wsgi-sidecar:absent", "imagePullPolicy": "Never"}
    here.adopt("fragile", settings={"workers": 2}, sidecar=sidecar)
    message = here.until("fragile", "Stalled", "True", "RolledBack", within_s=180)
    assert "ErrImageNeverPull" in message
    assert "The template is its owner's again" in message
    assert template(here, "fragile") == owners
    assert here.condition("fragile", "Injected")[:2] == ("False", "RolledBack")
    here.kill()
    here.start()
    eventually(lambda: outcomes(here, "fragile")[0] == ("sidecar localhost/wsgi-sidecar:absent", "Undone"))
    eventually(lambda: ended(here, "fragile"))
    time.sleep(3)
    assert template(here, "fragile") == owners
    here.adopt("fragile", settings={"workers": 2})
    here.until("fragile", "Ready", "True", within_s=180)
    here.release("fragile")
    assert template(here, "fragile") == owners
    metadata = here.deployment("fragile")["metadata"]
    assert not [key for key in metadata["annotations"] if key.startswith("wsgi.dev/")]
    assert names.FIELD_MANAGER not in {entry["manager"] for entry in metadata["managedFields"]}


def test_what_was_taken_out_again_is_let_go_without_a_trace(here: Ground, app: str):
    serving(here, app, "trace")
    owners = template(here, "trace")
    sidecar = {"image": "localhost/wsgi-sidecar:absent", "imagePullPolicy": "Never"}
    here.adopt("trace", settings={"workers": 2}, sidecar=sidecar)
    here.until("trace", "Stalled", "True", "RolledBack", within_s=180)
    here.release("trace")
    assert template(here, "trace") == owners
    assert not [key for key in here.deployment("trace")["metadata"]["annotations"] if key.startswith("wsgi.dev/")]
