"""`spec.app` on the real API server: what is made, changed, taken away, left alone. No pods are needed for that."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

KINDS = ("deployment", "service", "pdb")
FULL: dict[str, Any] = {
    "args": ["--access-logfile=-"],
    "replicas": 0,
    "env": [{"name": "A", "value": ""}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "envFrom": [{"configMapRef": {"name": "c", "optional": True}}],
    "resources": {"requests": {"cpu": "0.1", "memory": "64Mi"}, "limits": {"memory": "0.25Gi"}},
    "imagePullSecrets": [{"name": "pull"}],
    "service": {"port": 8080, "annotations": {"a": "b"}},
    "podDisruptionBudget": {"maxUnavailable": 1},
}


def make(here: Ground, name: str, *, spec: dict[str, Any] | None = None, **app: Any) -> None:
    """Create (or change) the WSGIServer of an app without pods, unless it says otherwise."""
    app = {"image": "localhost/nothing:1", "module": "app:app", "replicas": 0, "imagePullPolicy": "Never"} | app
    app = {key: value for key, value in app.items() if value is not None}
    body = {"apiVersion": "wsgi.dev/v1alpha1", "kind": "WSGIServer", "metadata": {"name": name}}
    here.apply(body | {"spec": {"app": app} | (spec or {})})


def thing(here: Ground, kind: str, name: str) -> dict[str, Any] | None:
    said = here.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
    return dict(json.loads(said)) if said else None


def version(here: Ground, kind: str, name: str) -> str:
    body = thing(here, kind, name)
    assert body is not None
    return str(body["metadata"]["resourceVersion"])


def test_an_app_gets_all_that_it_asks_for_and_then_peace(here: Ground):
    make(here, "full", spec={"settings": {"workers": 2}}, **FULL)
    here.until("full", "Ready", "True")
    uid = here.server("full")["metadata"]["uid"]
    for kind in KINDS:
        body = thing(here, kind, "full")
        assert body is not None
        assert [(owner["uid"], owner["controller"]) for owner in body["metadata"]["ownerReferences"]] == [(uid, True)]
    before = [version(here, kind, "full") for kind in (*KINDS, "wsgi")]
    time.sleep(3)
    assert [version(here, kind, "full") for kind in (*KINDS, "wsgi")] == before
    assert here.replica_sets_of("wsgi.dev/app=full") == 1
    assert here.server("full")["status"]["workload"] == "Deployment/full"


def test_what_goes_from_the_spec_goes_from_the_cluster(here: Ground):
    make(here, "less", **FULL)
    here.until("less", "Ready", "True")
    make(here, "less")
    here.until("less", "Ready", "True")
    eventually(lambda: thing(here, "pdb", "less") is None)
    service, workload = thing(here, "service", "less"), here.deployment("less")
    assert service is not None
    web = workload["spec"]["template"]["spec"]["containers"][0]
    assert list(service["metadata"]["annotations"]) == ["wsgi.dev/applied"]
    assert service["spec"]["ports"][0]["port"] == 80
    assert "--access-logfile=-" not in web["args"]
    assert [entry["name"] for entry in web["env"]] == ["XDG_RUNTIME_DIR"]
    assert "envFrom" not in web
    assert web["resources"] == {}


def test_another_image_rolls_once_and_is_told(here: Ground):
    make(here, "rolled", spec={"settings": {"workers": 2}})
    here.until("rolled", "Ready", "True")
    make(here, "rolled", image="localhost/nothing:2", spec={"settings": {"workers": 2}})
    here.until("rolled", "Ready", "True")
    assert here.replica_sets_of("wsgi.dev/app=rolled") == 2
    line = here.server("rolled")["status"]["lastChanges"][0]
    assert (line["what"], line["before"], line["after"]) == ("app.image", "localhost/nothing:1", "localhost/nothing:2")


def test_an_app_goes_with_its_resource(here: Ground):
    make(here, "gone", **FULL)
    here.until("gone", "Ready", "True")
    here.release("gone")
    eventually(lambda: not any(thing(here, kind, "gone") for kind in KINDS))


def test_what_somebody_takes_out_of_an_app_is_put_back(here: Ground):
    make(here, "meddled", **FULL)
    here.until("meddled", "Ready", "True")
    good = here.template("meddled")
    here.kubectl("patch", "service", "meddled", "--type=merge", "-p", '{"spec":{"selector":{"wsgi.dev/app":"x"}}}')
    here.kubectl("set", "image", "deployment/meddled", "app=localhost/nothing:9")
    eventually(lambda: here.template("meddled") == good)
    service = eventually(lambda: thing(here, "service", "meddled"))
    assert service is not None
    eventually(lambda: (thing(here, "service", "meddled") or {})["spec"]["selector"] == {"wsgi.dev/app": "meddled"})
    here.kubectl("delete", "deployment,service,pdb", "meddled")
    eventually(lambda: all(thing(here, kind, "meddled") for kind in KINDS))


SERVICE = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}]}}
BUDGET = {
    "apiVersion": "policy/v1",
    "kind": "PodDisruptionBudget",
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
}


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget"])
def test_what_somebody_else_made_is_told_and_not_taken(here: Ground, kind: str):
    name = f"theirs-{kind.lower()}"
    theirs = {"Deployment": deployment(name), "Service": SERVICE, "PodDisruptionBudget": BUDGET}[kind]
    here.apply(theirs | {"metadata": {"name": name}})
    before = thing(here, kind, name)
    make(here, name, podDisruptionBudget={"minAvailable": 1})
    message = here.until(name, "Stalled", "True", "NotOurs")
    assert f"there is a {kind} {name} in namespace {here.namespace} that this WSGIServer did not make" in message
    assert before is not None
    now = thing(here, kind, name)
    assert now is not None
    assert (now["spec"], now["metadata"].get("ownerReferences")) == (before["spec"], None)
    here.kubectl("delete", kind, name)
    here.until(name, "Ready", "True")
    here.release(name)


def test_replicas_that_the_spec_names_no_more_stay_and_are_left_to_whoever_scales(here: Ground):
    def replicas() -> int:
        return int(here.deployment("scaled")["spec"]["replicas"])

    def shape(number: int | None) -> None:
        make(here, "scaled", replicas=number)
        eventually(lambda: here.condition("scaled", "Stalled"))

    shape(2)
    assert replicas() == 2
    shape(None)
    assert replicas() == 2
    here.kubectl("scale", "deployment", "scaled", "--replicas=3")
    make(here, "scaled", replicas=None, args=["--preload"])
    eventually(lambda: "--preload" in here.deployment("scaled")["spec"]["template"]["spec"]["containers"][0]["args"])
    assert replicas() == 3
    shape(1)
    assert replicas() == 1
    shape(None)
    assert replicas() == 1
    here.release("scaled")


def test_a_deployment_that_another_resource_adopts_is_no_apps(here: Ground):
    here.adopt("twice", server="adopter")
    here.until("adopter", "Stalled", "True", "WorkloadNotFound")
    time.sleep(1.1)  # creation times have seconds; the app must be younger
    make(here, "twice")
    assert "already belongs to WSGIServer adopter" in here.until("twice", "Stalled", "True", "AlreadyClaimed")
    assert thing(here, "deployment", "twice") is None
    here.release("adopter")
    here.until("twice", "Ready", "True")
    here.adopt("twice", server="late")
    assert "already belongs to WSGIServer twice" in here.until("late", "Stalled", "True", "AlreadyClaimed")
    here.release("late")
    assert "Restored" not in dict(here.events("WSGIServer", "late"))
    assert json.loads(here.template("twice"))["metadata"]["labels"]["wsgi.dev/server"] == "twice"


def test_an_operator_that_is_killed_in_between_leaves_no_half_of_an_app(here: Ground):
    here.kill()
    make(here, "late-app", **FULL)
    here.start()
    here.until("late-app", "Ready", "True")
    here.kill()
    make(here, "late-app")
    here.start()
    eventually(lambda: thing(here, "pdb", "late-app") is None)
    here.until("late-app", "Ready", "True")
