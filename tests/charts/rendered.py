"""The chart as objects.

In: values. Out: what `helm template` makes of them, parsed; or the words with which it refuses. Rule: needs helm and
no cluster; without helm the tests that ask are skipped, and say how to get it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster.kube import CACHE, ROOT

CHART: Final = ROOT / "charts" / "wsgi-operator"
CRD: Final = CHART / "crds" / "wsgiservers.yaml"
Values = dict[str, Any]

VARIANTS: Final[dict[str, Values]] = {
    "as it comes": {},
    "some namespaces": {"watch": {"namespaces": ["shop", "stock"]}},
    "images by digest": {
        "image": {"repository": "registry.example:5000/team/wsgi-operator", "digest": "sha256:" + "a" * 64},
        "sidecar": {"image": {"repository": "registry.example:5000/team/wsgi-sidecar", "digest": "sha256:" + "b" * 64}},
        "imagePullSecrets": [{"name": "pull"}],
    },
    "reports behind a token": {"reports": {"auth": "token"}},
    "somebody else's account and roles": {
        "serviceAccount": {"create": False, "name": "given"},
        "rbac": {"create": False},
    },
    "placed by hand": {
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]
                }
            }
        },
        "podLabels": {"team": "platform"},
        "podAnnotations": {"note": "x"},
        "priorityClassName": "system-cluster-critical",
        "fullnameOverride": "wsgi",
        "healthPort": 9000,
        "log": {"level": "debug", "format": "text"},
        "resources": {"limits": {"cpu": 1, "memory": "128Mi"}},
    },
    "everything on": {
        "admission": "always",
        "podMonitor": {"enabled": True, "labels": {"release": "monitoring"}, "interval": "30s"},
        "alerts": {"enabled": True, "labels": {"release": "monitoring"}, "runbookPrefix": "https://git.example.com/"},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Python"}},
        "networkPolicy": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "apiServerAddresses": ["10.96.0.1/32"],
        },
    },
}


class RefusedError(Exception):
    """Helm refused the values; the message is its own."""


def render(values: Values, *, release: str = "wsgi", namespace: str = "wsgi-system") -> list[dict[str, Any]]:
    """The objects that the chart makes, without the CRD.

    Raises:
        RefusedError: the values are not what values.schema.json allows.
    """
    done = helm(
        "template", release, str(CHART), "--namespace", namespace, "--values", "-", stdin=yaml.safe_dump(values)
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


def one(things: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The only object of that kind."""
    (found,) = (thing for thing in things if thing["kind"] == kind)
    return found


def container(things: list[dict[str, Any]]) -> dict[str, Any]:
    """The operator's container."""
    (found,) = one(things, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def helm(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm, our own build of it or PATH's."""
    own = CACHE / "bin" / "helm"
    found = str(own) if own.exists() else shutil.which("helm")
    if found is None:
        if os.environ.get("REQUIRE_CLUSTER") == "1":
            pytest.fail("REQUIRE_CLUSTER=1, and there is no helm", pytrace=False)
        pytest.skip("no helm: install it, or run `make cluster-up` once, which builds one")
    environment = {**os.environ, "KUBECONFIG": os.devnull, "HELM_CACHE_HOME": str(Path(CACHE) / "helm")}
    return subprocess.run([found, *words], input=stdin, capture_output=True, text=True, check=False, env=environment)
