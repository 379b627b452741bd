"""StatefulSets: how far their roll is, and that they are adopted and given back as Deployments are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment
from wsgi_operator import testing
from wsgi_operator.core.rollout import rollout


def stateful(strategy: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """Three pods of one revision, all available."""
    body = testing.deployment(generation=2) | {"kind": "StatefulSet"}
    body["spec"] |= {"replicas": 3, "updateStrategy": strategy or {"type": "RollingUpdate"}}
    calm = {"observedGeneration": 2, "replicas": 3, "currentReplicas": 3, "updatedReplicas": 3, "availableReplicas": 3}
    body["status"] = calm | {"currentRevision": "a", "updateRevision": "a"} | status
    return body


ROLLING: dict[str, Any] = {"updateRevision": "b", "currentReplicas": 2, "updatedReplicas": 1}


@pytest.mark.parametrize(
    ("body", "done", "words"),
    [
        (stateful(), True, "all 3 pods"),
        (stateful(observedGeneration=1), False, "about to begin"),
        (stateful(**ROLLING), False, "1 of 3 pods carry the new template"),
        (stateful(**ROLLING | {"updatedReplicas": 3}, availableReplicas=2), False, "2 of 3 pods are available"),
        (stateful({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, **ROLLING), True, "all 3 pods"),
        (stateful({"type": "OnDelete"}, **ROLLING), False, "OnDelete, delete the others"),
        (stateful({"type": "OnDelete"}, updateRevision="b", currentReplicas=0), True, "all 3 pods"),
    ],
)
def test_a_roll_is_judged_by_strategy(body: dict[str, Any], done: bool, words: str):
    found = rollout(body)
    assert (found.done, found.failed) == (done, False)
    assert words in found.message


@pytest.mark.cluster
@pytest.mark.usefixtures("operator")
def test_a_stateful_set_is_adopted_and_comes_back_byte_for_byte(here: Ground):
    manifest = deployment("db", env=[{"name": "GUNICORN_CMD_ARGS", "value": "-w 2"}]) | {"kind": "StatefulSet"}
    manifest["spec"] |= {"serviceName": "db"}
    here.apply(manifest)

    def template() -> Any:
        return here.get("statefulsets", "db")["spec"]["template"]

    before = template()
    here.adopt("db", workload={"kind": "StatefulSet", "name": "db"}, settings={"workers": 3})
    here.until("db", "Ready", "True")
    spec = template()["spec"]
    assert spec["initContainers"][0]["name"] == "wsgi-sidecar"
    assert spec["containers"][0]["env"][0]["value"] == "-w 2 --workers=3"
    assert "StatefulSet db rolls" in here.events("WSGIServer", "db")[0][1]
    here.kubectl(
        "patch",
        "statefulset",
        "db",
        "--type=json",
        "-p",
        '[{"op":"remove","path":"/spec/template/spec/initContainers"}]',
    )
    eventually(lambda: template()["spec"].get("initContainers"), within_s=20)
    here.release("db")
    assert template() == before


@pytest.mark.cluster
@pytest.mark.usefixtures("operator")
def test_a_deployment_and_a_stateful_set_of_one_name_are_two_workloads(here: Ground):
    here.apply(deployment("same"), deployment("same") | {"kind": "StatefulSet"})
    here.adopt("same", server="stateless")
    here.adopt("same", server="stateful", workload={"kind": "StatefulSet", "name": "same"})
    here.until("stateless", "Ready", "True")
    here.until("stateful", "Ready", "True")
