"""Images for a cluster that is not ours: loaded by its own tool, or pulled from a registry that the user names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kube import CACHE, SCRIPTS

pytestmark = [pytest.mark.cluster, pytest.mark.own_cluster]


def image(tmp_path: Path, context: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Build a small image for the cluster of a kubeconfig whose current context is the given one."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(f"apiVersion: v1\nkind: Config\ncurrent-context: {context}\n")
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY hello /hello\n")
    (folder / "hello").write_text("hello\n")
    path = f"{tmp_path}{os.pathsep}{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [SCRIPTS / "image", "wsgi-trial", "1", folder],
        env={**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def tool(tmp_path: Path, name: str) -> Path:
    """A program of this name on PATH, which writes down how it was called."""
    program, called = tmp_path / name, tmp_path / f"{name}.called"
    program.write_text(f'#!/bin/sh\necho "$@" >>{called}\n')
    program.chmod(0o755)
    return called


@pytest.fixture(autouse=True)
def _no_trial_image_stays_in_the_cache() -> Iterator[None]:
    yield
    for left in (CACHE / "images").glob("wsgi-trial-*"):
        left.unlink()


@pytest.mark.parametrize(
    ("context", "name", "expected"),
    [
        ("kind-lab", "kind", "load image-archive {archive} --name lab"),
        ("k3d-lab", "k3d", "image import {archive} -c lab"),
        ("minikube", "minikube", "image load {archive}"),
    ],
)
def test_a_cluster_on_this_machine_is_loaded_by_its_own_tool(
    tmp_path: Path, context: str, name: str, expected: str
) -> None:
    called = tool(tmp_path, name)
    done = image(tmp_path, context)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "localhost/wsgi-trial:1\n"
    archive = CACHE / "images" / "wsgi-trial-1.tar"
    assert called.read_text().strip() == expected.format(archive=archive)


def test_any_other_cluster_needs_a_registry_and_the_sentence_names_the_variable(tmp_path: Path) -> None:
    done = image(tmp_path, "production")
    assert done.returncode != 0
    assert "the cluster of context 'production'" in done.stderr
    assert "set WSGI_IMAGE_REGISTRY" in done.stderr


def test_images_that_were_pushed_already_are_only_named(tmp_path: Path) -> None:
    done = image(tmp_path, "production", WSGI_IMAGE_REGISTRY="registry.example/me", WSGI_IMAGES_PUSHED="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "registry.example/me/wsgi-trial:1\n", "")


def test_a_folder_without_a_dockerfile_is_told(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPTS / "image", "x", "1", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr == f"error: there is no Dockerfile in {tmp_path}.\n"
