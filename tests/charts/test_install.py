"""The chart on a real cluster: installed, used, uninstalled with workloads adopted, installed again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import yaml

from tests.charts.monitoring import monitoring_crds
from tests.charts.rendered import CHART, CRD, VARIANTS, Values, one, render
from tests.charts.test_rendered import GRANTED, granted
from tests.cluster.kube import ROOT, Cluster, Image, Images, eventually

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(600)]

SHOP = {
    "apiVersion": "wsgi.dev/v1alpha1",
    "kind": "WSGIServer",
    "metadata": {"name": "shop"},
    "spec": {"workload": {"name": "shop", "container": "web"}, "settings": {"workers": 1}},
}


@pytest.fixture(scope="module")
def crd(cluster: Cluster) -> None:
    """The CRD of this tree: Helm installs one where there is none, and leaves an older one alone."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    cluster.established("wsgiservers.wsgi.dev")


@pytest.fixture(scope="module")
def shop_image(cluster: Cluster) -> Image:
    """An ordinary app that knows nothing of us."""
    return cluster.load_image("shop", "dev", ROOT / "demo" / "app")


@pytest.fixture
def operator(cluster: Cluster, images: Images, namespace: str, crd: None) -> Iterator[None]:
    """The operator, installed for one namespace, in that namespace."""
    install(cluster, images, namespace, f"watch.namespaces={{{namespace}}}")
    yield
    let_all_go(cluster, namespace)
    cluster.helm("uninstall", namespace, "--namespace", namespace, "--ignore-not-found", "--wait")


@pytest.mark.usefixtures("operator")
def test_install_wait_gives_a_ready_operator_under_restricted_pod_security(cluster: Cluster, namespace: str) -> None:
    deployment = cluster.get("deployments", f"{namespace}-wsgi-operator", namespace=namespace)
    assert deployment["status"]["readyReplicas"] == 1
    (pod,) = cluster.get("pods", namespace=namespace)["items"]
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.usefixtures("operator")
def test_the_account_can_do_what_its_role_says_and_nothing_else(cluster: Cluster, namespace: str) -> None:
    nobody = rules_of(cluster, namespace, "default")
    account = rules_of(cluster, namespace, f"{namespace}-wsgi-operator")
    assert granted([rule for rule in account if rule not in nobody]) == GRANTED
    elsewhere = rules_of(cluster, namespace, f"{namespace}-wsgi-operator", looking_at="kube-system")
    assert [rule for rule in elsewhere if rule not in nobody] == []


def test_without_namespaces_named_it_serves_all_of_them(
    cluster: Cluster, images: Images, namespace: str, crd: None, shop_image: Image
) -> None:
    system = f"{namespace}-system"
    cluster.kubectl("create", "namespace", system)
    try:
        install(cluster, images, system)
        open_shop(cluster, namespace, shop_image)
        cluster.apply(SHOP, namespace=namespace)
        eventually(lambda: is_ready(cluster, namespace), within_s=120)
        nobody = rules_of(cluster, system, "default")
        for anywhere in (system, namespace, "kube-system"):
            account = rules_of(cluster, system, f"{system}-wsgi-operator", looking_at=anywhere)
            assert granted([rule for rule in account if rule not in nobody]) == GRANTED
        let_all_go(cluster, namespace)
    finally:
        let_all_go(cluster, namespace)
        cluster.helm("uninstall", system, "--namespace", system, "--ignore-not-found", "--wait")
        cluster.kubectl("delete", "namespace", system, "--wait=false")


@pytest.mark.usefixtures("operator")
def test_uninstalled_with_a_shop_adopted_the_shop_serves_and_a_later_install_gives_it_back(
    cluster: Cluster, images: Images, namespace: str, shop_image: Image
) -> None:
    open_shop(cluster, namespace, shop_image)
    before = template(cluster, namespace)
    cluster.apply(SHOP, namespace=namespace)
    eventually(lambda: is_ready(cluster, namespace), within_s=120)
    pods = eventually(lambda: adopted_pods(cluster, namespace), within_s=60)

    wanted = stored_spec(cluster, namespace)
    cluster.helm("uninstall", namespace, "--namespace", namespace, "--wait")
    assert stored_spec(cluster, namespace) == wanted
    assert answer(cluster, namespace) == "three apples, two pears\n"
    assert adopted_pods(cluster, namespace) == pods
    assert report(cluster, namespace, pods[0])["server"]["kind"] == "gunicorn"

    cluster.kubectl("delete", "wsgi", "shop", "-n", namespace, "--wait=false")
    assert cluster.get("wsgiservers", "shop", namespace=namespace)["metadata"]["finalizers"] == [
        "wsgi.dev/restore-template"
    ]
    assert answer(cluster, namespace) == "three apples, two pears\n"

    install(cluster, images, namespace, f"watch.namespaces={{{namespace}}}")
    eventually(lambda: not wsgiservers(cluster, namespace), within_s=60)
    assert template(cluster, namespace) == before


def test_the_patch_that_the_notes_name_lets_a_wsgiserver_go_without_an_operator(
    cluster: Cluster, namespace: str, crd: None
) -> None:
    finalizers = ["wsgi.dev/restore-template"]
    cluster.apply({**SHOP, "metadata": {"name": "shop", "finalizers": finalizers}}, namespace=namespace)
    cluster.kubectl("delete", "wsgi", "shop", "-n", namespace, "--wait=false")
    command = re.search(r"kubectl (patch wsgi NAME -n NAMESPACE .*)$", notes(), re.MULTILINE)
    assert command
    words = command[1].replace("NAMESPACE", namespace).replace("NAME", "shop").replace("'", "").split()
    cluster.kubectl(*words)
    eventually(lambda: not wsgiservers(cluster, namespace), within_s=30)


