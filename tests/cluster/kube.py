"""A cluster as tests see it.

In:   a kubeconfig, and `cluster/` for everything that has to be brought up, built or loaded.
Out:  kubectl, helm and images as plain calls that fail with what the command said.
Rule: nothing here decides whether a cluster may be started; `tests/conftest.py` does.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from tests.cluster.api import read

ROOT: Final = Path(__file__).resolve().parents[2]
SCRIPTS: Final = ROOT / "cluster"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsgi-operator" / "cluster"
T = TypeVar("T")


class CommandError(AssertionError):
    """A command ended with another code than zero; the message holds everything it said."""


def run(
    *command: str | Path, stdin: str | None = None, timeout_s: float = 120, env: Mapping[str, str] | None = None
) -> str:
    """Run a command to its end and return its standard output.

    Raises:
        CommandError: the command's exit code is not zero.
    """
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=env,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise CommandError(f"`{' '.join(map(str, command))}` ended with {done.returncode}:\n{said}")
    return done.stdout


def eventually(look: Callable[[], T], *, within_s: float = 60, every_s: float = 0.25) -> T:
    """Look until something truthy is seen, and return it.

    An AssertionError while looking (CommandError is one) counts as "not yet".

    Raises:
        AssertionError: the deadline has passed; carries what was seen last.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            seen, why = look(), None
        except AssertionError as not_yet:
            seen, why = None, not_yet
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s; seen last: {why or seen!r}") from why
        time.sleep(every_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that the cluster's nodes hold or can pull."""

    repository: str
    tag: str

    @property
    def ref(self) -> str:
        """Repository and tag, as a pod names them."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """The project's own two images."""

    sidecar: Image
    operator: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A running cluster: ours, or the one that KUBECONFIG names."""

    kubeconfig: Path
    ours: bool

    @property
    def env(self) -> dict[str, str]:
        """Environment in which kubectl, helm and Python clients find this cluster and our binaries."""
        path = f"{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": path}

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        """Call kubectl; return its standard output."""
        return run(_tool("kubectl"), *args, stdin=stdin, timeout_s=timeout_s, env=self.env)

    def helm(self, *args: str, stdin: str | None = None, timeout_s: float = 180) -> str:
        """Call helm; return its standard output."""
        return run(_tool("helm"), *args, stdin=stdin, timeout_s=timeout_s, env=self.env)

    def get(self, kind: str, name: str = "", *, namespace: str = "", selector: str = "") -> dict[str, Any]:
        """One object, or a list of all; arguments as those of `api.read`."""
        return read(self.kubeconfig, kind, name, namespace=namespace, selector=selector)

    def established(self, crd: str) -> None:
        """Wait until the API server serves it; kubectl's own wait fails on a CRD that has no conditions yet."""
        eventually(lambda: self.kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=30s"))

    def apply(self, *manifests: Mapping[str, Any], namespace: str, args: tuple[str, ...] = ()) -> str:
        """`kubectl apply` the manifests, given as plain mappings."""
        text = yaml.safe_dump_all([dict(m) for m in manifests])
        return self.kubectl("apply", "-n", namespace, "-f", "-", *args, stdin=text)

    def load_image(self, name: str, tag: str, directory: Path, target: str | None = None) -> Image:
        """Build an image from a folder with a Dockerfile and bring it to the cluster's nodes; quick when unchanged."""
        arguments = (name, tag, directory) if target is None else (name, tag, directory, target)
        repository, _, built_tag = (
            run(SCRIPTS / "image", *arguments, timeout_s=900, env=self.env).strip().rpartition(":")
        )
        return Image(repository=repository, tag=built_tag)


@contextmanager
def fresh_namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of one's own, in which Pod Security "restricted" is enforced; deleted afterwards."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    try:
        cluster.kubectl("wait", "-n", name, "--for=create", "serviceaccount/default", "--timeout=60s")
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def _tool(name: str) -> str:
    """Our own build of a tool where there is one, else whatever PATH has."""
    own = CACHE / "bin" / name
    return str(own) if own.exists() else name
