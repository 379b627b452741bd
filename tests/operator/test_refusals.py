"""What the API server itself says to a wrong WSGIServer: real schema, real CEL."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.cluster.kube import Cluster, CommandError

pytestmark = pytest.mark.cluster
DIGEST = "registry:5000/wsgi-sidecar@sha256:" + "0" * 64


def manifest(name: str = "shop", **spec: Any) -> str:
    spec = {"workload": {"name": "web"}} | spec
    return yaml.safe_dump(
        {"apiVersion": "wsgi.dev/v1alpha1", "kind": "WSGIServer", "metadata": {"name": name}, "spec": spec}
    )


def tried(cluster: Cluster, text: str) -> str:
    return cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (manifest(settings={"timeoutSeconds": 1}), "timeoutSeconds must be 0 (no timeout) or at least 3"),
        (manifest(settings={"maxRequestsJitter": 5}), "set maxRequests above 0 as well, or remove maxRequestsJitter"),
        (manifest(settings={"maxRequests": 0, "maxRequestsJitter": 5}), "set maxRequests above 0"),
        (
            manifest(settings={"workers": 0}),
            "spec.settings.workers: Invalid value: 0: spec.settings.workers in body should be",
        ),
        (manifest(settings={"workers": "four"}), "must be of type integer"),
        (manifest(settings={"wokers": 4}), 'unknown field "spec.settings.wokers"'),
        (
            manifest(sidecar={"image": "wsgi-sidecar:latest"}),
            "image needs a version, as name:tag or name@sha256:digest",
        ),
        (manifest(sidecar={"image": "registry:5000/wsgi-sidecar"}), "nobody can say which sidecar a pod runs"),
        (manifest(sidecar={"port": 80}), "spec.sidecar.port"),
        (manifest(sidecar={"resources": {"limits": {"memory": "much"}}}), "spec.sidecar.resources.limits.memory"),
        (manifest(workload={"kind": "DaemonSet", "name": "web"}), 'supported values: "Deployment", "StatefulSet"'),
        (manifest(workload={"kind": "Deployment"}), "spec.workload.name: Required value"),
        (manifest(watchdog={"mode": "Maybe"}), 'supported values: "Enforce", "DryRun"'),
        (manifest(name="a" * 64), "metadata.name may have at most 63 characters"),
    ],
)
def test_a_wrong_resource_is_refused_with_a_sentence_that_helps(resource: Cluster, text: str, words: str):
    with pytest.raises(CommandError) as refusal:
        tried(resource, text)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        manifest(),
        manifest(settings={"timeoutSeconds": 0, "maxRequests": 100, "maxRequestsJitter": 10}),
        manifest(sidecar={"image": DIGEST, "resources": {"limits": {"cpu": 1, "memory": "64Mi"}}}),
    ],
    ids=["as short as it can be", "zero is a timeout", "a digest is a version"],
)  # fmt: skip
def test_a_right_resource_is_accepted(resource: Cluster, text: str):
    assert "created" in tried(resource, text)


def test_another_workload_is_another_resource(resource: Cluster, namespace: str):
    resource.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest())
    with pytest.raises(CommandError, match=r"spec\.workload cannot be changed: delete this WSGIServer"):
        resource.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest(workload={"name": "other"}))


def test_kubectl_explains_each_field(resource: Cluster):
    told = resource.kubectl("explain", "wsgi.spec.settings.timeoutSeconds")
    assert "Seconds without a heartbeat" in " ".join(told.split())
