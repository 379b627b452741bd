"""Fixtures that several houses of tests share.

In:   KUBECONFIG (a cluster to use), REQUIRE_CLUSTER=1 (its absence is a failure).
Out:  `cluster`, `images`, `namespace`.
Rule: what a test session started, it ends; what it found, it leaves.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kube import ROOT, SCRIPTS, Cluster, Images


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Kubernetes cluster: the one of KUBECONFIG, else ours when it is up, else ours brought up for this session."""
    found = subprocess.run([SCRIPTS / "kubeconfig"], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        yield Cluster(kubeconfig=Path(found.stdout.strip()), ours="KUBECONFIG" not in os.environ)
        return
    started = subprocess.run([SCRIPTS / "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if started.returncode != 0:
        _give_up(started.stdout)
    try:
        path = subprocess.run([SCRIPTS / "kubeconfig"], capture_output=True, text=True, check=True).stdout.strip()
        yield Cluster(kubeconfig=Path(path), ours=True)
    finally:
        subprocess.run([SCRIPTS / "down"], check=True)


@pytest.fixture(scope="session")
def images(cluster: Cluster) -> Images:
    """The sidecar's and the operator's image, built from this tree and loaded into the cluster."""
    return Images(
        sidecar=cluster.load_image("wsgi-sidecar", "dev", ROOT, "sidecar"),
        operator=cluster.load_image("wsgi-operator", "dev", ROOT, "operator"),
    )


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, in which Pod Security "restricted" is enforced; deleted afterwards."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("wait", "-n", name, "--for=create", "serviceaccount/default", "--timeout=60s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def _give_up(reason: str) -> None:
    last = "\n".join(reason.strip().splitlines()[-3:])
    if os.environ.get("REQUIRE_CLUSTER") == "1":
        pytest.fail(f"REQUIRE_CLUSTER=1, and no cluster came up:\n{reason}", pytrace=False)
    pytest.skip(f"no cluster: {last}")
