"""The workloads of `make bench-roll`: one that is drained as it should be, and one for each way to lose requests.

In: the app's image. Out: `Case` values with their manifests. Rule: each undrained one differs from the drained one in
exactly what its name says.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One workload.

    Attributes:
        name: its own.
        path: what visitors ask for.
        change: what it differs in from the drained one, in words.
        expected: the reason that RollSafe must give; None: it must be True, and no request may be lost.
        make: changes the drained one's manifest.
    """

    name: str
    path: str
    change: str
    expected: str | None
    make: Callable[[Manifest], None]

    def manifest(self, image: str) -> Manifest:
        """Its Deployment."""
        body = copy.deepcopy(drained(self.name, image))
        self.make(body)
        return body

    def service(self) -> Manifest:
        """Its Service."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name},
            "spec": {"selector": {"app": self.name}, "ports": [{"port": 80, "targetPort": 8000}]},
        }


def drained(name: str, image: str) -> Manifest:
    """Two pods, drained as docs/rolling.md says: gunicorn's own 30 s to finish requests, and time for that."""
    web = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "GUNICORN_CMD_ARGS", "value": "--log-level=warning"}],
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "3"]}}},
        "securityContext": RESTRICTED,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 40, "containers": [web]},
            },
        },
    }


def _container(body: Manifest) -> dict[str, Any]:
    return body["spec"]["template"]["spec"]["containers"][0]  # type: ignore[no-any-return]


def _without(key: str) -> Callable[[Manifest], None]:
    return lambda body: _container(body).__delitem__(key)


def _spec(fields: Mapping[str, Any]) -> Callable[[Manifest], None]:
    return lambda body: body["spec"].update(fields)


def _as_it_is(_: Manifest) -> None:
    """The drained one."""


def _killed_early(body: Manifest) -> None:
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 4
    _container(body)["env"][0]["value"] = "--graceful-timeout=15"


GAP = {"replicas": 1, "strategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}}

CASES = (
    Case(name="drained", path="/", change="-", expected=None, make=_as_it_is),
    Case(name="drained-slow", path="/slow", change="requests of 2 s", expected=None, make=_as_it_is),
    Case(name="no-prestop", path="/", change="no preStop", expected="NoPreStop", make=_without("lifecycle")),
    Case(name="no-probe", path="/", change="no readinessProbe", expected="NoReadinessProbe",
         make=_without("readinessProbe")),
    Case(name="grace", path="/slow", change="requests of 2 s, grace of 4 s", expected="GraceTooShort",
         make=_killed_early),
    Case(name="recreate", path="/", change="strategy Recreate", expected="Recreate",
         make=_spec({"strategy": {"type": "Recreate"}})),
    Case(name="gap", path="/", change="1 pod, maxUnavailable 1", expected="NobodyServes", make=_spec(GAP)),
)  # fmt: skip
