"""The resource in the API server, and grounds to operate on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.cluster.kube import ROOT, Cluster
from tests.operator.fault_proxy import FaultProxy
from tests.operator.faulty import behind_a_proxy
from tests.operator.ground import Ground, ground

# The same inputs in every run: a test that fails today fails tomorrow, too.
settings.register_profile("house", derandomize=True, deadline=None)
settings.load_profile("house")

CRD = ROOT / "charts/wsgi-operator/crds/wsgiservers.yaml"


@pytest.fixture(scope="session")
def resource(cluster: Cluster) -> Cluster:
    """The cluster with this tree's CRD. It stays there: other tests stand on it, and alone it does nothing."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    cluster.established("wsgiservers.wsgi.dev")
    return cluster


@pytest.fixture(scope="session")
def reached(resource: Cluster) -> Cluster:
    """The same, where this machine reaches its pods and Services."""
    if not resource.ours:
        pytest.skip("pods and Services are reached from this machine, and of a foreign cluster they are not")
    return resource


@pytest.fixture(scope="session")
def app(reached: Cluster) -> str:
    """The image that the pods of these tests serve from (tests/operator/app)."""
    return reached.load_image("operator-test-app", "1", Path(__file__).parent / "app", "gunicorn").ref


@pytest.fixture(scope="module")
def here(resource: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A namespace for all tests of one file, under Pod Security "restricted"; its operator is not started yet."""
    name = f"op-{uuid.uuid4().hex[:8]}"
    resource.kubectl("create", "namespace", name)
    resource.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    try:
        with ground(resource, name, tmp_path_factory.mktemp("operator")) as here:
            yield here
    finally:
        resource.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def operator(here: Ground) -> Iterator[None]:
    """One operator for all tests of a file; it ends in good order."""
    here.start()
    yield
    assert here.stop() == 0


@pytest.fixture
def fresh_operator(here: Ground, reached: Cluster) -> Iterator[None]:
    """One for each test, with the sidecar of this tree; nothing that an earlier test left in its memory counts."""
    here.image = reached.load_image("wsgi-sidecar", "dev", ROOT, "sidecar").ref
    here.start()
    yield
    here.kill()


@pytest.fixture(scope="module")
def proxy(here: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxy]:
    """What is between this file's operator and the API server."""
    with behind_a_proxy(here, tmp_path_factory.mktemp("proxy")) as proxy:
        yield proxy
