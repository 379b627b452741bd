"""The examples: what their page says is so, the API server takes them, the one that needs no operator works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.charts.examples import EXAMPLES, MANIFESTS, objects, pods
from tests.charts.rendered import CRD, render
from tests.cluster.kube import ROOT, Cluster, Images, eventually

PLACEHOLDER = "registry.example.com/"


def test_the_page_names_each_folder_and_no_other() -> None:
    named = set(re.findall(r"^\| \[([a-z-]+)/\]\(\1/\)", (EXAMPLES / "README.md").read_text("utf-8"), re.MULTILINE))
    assert named == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}


@pytest.mark.parametrize(("where", "pod"), list(pods()), ids=[where for where, _ in pods()])
def test_each_pod_is_what_restricted_pod_security_asks_for(where: str, pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["image"].startswith(PLACEHOLDER)
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize(("where", "pod"), list(pods()), ids=[where for where, _ in pods()])
def test_gunicorn_has_time_to_finish_before_the_kubelet_kills(where: str, pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    flags = next((entry["value"] for entry in container.get("env", ()) if entry["name"] == "GUNICORN_CMD_ARGS"), None)
    if flags is None:
        return
    graceful = re.search(r"--graceful-timeout=(\d+)", flags)
    assert graceful
    slept = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert slept + int(graceful[1]) < pod["terminationGracePeriodSeconds"]


def test_each_wsgiserver_names_a_workload_and_a_container_that_its_folder_has() -> None:
    for path in (path for path in MANIFESTS if path.name == "wsgiserver.yaml"):
        (server,) = objects(path)
        workload = server["spec"].get("workload")
        if workload is None:
            assert "app" in server["spec"]
            continue
        deployment = next(thing for thing in objects(path.parent / "deployment.yaml") if thing["kind"] == "Deployment")
        assert deployment["metadata"]["name"] == workload["name"]
        assert workload["container"] in {each["name"] for each in deployment["spec"]["template"]["spec"]["containers"]}


def test_the_network_policy_lets_in_whom_the_chart_installs() -> None:
    (policy,) = objects(EXAMPLES / "network-policy" / "workloads.yaml")
    operator = policy["spec"]["ingress"][1]["from"][0]["podSelector"]["matchLabels"]
    deployment = next(thing for thing in render({}) if thing["kind"] == "Deployment")
    assert operator.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


@pytest.fixture(scope="module")
def crd(cluster: Cluster) -> None:
    """The CRD of this tree."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    cluster.established("wsgiservers.wsgi.dev")


@pytest.mark.cluster
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_api_server_takes_each_example_without_a_warning(
    cluster: Cluster, namespace: str, crd: None, path: Path
) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    flags = ("--dry-run=server", "--validate=strict", "--warnings-as-errors")
    cluster.apply(*objects(path), namespace=namespace, args=flags)


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_the_sidecar_by_hand_watches_probes_and_tells_without_an_operator(
    cluster: Cluster, images: Images, namespace: str
) -> None:
    shop = cluster.load_image("shop", "dev", ROOT / "demo" / "app")
    text = (EXAMPLES / "by-hand" / "deployment.yaml").read_text("utf-8")
    text = text.replace(f"{PLACEHOLDER}shop:1.0.0", shop.ref).replace(
        f"{PLACEHOLDER}wsgi-sidecar:0.1.0", images.sidecar.ref
    )
    assert PLACEHOLDER not in text
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)
    cluster.kubectl("rollout", "status", "deployment/shop", "-n", namespace, "--timeout=180s")
    pod = eventually(lambda: cluster.get("pods", namespace=namespace, selector="app=shop")["items"])[0]
    door = f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}:9177/proxy"
    report = eventually(lambda: seen(cluster, f"{door}/report"))
    assert report["unknowns"] == []
    assert len(report["workers"]) == 2
    assert report["policy"]["kills_per_minute"] == 6
    assert report["pod"]["namespace"] == namespace
    assert [finding["id"] for finding in report["findings"] if "grace" in finding["id"]] == []


def seen(cluster: Cluster, door: str) -> dict[str, Any] | None:
    """The report, once it names both workers."""
    report = dict(json.loads(cluster.kubectl("get", "--raw", door)))
    return report if len(report["workers"] or ()) == 2 else None
