"""The chart with everything on, in a real cluster: `helm test`, the network policy, a real Prometheus that finds pods.

Prometheus runs on this machine and gets the pods as discovery would tell them, relabelled as examples/prometheus/ says.
PodMonitors and PrometheusRule are made under the Prometheus operator's own CRDs; that operator itself is not here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.charts.examples import SCRAPING
from tests.charts.expressions import RULES, queries
from tests.charts.monitoring import monitoring_crds
from tests.charts.prometheus import Job, Prometheus, discovered
from tests.charts.rendered import CHART, CRD
from tests.charts.test_install import is_ready, let_all_go, open_shop
from tests.cluster.kube import (
    CACHE,
    ROOT,
    Cluster,
    CommandError,
    Image,
    Images,
    eventually,
    fresh_namespace,
    run,
)

pytestmark = [pytest.mark.cluster, pytest.mark.alone, pytest.mark.timeout(400)]

ON = (
    "podMonitor.enabled=true,alerts.enabled=true,dashboards.enabled=true,networkPolicy.enabled=true",
    "networkPolicy.from[0].namespaceSelector.matchLabels.kubernetes\\.io/metadata\\.name=monitoring",
    "admission=always,reports.intervalSeconds=1",
)
SHOP = {
    "apiVersion": "wsgi.dev/v1alpha1",
    "kind": "WSGIServer",
    "metadata": {"name": "shop"},
    "spec": {"workload": {"name": "shop", "container": "web"}},
}
CONNECTIONS = """
import time
from pathlib import Path
from typing import Any

LISTENS, seen, end = "0A", set(), time.monotonic() + 20
while time.monotonic() < end and 9177 not in {remote for _, remote in seen}:
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            local, remote, state = line.split()[1:4]
            if state != LISTENS:
                seen.add((int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)))
    time.sleep(0.002)
for pair in seen:
    print(*pair)
"""
"""Looked at from inside, and often: reading a report takes some milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """An installed chart, with a shop adopted.

    Attributes:
        cluster: where.
        name: of the release and of its namespace.
    """

    cluster: Cluster
    name: str

    @property
    def full_name(self) -> str:
        """Of the operator's objects."""
        return f"{self.name}-wsgi-operator"

    def get(self, kind: str, name: str = "", *, selector: str = "") -> dict[str, Any]:
        """One object of its namespace, or a list."""
        return self.cluster.get(kind, name, namespace=self.name, selector=selector)


@pytest.fixture(scope="module")
def release(cluster: Cluster, images: Images) -> Iterator[Release]:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    with monitoring_crds(cluster), fresh_namespace(cluster) as name:
        chosen = (
            f"image.repository={images.operator.repository},image.{version(cluster, images.operator)}",
            f"sidecar.image.repository={images.sidecar.repository},sidecar.image.{version(cluster, images.sidecar)}",
            f"watch.namespaces={{{name}}}",
            *ON,
        )
        words = [word for setting in chosen for word in ("--set", setting)]
        try:
            cluster.helm("install", name, str(CHART), "-n", name, "--wait", "--timeout", "120s", *words)
            open_shop(cluster, name, cluster.load_image("shop", "dev", ROOT / "demo" / "app"))
            cluster.apply(SHOP, namespace=name)
            eventually(lambda: is_ready(cluster, name), within_s=120)
            yield Release(cluster=cluster, name=name)
        finally:
            let_all_go(cluster, name)
            cluster.helm("uninstall", name, "-n", name, "--ignore-not-found", "--wait")


def version(cluster: Cluster, image: Image) -> str:
    """Value that names the image's version: its digest where the node is ours, so that it can be given that name."""
    if not cluster.ours:
        return f"tag={image.tag}"
    images = ("ctr", "-a", CACHE / "run" / "containerd.sock", "-n", "k8s.io", "images")
    listed = run(*images, "ls", f"name=={image.ref}").splitlines()[1].split()
    digest = next(word for word in listed if word.startswith("sha256:"))
    run(*images, "tag", "--force", image.ref, f"{image.repository}@{digest}")
    return f"digest={digest}"


