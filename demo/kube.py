"""kubectl and helm, as a person would type them.

In: words. Out: what they printed, or `KubeError` with what they complained of. Rule: the only file of the demo that
starts kubectl or helm; the cluster is the one that the kubeconfig names, always given by hand, never found by accident.
"""

import json
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
        kubeconfig: path of the kubeconfig.
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
        return _run((*self.kubectl_words(), *words), stdin)

    def kubectl_words(self) -> tuple[str, ...]:
        """The words that start kubectl on this cluster and namespace, for callers that keep it running."""
        return (*self.kubectl, "--kubeconfig", self.kubeconfig, "-n", self.namespace)

    def helm_run(self, *words: str) -> str:
        """`helm WORDS`, and what it printed.

        Raises:
            KubeError: helm failed.
        """
        return _run((*self.helm, "--kubeconfig", self.kubeconfig, *words), None)

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


def fill(manifest: str, values: Mapping[str, str]) -> str:
    """The manifest with each `$(NAME)` replaced."""
    for name, value in values.items():
        manifest = manifest.replace(f"$({name})", value)
    return manifest


def _run(words: Sequence[str], stdin: str | None) -> str:
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        raise KubeError(f"{words[0]} is not installed, or not on PATH") from None
    except subprocess.TimeoutExpired:
        raise KubeError(f"no answer within {PATIENCE_S:g} s: {' '.join(words)}") from None
    if done.returncode:
        raise KubeError(f"{' '.join(words)}\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
