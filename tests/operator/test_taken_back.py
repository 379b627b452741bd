"""Changes whose pods do not become ready, with real pods: taken back, remembered, told, whoever is killed meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import ROOT, Cluster, eventually
from tests.operator.ground import RESTRICTED, Ground, deployment
from wsgi_contract import names

pytestmark = pytest.mark.cluster

UNLUCKY = 13
"""Workers with which the app ends at its start, and says so (tests/operator/app)."""

PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}}
PATIENCE = {"readyWithinSeconds": 10}


@pytest.fixture(scope="module")
def app(reached: Cluster) -> str:
    return reached.load_image("operator-test-app", "1", Path(__file__).parent / "app").ref


@pytest.fixture(autouse=True)
def operator(here: Ground, reached: Cluster) -> Iterator[None]:
    here.image = reached.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref
    here.start()
    yield
    here.kill()


def serving(here: Ground, app: str, name: str, *, kind: str = "Deployment", **container: Any) -> dict[str, Any]:
    """A workload of two pods that serve; its manifest."""
    manifest = deployment(
        name,
        replicas=2,
        image=app,
        env=[{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000 --workers=1"}],
        terminationMessagePolicy="FallbackToLogsOnError",
        securityContext=RESTRICTED
        | {"runAsUser": 1234, "runAsGroup": 1234},  # else the sidecar's comes in a second roll
        pod={"terminationGracePeriodSeconds": 2},
        **PROBE,
        **container,
    ) | {"kind": kind}
    if kind == "StatefulSet":
        manifest["spec"]["serviceName"] = name
    here.apply(manifest)
    here.kubectl("rollout", "status", f"{kind.lower()}/{name}", "--timeout=90s")
    return manifest


def template(here: Ground, name: str, kind: str = "Deployment") -> str:
    body = here.get(f"{kind.lower()}s", name)
    return json.dumps(body["spec"]["template"], sort_keys=True)


def outcomes(here: Ground, name: str) -> list[tuple[str, str | None]]:
    lines = here.server(name)["status"].get("lastChanges", [])
    return [(f"{line['what']} {line.get('after')}", line.get("outcome")) for line in lines]


def ended(here: Ground, name: str) -> bool:
    """Whether the record says that the last roll has ended, so that it keeps no place among those that roll."""
    record = json.loads(here.deployment(name)["metadata"]["annotations"]["wsgi.dev/applied"])
    return record["roll"]["ended"] is not None


def test_settings_that_no_pod_starts_with_are_taken_back_and_not_tried_again(here: Ground, app: str):
    serving(here, app, "unlucky")
    here.adopt("unlucky", settings={"workers": 2})
    here.until("unlucky", "Ready", "True", within_s=90)
    good, sets = template(here, "unlucky"), here.replica_sets("unlucky")
    here.adopt("unlucky", settings={"workers": UNLUCKY}, tuning={"readyWithinSeconds": 20})  # time to start, and end
    message = here.until("unlucky", "Stalled", "True", "RolledBack", within_s=90)
    assert message.startswith(f"workers 2 -> {UNLUCKY} was tried, and taken back: no new pod became ready within 20 s")
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
    here.until("unlucky", "Ready", "True", within_s=90)
    assert here.condition("unlucky", "Stalled")[0] == "False"


@pytest.mark.parametrize("moment_s", [0.0, 0.1, 12.0])
def test_an_operator_that_is_killed_while_a_change_fails_leaves_that_to_the_next(
    here: Ground, app: str, moment_s: float
):
    name = f"cut-{int(moment_s * 10)}"
    serving(here, app, name)
    here.adopt(name, settings={"workers": 2})
    here.until(name, "Ready", "True", within_s=90)
    good, sets = template(here, name), here.replica_sets(name)
    here.adopt(name, settings={"workers": UNLUCKY}, tuning=PATIENCE)
    eventually(lambda: template(here, name) != good, every_s=0.02)
    if moment_s > 10:  # in the very moment in which it is taken back
        eventually(lambda: template(here, name) == good, within_s=60, every_s=0.02)
    else:
        time.sleep(moment_s)
    here.kill()
    here.start()
    here.until(name, "Stalled", "True", "RolledBack", within_s=90)
    assert template(here, name) == good
    eventually(lambda: outcomes(here, name)[:2] == [("workers 2", "Kept"), (f"workers {UNLUCKY}", "Undone")])
    assert here.replica_sets(name) == sets + 1
    assert [reason for reason, _ in here.events("WSGIServer", name)].count("RolledBack") == 1


def test_a_stateful_set_is_taken_back_too_and_its_stuck_pod_replaced(here: Ground, app: str):
    serving(here, app, "state", kind="StatefulSet")
    workload = {"kind": "StatefulSet", "name": "state"}
    here.adopt("state", workload=workload, settings={"workers": 2})
    here.until("state", "Ready", "True", within_s=120)
    good = template(here, "state", "StatefulSet")
    here.adopt("state", workload=workload, settings={"workers": UNLUCKY}, tuning=PATIENCE)
    here.until("state", "Stalled", "True", "RolledBack", within_s=90)
    assert template(here, "state", "StatefulSet") == good
    here.kubectl("rollout", "status", "statefulset/state", "--timeout=90s")
    pods = here.get("pods", selector="app=state")["items"]
    assert all(pod["status"]["containerStatuses"][0]["ready"] for pod in pods)


def test_an_adoption_that_no_pod_survives_gives_the_template_back_and_remembers_why(here: Ground, app: str):
    serving(here, app, "fragile")
    owners = template(here, "fragile")
    sidecar = {"image": "localhost/wsgi-sidecar:absent", "imagePullPolicy": "Never"}
    here.adopt("fragile", settings={"workers": 2}, sidecar=sidecar)
    message = here.until("fragile", "Stalled", "True", "RolledBack", within_s=90)
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
    here.until("fragile", "Ready", "True", within_s=90)
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
    here.until("trace", "Stalled", "True", "RolledBack", within_s=90)
    here.release("trace")
    assert template(here, "trace") == owners
    assert not [key for key in here.deployment("trace")["metadata"]["annotations"] if key.startswith("wsgi.dev/")]


def test_an_owners_broken_manifest_is_not_ours_to_undo(here: Ground, app: str):
    manifest = serving(here, app, "owners")
    here.adopt("owners", settings={"workers": 2})
    here.until("owners", "Ready", "True", within_s=90)
    here.adopt("owners", settings={"workers": UNLUCKY}, tuning=PATIENCE)
    here.until("owners", "Reconciling", "True", "RollingOut")
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = "localhost/nothing:1"
    here.apply(manifest)
    message = here.until("owners", "Stalled", "True", "RolloutFailed", within_s=90)
    assert "The template of Deployment owners was changed by its owner meanwhile, so nothing is undone" in message
    assert f"--workers={UNLUCKY}" in template(here, "owners")
    assert "localhost/nothing:1" in template(here, "owners")


def test_a_spec_that_is_corrected_takes_the_place_of_one_that_fails(here: Ground, app: str):
    serving(here, app, "corrected")
    here.adopt("corrected", settings={"workers": 2})
    here.until("corrected", "Ready", "True", within_s=90)
    sets = here.replica_sets("corrected")
    here.adopt("corrected", settings={"workers": UNLUCKY}, tuning=PATIENCE)
    here.until("corrected", "Reconciling", "True", "RollingOut")
    patient = {"readyWithinSeconds": 30}  # the newest spec's patience judges the roll that is under way, too
    here.adopt("corrected", settings={"workers": 3}, tuning=patient)
    here.until("corrected", "Ready", "True", within_s=180)
    assert outcomes(here, "corrected")[:2] == [("workers 3", "Kept"), (f"workers {UNLUCKY}", "Failed")]
    assert here.replica_sets("corrected") == sets + 2


def test_a_change_waits_for_a_budget_that_something_else_has_used_up(here: Ground, app: str):
    labels = {"matchLabels": {"app": "budgeted"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "budgeted"}}
    manifest = serving(here, app, "budgeted")
    manifest["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    here.apply(manifest, budget | {"spec": {"minAvailable": 2, "selector": labels}})
    here.adopt("budgeted", settings={"workers": 2})
    here.until("budgeted", "Ready", "True", within_s=90)
    words = "PodDisruptionBudget budgeted allows 0 even when all are well"
    eventually(lambda: words in here.condition("budgeted", "RollSafe")[2], within_s=90)  # budgets are told for a minute
    broken = deployment("broken")["spec"]["template"]
    here.apply({"apiVersion": "v1", "kind": "Pod", "spec": broken["spec"],
                "metadata": {"name": "broken", "labels": {"app": "budgeted", "not": "ours"}}})  # fmt: skip
    here.adopt("budgeted", settings={"workers": 3})
    waits = here.until("budgeted", "Ready", "False", "Waiting")
    assert "waits until PodDisruptionBudget budgeted allows a disruption again" in waits
    here.kubectl("delete", "pod", "broken", "--grace-period=0", "--force")
    here.until("budgeted", "Ready", "True", within_s=90)
