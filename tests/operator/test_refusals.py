"""What the API server itself says to a wrong WSGIServer: real schema, real CEL."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.cluster.kube import Cluster, CommandError

pytestmark = pytest.mark.cluster
APP = {"image": "registry/shop:1", "module": "shop.wsgi:application"}
SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
DIGEST = "registry:5000/wsgi-sidecar@sha256:" + "0" * 64


def manifest(name: str = "shop", **spec: Any) -> str:
    if "app" not in spec:
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
        (manifest(app=APP, workload={"name": "web"}), "exactly one of spec.workload"),
        (manifest(workload=None), "exactly one of spec.workload"),
        (manifest(app=APP | {"module": "shop.wsgi:"}), "spec.app.module"),
        (
            manifest(app=APP | {"drainSeconds": 30, "terminationGracePeriodSeconds": 30}),
            "drainSeconds must be less than",
        ),
        (
            manifest(app=APP, settings={"gracefulTimeoutSeconds": 60}),
            "together must be less than spec.app.terminationGracePeriodSeconds",
        ),
        (manifest(app=APP | {"podDisruptionBudget": {}}), "exactly one of minAvailable and maxUnavailable"),
        (
            manifest(app=APP | {"env": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}),
            "a variable has either value or valueFrom",
        ),
        (manifest(app=APP | {"env": [{"name": "A", "valueFrom": {}}]}), "valueFrom takes exactly one of"),
        (manifest(app=APP | {"envFrom": [{"prefix": "A_"}]}), "exactly one of configMapRef and secretRef"),
        (manifest(app=APP | {"resources": {"limits": {"memory": "much"}}}), "spec.app.resources.limits.memory"),
        (manifest(tuning={"bounds": {"workers": {"min": 5, "max": 4}}}), "min must not be above max"),
        (
            manifest(settings={"workers": 9}, tuning={"bounds": {"workers": {"min": 2, "max": 8}}}),
            "spec.settings.workers lies outside of spec.tuning.bounds.workers",
        ),
        (
            manifest(settings={"timeoutSeconds": 10}, tuning={"bounds": {"timeoutSeconds": {"min": 30}}}),
            "spec.settings.timeoutSeconds lies outside",
        ),
        (manifest(tuning={"windows": [{"start": "25:00", "end": "06:00"}]}), "spec.tuning.windows[0].start"),
        (manifest(tuning={"windows": [{"start": "06:00", "end": "06:00"}]}), "start and end must differ"),
        (manifest(tuning={"windows": [{"days": ["Sunday"], "start": "06:00", "end": "07:00"}]}), '"Sun"'),
        (manifest(monitoring={"requests": {"forward": "statsd"}}), "spec.monitoring.requests.forward"),
        (manifest(watchdog={"memoryRecyclePercent": 100}), "spec.watchdog.memoryRecyclePercent"),
        (manifest(watchdog={"mode": "Maybe"}), 'supported values: "Enforce", "DryRun"'),
        (manifest(app=APP, server="uwsgi"), "spec.app is for gunicorn"),
        (manifest(name="shop.v2", app=APP), "metadata.name is also the name of a Service"),
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
        manifest(app=APP),
        manifest(
            app=APP
            | {
                "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": SECRET}],
                "envFrom": [{"configMapRef": {"name": "c"}}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
                "podDisruptionBudget": {"maxUnavailable": 1},
                "drainSeconds": 10,
            },
            settings={"workers": 2, "gracefulTimeoutSeconds": 30},
            tuning={
                "apply": "InPlace",
                "bounds": {"workers": {"min": 2, "max": 8}},
                "windows": [{"days": ["Sat", "Sun"], "start": "22:00", "end": "06:00", "timeZone": "Europe/Berlin"}],
            },
            monitoring={"podMonitor": {"labels": {"release": "x"}}, "requests": {"forward": "statsd.tools:8125"}},
            watchdog={"orphanExempt": ["celery*"], "memoryRecyclePercent": 90},
        ),
    ],
    ids=["as short as it can be", "zero is a timeout", "a digest is a version", "an app", "an app with all of it"],
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