def test_images_that_are_named_by_digest_run(release: Release) -> None:
    if not release.cluster.ours:
        pytest.skip("a digest is a registry's to give, and this cluster's registry is not ours")
    (pod,) = release.get("pods", selector="wsgi.dev/server=shop")["items"]
    operator = release.get("deployments", release.full_name)["spec"]["template"]["spec"]
    named = [operator["containers"][0]["image"], pod["spec"]["initContainers"][0]["image"]]
    assert [re.sub("[0-9a-f]{64}", "...", image) for image in named] == [
        "localhost/wsgi-operator@sha256:...",
        "localhost/wsgi-sidecar@sha256:...",
    ]


def test_helm_test_says_what_works(release: Release) -> None:
    said = release.cluster.helm("test", release.name, "-n", release.name, "--logs", "--timeout", "90s")
    assert "the operator says: ready" in said
    assert "the CRD is served, with its status" in said
    assert f"WSGIServers in {release.name}: 1" in said


def test_helm_test_fails_with_what_to_do_where_nobody_answers(release: Release) -> None:
    deployment = ("-n", release.name, f"deployment/{release.full_name}")
    release.cluster.kubectl("scale", *deployment, "--replicas=0")
    operators = ("pod", "-n", release.name, "-l", "app.kubernetes.io/component=operator")
    release.cluster.kubectl("wait", "--for=delete", *operators, "--timeout=90s")
    try:
        with pytest.raises(CommandError) as failure:
            release.cluster.helm("test", release.name, "-n", release.name, "--logs", "--timeout", "90s")
        assert "the operator does not answer at http://" in str(failure.value)
    finally:
        release.cluster.kubectl("scale", *deployment, "--replicas=1")
        release.cluster.kubectl("rollout", "status", *deployment, "--timeout=90s")


def test_each_switch_made_its_object(release: Release) -> None:
    def names(kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in release.get(kind)["items"]}

    assert names("podmonitors") == {release.full_name, f"{release.full_name}-sidecars"}
    assert names("prometheusrules") == {release.full_name}
    assert names("networkpolicies") == {release.full_name}
    assert f"{release.full_name}-dashboards" in names("configmaps")


def test_the_operator_speaks_to_nobody_that_its_network_policy_does_not_name(release: Release) -> None:
    """The test cluster enforces no policy, so what the operator does is held against what it may."""
    policy = release.get("networkpolicies", release.full_name)["spec"]
    allowed = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    heard = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}

    operator = ("exec", "-n", release.name, f"deployment/{release.full_name}", "--", "python", "-c", CONNECTIONS)
    lines = release.cluster.kubectl(*operator).splitlines()
    seen = {(int(local), int(remote)) for local, remote in (line.split() for line in lines)}
    spoken_to = {remote for local, remote in seen if local not in heard}
    assert 9177 in spoken_to, "or this proves nothing"
    assert spoken_to <= allowed


def test_a_prometheus_gets_sidecar_and_operator_out_of_all_pods_and_sees_that_all_is_well(release: Release) -> None:
    if not release.cluster.ours:
        pytest.skip("pods of another cluster cannot be reached from this machine")
    with Prometheus(jobs(release), [RULES]) as prometheus:
        (sidecar,) = eventually(lambda: prometheus.labels("wsgi_up == 1"), within_s=60)
        assert (sidecar["namespace"], sidecar["wsgiserver"]) == (release.name, "shop")
        assert (sidecar["container"], sidecar["job"]) == ("wsgi-sidecar", "wsgi-sidecars")
        assert re.fullmatch(r"shop-[0-9a-f]+-\w+", sidecar["pod"])
        (operator,) = eventually(lambda: prometheus.labels("wsgi_operator_leading == 1"), within_s=60)
        assert (operator["namespace"], operator["container"]) == (release.name, "operator")
        for query in (each for each in queries() if each.where.startswith("The operator")):
            eventually(lambda query=query: prometheus.query(query.sent), within_s=30)  # type: ignore[misc]
        assert prometheus.labels('ALERTS{alertname!="WsgiServersNotReady",alertstate="firing"}') == [], "all is well"


def jobs(release: Release) -> list[Job]:
    """The jobs of the example, over all pods of the release's namespace."""
    config = yaml.safe_load(SCRAPING.read_text("utf-8"))["scrape_configs"]
    targets = discovered(release.get("pods")["items"])
    assert len(targets) >= 3, "the app's port, the sidecar's, the operator's"
    return [Job(name=job["job_name"], relabelling=job["relabel_configs"], targets=targets) for job in config]
