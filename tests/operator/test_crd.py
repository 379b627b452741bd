"""The resource's models and the CRD made from them, without an API server."""

from pathlib import Path

import pytest
import yaml

from wsgi_contract.policy import Policy
from wsgi_contract.settings import Wanted
from wsgi_operator.core.app import App, Monitoring, PodMonitor, Requests, Service
from wsgi_operator.core.server import DEFAULT_RESOURCES, SPEC_NAMES, Obstacle, Server, Sidecar
from wsgi_operator.crd import definition, parse_server
from wsgi_operator.resource.settings import SettingsSpec
from wsgi_operator.testing import IMAGE

ROOT = Path(__file__).parents[2]
DEFAULT = Sidecar(image=IMAGE, pull_policy="Never")


def body(**spec):
    metadata = {
        "name": "shop",
        "namespace": "default",
        "uid": "u",
        "generation": 4,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"metadata": metadata, "spec": {"workload": {"name": "web"}} | spec}


def parsed(**spec):
    server = parse_server(body(**spec), DEFAULT)
    assert isinstance(server, Server), server
    return server


def test_the_crd_in_the_chart_is_the_one_that_the_models_make():
    on_disk = yaml.safe_load((ROOT / "charts/wsgi-operator/crds/wsgiservers.yaml").read_text())
    assert on_disk == definition(), "run: python -m wsgi_operator.crd > charts/wsgi-operator/crds/wsgiservers.yaml"


def test_every_field_is_explained():
    def unexplained(schema, path):
        for name, part in schema.get("properties", {}).items():
            here = f"{path}.{name}"
            if "description" not in part:
                yield here
            yield from unexplained(part, here)
            yield from unexplained(part.get("items", {}), f"{here}[]")

    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert list(unexplained(schema["properties"]["spec"], "spec")) == []
    assert list(unexplained(schema["properties"]["status"], "status")) == []


def test_kubectl_get_shows_what_was_asked_for_and_the_rest_only_if_asked():
    columns = definition()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == [
        "Mode", "Workers", "Threads", "Timeout", "Ready", "Saturation", "Incidents", "Age",
    ]  # fmt: skip
    assert [column["name"] for column in columns if column.get("priority") == 1] == [
        "Workload", "Pods", "Kills", "Watchdog", "Reason", "Message",
    ]  # fmt: skip


def test_every_rule_says_what_to_do_in_a_sentence():
    def rules(schema):
        yield from schema.get("x-kubernetes-validations", ())
        for part in schema.get("properties", {}).values():
            yield from rules(part)

    found = list(rules(definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    assert len(found) >= 5
    assert all(len(rule["message"].split()) > 8 for rule in found)


def test_a_short_resource_gets_the_operators_defaults():
    server = parsed()
    assert server.wanted == Wanted()
    assert server.policy == Policy()
    assert (server.sidecar.image, server.sidecar.pull_policy) == (IMAGE, "Never")
    assert server.sidecar.resources == DEFAULT_RESOURCES
    assert (server.workload, server.container, server.generation) == ("web", None, 4)


def test_a_full_resource_is_read_in_our_units():
    server = parsed(
        workload={"kind": "Deployment", "name": "web", "container": "app"},
        settings={"workers": 2, "timeoutSeconds": 60, "maxRequests": 10, "maxRequestsJitter": 5},
        watchdog={
            "mode": "DryRun", "frozenWindowSeconds": 7, "killsPerMinute": 1, "cooldownSeconds": 3,
            "requestToldSeconds": 60, "requestLimitSeconds": 90, "bootLimitSeconds": 0, "stacks": False,
            "stuckWindowSeconds": 9, "endOrphans": False, "orphanExempt": ["celery*"], "memoryRecyclePercent": 85,
            "bootToldSeconds": 45, "probeGraceSeconds": 20, "probeQueuePercent": 50, "onlyIfQueue": True,
        },
        sidecar={
            "image": "x:2", "imagePullPolicy": "Always", "runAsUser": 5, "port": 9200,
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
        },
    )  # fmt: skip
    assert server.wanted == Wanted(workers=2, timeout_s=60, max_requests=10, max_requests_jitter=5)
    assert server.policy == Policy(
        mode="DryRun",
        frozen_window_s=7.0,
        kills_per_minute=1,
        cooldown_s=3.0,
        request_told_s=60.0,
        request_limit_s=90.0,
        boot_limit_s=0.0,
        stacks=False,
        stuck_window_s=9.0,
        end_orphans=False,
        orphan_exempt=("celery*",),
        memory_recycle_share=0.85,
        boot_told_s=45.0,
        probe_grace_s=20.0,
        probe_queue_share=0.5,
        only_if_queue=True,
    )
    assert server.sidecar == Sidecar(
        image="x:2",
        pull_policy="Always",
        run_as_user=5,
        port=9200,
        resources={"limits": {"cpu": "1", "memory": "1Gi"}},
        named=True,
    )


@pytest.mark.parametrize("spec", [{"app": {}}, {"workload": {"kind": "DaemonSet", "name": "x"}}, {"settings": []}])
def test_a_resource_of_another_version_is_an_obstacle_and_no_crash(spec):
    found = parse_server(body(**spec), DEFAULT)
    assert isinstance(found, Obstacle)
    assert found.reason == "InvalidSpec"
    assert "upgrade the chart's CRD" in found.message


def test_an_app_is_read_as_kubernetes_takes_its_parts():
    app = {
        "image": "shop:1", "module": "shop:app", "containerName": "web", "serviceAccountName": "shop",
        "imagePullSecrets": [{"name": "pull"}], "args": ["--preload"], "replicas": 2, "drainSeconds": 3,
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}],
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}],
        "resources": {"limits": {"memory": "1Gi"}}, "podDisruptionBudget": {"minAvailable": 1},
        "service": {"type": "NodePort", "port": 81, "annotations": {"a": "b"}},
    }  # fmt: skip
    found = parse_server(
        body(app=app) | {"spec": {"app": app, "monitoring": {"podMonitor": {}, "requests": {}}}}, DEFAULT
    )
    assert isinstance(found, Server)
    assert (found.kind, found.workload, found.container, found.runs) == ("Deployment", "shop", "web", None)
    assert found.app == App(
        image="shop:1",
        module="shop:app",
        container="web",
        service_account="shop",
        pull_secrets=("pull",),
        args=("--preload",),
        replicas=2,
        drain_s=3,
        env=({"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},),
        env_from=({"prefix": "P_", "configMapRef": {"name": "c"}},),
        resources={"limits": {"memory": "1Gi"}},
        disruption={"minAvailable": 1},
        service=Service(type="NodePort", port=81, annotations={"a": "b"}),
    )
    assert found.monitoring == Monitoring(pod_monitor=PodMonitor(), requests=Requests())


@pytest.mark.parametrize(("said", "runs"), [("auto", None), ("gunicorn", "gunicorn"), ("uwsgi", "uwsgi")])
def test_which_server_it_is_may_be_left_to_the_pods(said, runs):
    assert parsed(server=said).runs == runs


def test_settings_are_called_the_same_in_spec_and_status():
    fields = {field.alias for field in SettingsSpec.model_fields.values()}
    assert fields <= set(SPEC_NAMES.values())
