"""kubectl and helm, as a person would type them.

In: words. Out: what they printed, or `KubeError` with what they complained of. Rule: the only file of the demo that
starts kubectl or helm; the cluster is the one that the kubeconfig names, always given by hand, never found by accident.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 300.0


class KubeError(RuntimeError):
    """A command failed; the message is the command and its own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kube:
    """A cluster, and one namespace in it.

    Attributes:
        kubectl: how to start kubectl.
        helm: how to start helm.
        kubeconfig: what KUBECONFIG is to be: one path, or several with colons between them.
        namespace: where commands without a namespace of their own act.
    """

    kubectl: tuple[str, ...]
    helm: tuple[str, ...]
    kubeconfig: str
    namespace: str

    def run(self, *words: str, stdin: str | None = None) -> str:
        """`kubectl -n NAMESPACE WORDS`, and what it printed.

        Raises:
            KubeError: kubectl failed.
        """
        return self._call((*self.kubectl, "-n", self.namespace, *words), stdin)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start kubectl, and leave it running: with pipes for what goes in and out, its complaints thrown away."""
        return subprocess.Popen(
            (*self.kubectl, "-n", self.namespace, *words),
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def helm_run(self, *words: str) -> str:
        """`helm WORDS`, and what it printed.

        Raises:
            KubeError: helm failed.
        """
        return self._call((*self.helm, *words), None)

    def json(self, *words: str) -> dict[str, Any]:
        """`kubectl get WORDS -o json`, parsed.

        Raises:
            KubeError: kubectl failed, for example because there is no such object.
        """
        parsed: dict[str, Any] = json.loads(self.run("get", *words, "-o", "json"))
        return parsed

    def items(self, *words: str) -> list[dict[str, Any]]:
        """The items of `kubectl get WORDS`."""
        items: list[dict[str, Any]] = self.json(*words)["items"]
        return items

    def apply(self, manifest: str) -> str:
        """`kubectl apply -f -`, as the owner of a workload does it."""
        return self.run("apply", "-f", "-", stdin=manifest)

    def template(self, deployment: str) -> str:
        """A Deployment's pod template as the API server writes it, to the letter."""
        return self.run("get", "deployment", deployment, "-o", "jsonpath={.spec.template}")

    def from_pod(self, pod: str, port: int, path: str) -> str:
        """What a pod answers to `GET path`, through the API server, so that no route to the pod is needed."""
        return self.run("get", "--raw", f"/api/v1/namespaces/{self.namespace}/pods/{pod}:{port}/proxy{path}")

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": self.kubeconfig}

    def _call(self, words: Sequence[str], stdin: str | None) -> str:
        env = self._environment()
        try:
            done = subprocess.run(
                words, input=stdin, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
        except FileNotFoundError:
            raise KubeError(f"{words[0]} is not installed, or not on PATH") from None
        except subprocess.TimeoutExpired:
            raise KubeError(f"no answer within {PATIENCE_S:g} s: {' '.join(words)}") from None
        if done.returncode:
            raise KubeError(f"{' '.join(words)}\n{done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def fill(manifest: str, values: Mapping[str, str]) -> str:
    """The manifest with each `$(NAME)` replaced."""
    for name, value in values.items():
        manifest = manifest.replace(f"$({name})", value)
    return manifest
