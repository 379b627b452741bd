"""The two images: what is in them, what is not, and that they run as Pod Security "restricted" wants."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.kube import CACHE, Cluster, Image, Images, eventually

pytestmark = pytest.mark.cluster

KUBERNETES_CLIENTS = {"kubernetes", "kopf", "aiohttp", "kubernetes_asyncio", "lightkube", "pykube"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """An image as its archive tells it."""

    config: dict[str, Any]
    files: frozenset[str]

    def packages(self) -> set[str]:
        """Names of the Python packages that are installed in its virtualenv."""
        found = (
            re.search(r"opt/wsgi/.*/site-packages/([^/]+)-[^/]+\.dist-info/METADATA$", name) for name in self.files
        )
        return {match[1].lower().replace("-", "_") for match in found if match}


def contents_of(archive: Path) -> Contents:
    with tarfile.open(archive) as outer:

        def read(name: str) -> Any:
            return outer.extractfile(name)

        manifest = json.load(read("manifest.json"))[0]
        files: set[str] = set()
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=read(layer)) as inner:
                files.update(inner.getnames())
        return Contents(config=json.load(read(manifest["Config"]))["config"], files=frozenset(files))


def archive_of(cluster: Cluster, image: Image) -> Path:
    if not cluster.ours:
        pytest.skip("the images of another cluster are not in our cache")
    return CACHE / "images" / f"{image.repository.rpartition('/')[2]}-{image.tag}.tar"


@pytest.fixture(scope="module")
def sidecar(cluster: Cluster, images: Images) -> Contents:
    return contents_of(archive_of(cluster, images.sidecar))


@pytest.fixture(scope="module")
def operator(cluster: Cluster, images: Images) -> Contents:
    return contents_of(archive_of(cluster, images.operator))


def test_the_sidecar_holds_its_own_packages_and_no_kubernetes_client(sidecar: Contents) -> None:
    assert {"wsgi_sidecar", "wsgi_contract", "fastapi", "prometheus_client"} <= sidecar.packages()
    assert not KUBERNETES_CLIENTS & sidecar.packages()
    assert "wsgi_operator" not in sidecar.packages()


def test_the_operator_holds_its_own_packages_and_not_the_sidecar(operator: Contents) -> None:
    assert {"wsgi_operator", "wsgi_contract", "wsgi_tuning", "kopf", "kubernetes"} <= operator.packages()
    assert "wsgi_sidecar" not in operator.packages()


def test_nothing_that_built_an_image_is_left_in_it(sidecar: Contents, operator: Contents) -> None:
    for image in (sidecar, operator):
        assert not _ending(image.files, "bin/gcc", "bin/cc", "bin/ld", "bin/uv", "bin/uvx")
        assert not [name for name in image.files if ".cache/" in name or name.startswith("src/")]


def test_no_test_and_no_development_tool_comes_along(sidecar: Contents, operator: Contents) -> None:
    for image in (sidecar, operator):
        assert not {"pytest", "ruff", "mypy", "hypothesis", "psutil"} & image.packages()


def test_each_runs_as_a_number_that_is_not_root_and_never_imports_from_where_it_stands(
    sidecar: Contents, operator: Contents
) -> None:
    for image in (sidecar, operator):
        assert image.config["User"] == "65532:65532"
        assert "PYTHONSAFEPATH=1" in image.config["Env"]
        assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert sidecar.config["Entrypoint"] == ["wsgi-sidecar"]
    assert operator.config["Entrypoint"] == ["wsgi-operator"]


@pytest.mark.parametrize("house", ["sidecar", "operator"])
def test_each_starts_in_a_restricted_pod_with_a_read_only_root(
    cluster: Cluster, images: Images, namespace: str, house: str
) -> None:
    image: Image = getattr(images, house)
    cluster.apply(
        _pod(house, image, f"import wsgi_{house}.__main__, os; print('uid', os.getuid())"), namespace=namespace
    )
    eventually(lambda: _phase(cluster, namespace, house) == "Succeeded", within_s=60)
    assert cluster.kubectl("logs", "-n", namespace, house) == "uid 65532\n"


def _phase(cluster: Cluster, namespace: str, pod: str) -> str:
    return cluster.kubectl("get", "pod", "-n", namespace, pod, "-o", "jsonpath={.status.phase}")


def _ending(files: Iterable[str], *ends: str) -> list[str]:
    return [name for name in files if name.endswith(ends)]


def _pod(name: str, image: Image, code: str) -> dict[str, Any]:
    context = {
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "c", "image": image.ref, "command": ["python", "-c", code], "securityContext": context}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [{**container, "imagePullPolicy": "IfNotPresent"}]},
    }