def test_the_example_of_the_notes_is_one_that_the_api_server_takes(cluster: Cluster, namespace: str, crd: None) -> None:
    example = re.search(r"<<'EOF'\n(.*?)\n *EOF", notes(), re.DOTALL)
    assert example
    wanted = yaml.safe_load("\n".join(line.removeprefix("    ") for line in example[1].splitlines()))
    wanted["metadata"]["namespace"] = namespace
    cluster.apply(wanted, namespace=namespace, args=("--dry-run=server", "--validate=strict"))


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_api_server_takes_every_object_to_the_letter(cluster: Cluster, namespace: str, values: Values) -> None:
    if values.get("watch"):
        values = {**values, "watch": {"namespaces": [namespace]}}
    things = render(values, release="dry", namespace=namespace)
    # a dry run makes no account, and no pod is taken without its own: `helm test` has one
    account = one(things, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
    cluster.kubectl("create", "serviceaccount", account, "-n", namespace)
    with monitoring_crds(cluster) if values.get("podMonitor") else nullcontext():
        cluster.apply(*things, namespace=namespace, args=("--dry-run=server", "--validate=strict"))


def install(cluster: Cluster, images: Images, namespace: str, *settings: str) -> None:
    """Helm install --wait; the release is called like its namespace, so that two tests never share a ClusterRole."""
    chosen = (
        f"image.repository={images.operator.repository},image.tag={images.operator.tag}",
        f"sidecar.image.repository={images.sidecar.repository},sidecar.image.tag={images.sidecar.tag}",
        "reports.intervalSeconds=1",
        *settings,
    )
    words = [word for setting in chosen for word in ("--set", setting)]
    cluster.helm("install", namespace, str(CHART), "--namespace", namespace, "--wait", "--timeout", "120s", *words)


def open_shop(cluster: Cluster, namespace: str, image: Image) -> None:
    """The demo's ordinary app, rolled out."""
    manifest = (ROOT / "demo" / "app" / "shop.yaml").read_text(encoding="utf-8").replace("$(SHOP_IMAGE)", image.ref)
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=manifest)
    cluster.kubectl("rollout", "status", "deployment/shop", "-n", namespace, "--timeout=120s")


def let_all_go(cluster: Cluster, namespace: str) -> None:
    """No WSGIServer left behind: one with a finalizer and no operator would hold its namespace for ever."""
    cluster.kubectl("delete", "wsgi", "--all", "-n", namespace, "--timeout=60s")


def template(cluster: Cluster, namespace: str) -> str:
    """The shop's pod template, to the letter."""
    return cluster.kubectl("get", "deployment", "shop", "-n", namespace, "-o", "jsonpath={.spec.template}")


def wsgiservers(cluster: Cluster, namespace: str) -> list[Any]:
    """All of the namespace."""
    return list(cluster.get("wsgiservers", namespace=namespace)["items"])


def stored_spec(cluster: Cluster, namespace: str) -> Any:
    """The spec, with the defaults that the API server wrote into it."""
    (server,) = wsgiservers(cluster, namespace)
    return server["spec"]


def is_ready(cluster: Cluster, namespace: str) -> bool:
    """Whether the operator has seen the newest spec at work."""
    server = cluster.get("wsgiservers", "shop", namespace=namespace)
    conditions = {c["type"]: c["status"] for c in server.get("status", {}).get("conditions", [])}
    seen = server.get("status", {}).get("observedGeneration") == server["metadata"]["generation"]
    return seen and conditions.get("Ready") == "True"


def adopted_pods(cluster: Cluster, namespace: str) -> list[str]:
    """Names of the shop's staying pods, once each has the sidecar."""
    pods = [p for p in cluster.get("pods", namespace=namespace, selector="app=shop")["items"] if not _leaves(p)]
    ours = [p for p in pods if "wsgi-sidecar" in {c["name"] for c in p["spec"].get("initContainers", [])}]
    return [p["metadata"]["name"] for p in ours] if len(ours) == len(pods) else []


def answer(cluster: Cluster, namespace: str) -> str:
    """What the shop says to a visitor."""
    return cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/services/shop:80/proxy/")


def report(cluster: Cluster, namespace: str, pod: str) -> dict[str, Any]:
    """What the pod's sidecar says."""
    told = cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}:9177/proxy/report")
    return dict(json.loads(told))


def rules_of(cluster: Cluster, namespace: str, account: str, *, looking_at: str | None = None) -> list[dict[str, Any]]:
    """What the API server says an account may do in a namespace (what `kubectl auth can-i --list` prints)."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": looking_at or namespace},
    }
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    told = json.loads(
        cluster.kubectl("create", "--validate=false", "-f", "-", "-o", "json", who, stdin=json.dumps(review))
    )
    assert not told["status"]["incomplete"]
    # Of addresses that are no objects, everybody may read the same few: version, health, discovery.
    assert all(set(rule["verbs"]) == {"get"} for rule in told["status"]["nonResourceRules"])
    return list(told["status"]["resourceRules"])


def notes() -> str:
    """What Helm prints after an installation, unrendered."""
    return (CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8")


def _leaves(pod: dict[str, Any]) -> bool:
    return "deletionTimestamp" in pod["metadata"]
