"""Tools that apply the owner's manifest again and again, on a workload whose owner sets GUNICORN_CMD_ARGS himself.

The real API server, kubectl and Helm; the chart's admission policy. Pods are made, and need not start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kube import eventually
from tests.operator.ground import Ground, deployment

pytestmark = pytest.mark.cluster

TIMES = 5
CMD = "GUNICORN_CMD_ARGS"
OWNERS = [{"name": "A", "value": "2"}, {"name": CMD, "value": "-w $(A)"}, {"name": "B", "value": "1"}]
ADDRESSED = {"wsgi.dev/container": "web", "wsgi.dev/flags": "--workers=3"}
INHERITING = ADDRESSED | {"wsgi.dev/inherited-flags": "--bind=:80"}
UWSGI = {"wsgi.dev/container": "web", "wsgi.dev/variables": "UWSGI_PROCESSES=4 UWSGI_HARAKIRI=60"}
SOURCE = {"configMapKeyRef": {"name": "c", "key": "k"}}


@pytest.fixture(autouse=True, scope="module")
def operator(here: Ground) -> Iterator[None]:
    here.give_policy()
    here.start(WSGI_OPERATOR_ADMISSION="true")
    yield
    assert here.stop() == 0


@pytest.mark.parametrize(
    ("annotations", "env", "expected"),
    [
        (INHERITING, None, [(CMD, "--bind=:80 --workers=3")]),
        (INHERITING, [{"name": "A", "value": "1"}], [("A", "1"), (CMD, "--bind=:80 --workers=3")]),
        (INHERITING, [{"name": CMD}], [(CMD, "--workers=3")]),
        (ADDRESSED, OWNERS, [("A", "2"), (CMD, "-w $(A) --workers=3"), ("B", "1")]),
        (ADDRESSED, [{"name": CMD, "value": "-w 2 --workers=3"}], [(CMD, "-w 2 --workers=3")]),
        (
            ADDRESSED,
            [{"name": "A", "value": "1"}, {"name": CMD, "valueFrom": SOURCE}],
            [("A", "1"), ("WSGI_OWNERS_CMD_ARGS", SOURCE), (CMD, "$(WSGI_OWNERS_CMD_ARGS) --workers=3")],
        ),
        (ADDRESSED | {"wsgi.dev/container": "gone"}, OWNERS, [("A", "2"), (CMD, "-w $(A)"), ("B", "1")]),
        ({"wsgi.dev/container": "web"}, OWNERS, [("A", "2"), (CMD, "-w $(A)"), ("B", "1")]),
        (UWSGI, None, [("UWSGI_PROCESSES", "4"), ("UWSGI_HARAKIRI", "60")]),
        (
            UWSGI,
            [{"name": "UWSGI_HARAKIRI", "value": "30"}, {"name": "A", "value": "1"}],
            [("UWSGI_HARAKIRI", "60"), ("A", "1"), ("UWSGI_PROCESSES", "4")],
        ),
        (
            UWSGI,
            [{"name": "UWSGI_PROCESSES", "valueFrom": SOURCE}, {"name": "A", "value": "1"}],
            [("UWSGI_PROCESSES", "4"), ("A", "1"), ("UWSGI_HARAKIRI", "60")],
        ),
    ],
)
def test_a_pod_gets_its_flags_behind_the_owners(here: Ground, annotations: Any, env: Any, expected: Any):
    spec = here.admitted(annotations, env=env)["spec"]
    assert spec["shareProcessNamespace"] is True
    assert [(e["name"], e.get("value", e.get("valueFrom"))) for e in spec["containers"][0]["env"]] == expected


def test_a_pod_that_is_not_adopted_is_left_alone(here: Ground):
    spec = here.admitted({}, env=OWNERS)["spec"]
    assert (spec.get("shareProcessNamespace"), spec["containers"][0]["env"]) == (None, OWNERS)


def by_kubectl(here: Ground, name: str, manifest: dict[str, Any]) -> None:
    here.apply(manifest)


def by_server_side_apply(here: Ground, name: str, manifest: dict[str, Any]) -> None:
    here.apply(manifest, args=("--server-side", "--field-manager=gitops"))


def by_helm(here: Ground, name: str, manifest: dict[str, Any]) -> None:
    chart = here.folder / name
    (chart / "templates").mkdir(parents=True, exist_ok=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 0.1.0\n")
    (chart / "templates" / "all.yaml").write_text(yaml.safe_dump(manifest))
    here.cluster.helm("upgrade", "--install", "--server-side=true", "-n", here.namespace, name, str(Path(chart)))


@pytest.mark.parametrize("deploy", [by_kubectl, by_server_side_apply, by_helm])
def test_nobody_loses_anything_however_often_the_manifest_is_applied(here: Ground, deploy: Callable[..., None]):
    name = deploy.__name__.replace("_", "-")
    manifest = deployment(name, env=OWNERS, pod={"shareProcessNamespace": False})
    deploy(here, name, manifest)
    owners = here.template(name)
    here.adopt(name, settings={"workers": 3})
    here.until(name, "Ready", "True")
    adopted = here.template(name)
    for _ in range(TIMES):
        deploy(here, name, manifest)
        assert here.template(name) == adopted
    changed = deployment(name, env=[*OWNERS[:1], {"name": CMD, "value": "-w 4 --log-level=debug"}], pod=SHARED)
    for _ in range(TIMES):
        deploy(here, name, changed)
    here.until(name, "Ready", "True")
    assert here.replica_sets(name) == 3  # the owner's, the adopted, the changed; each exactly once
    assert json.loads(here.template(name))["spec"]["containers"][0]["env"] == changed_env(changed)
    deploy(here, name, manifest)
    here.release(name)
    assert here.template(name) == owners
    assert here.replica_sets(name) == 3
    deploy(here, name, manifest)
    assert here.template(name) == owners


SHARED = {"shareProcessNamespace": False}


def changed_env(manifest: dict[str, Any]) -> Any:
    return manifest["spec"]["template"]["spec"]["containers"][0]["env"]


def test_pods_that_were_made_without_the_policy_are_told_and_so_is_the_way_out(here: Ground):
    here.apply(deployment("bare", replicas=1, env=OWNERS, imagePullPolicy="Never"))
    here.adopt("bare", settings={"workers": 3})
    eventually(
        lambda: (
            flags_of(here, "bare") == {"-w $(A)", "-w $(A) --workers=3"}
            or flags_of(here, "bare") == {"-w $(A) --workers=3"}
        )
    )
    here.until("bare", "Injected", "True")
    here.take_policy()
    eventually(lambda: not here.admitted({"wsgi.dev/container": "web"})["spec"].get("shareProcessNamespace"))
    here.kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
    assert "helm upgrade brings them back" in here.until("bare", "Injected", "False", "PolicyMissing")
    here.give_policy()
    here.kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
    here.until("bare", "Injected", "True")
    here.kubectl("scale", "deployment", "bare", "--replicas=0")
    here.until("bare", "Ready", "True")


def flags_of(here: Ground, name: str) -> set[str]:
    pods = here.get("pods", selector=f"app={name}")["items"]
    return {e["value"] for pod in pods for e in pod["spec"]["containers"][0]["env"] if e["name"] == CMD}
