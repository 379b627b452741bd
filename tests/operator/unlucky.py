"""An app that ends at its start with some settings, and how a change to those ends."""

from __future__ import annotations

import json
from typing import Any

from tests.operator.ground import RESTRICTED, Ground, deployment

UNLUCKY = 13
"""Workers with which the app ends at its start, and says so (tests/operator/app)."""

PROBE = {"readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1}}
PATIENCE = {"readyWithinSeconds": 10}


def serving(here: Ground, app: str, name: str, *, kind: str = "Deployment", **container: Any) -> dict[str, Any]:
    """A workload of two pods that serve; its manifest."""
    manifest = deployment(
        name,
        replicas=2,
        image=app,
        env=[{"name": "GUNICORN_CMD_ARGS", "value": "--bind=0.0.0.0:8000 --workers=1"}],
        terminationMessagePolicy="FallbackToLogsOnError",
        securityContext=RESTRICTED
        | {"runAsUser": 1234, "runAsGroup": 1234},  # else the sidecar's comes in a second roll
        pod={"terminationGracePeriodSeconds": 2},
        **PROBE,
        **container,
    ) | {"kind": kind}
    if kind == "StatefulSet":
        manifest["spec"]["serviceName"] = name
    here.apply(manifest)
    here.kubectl("rollout", "status", f"{kind.lower()}/{name}", "--timeout=90s")
    return manifest


def template(here: Ground, name: str, kind: str = "Deployment") -> str:
    """The workload's template as it is now."""
    body = here.get(f"{kind.lower()}s", name)
    return json.dumps(body["spec"]["template"], sort_keys=True)


def outcomes(here: Ground, name: str) -> list[tuple[str, str | None]]:
    """The last changes and how each ended, newest first."""
    lines = here.server(name)["status"].get("lastChanges", [])
    return [(f"{line['what']} {line.get('after')}", line.get("outcome")) for line in lines]
