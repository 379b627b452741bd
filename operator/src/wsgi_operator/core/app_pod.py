"""The pods of an app that the operator makes.

In: an `App`. Out: its container, and the Deployment without the sidecar, as Kubernetes knows them. Rule: pods are what
Pod Security "restricted" asks for, with a read-only root filesystem; probes are answered by the sidecar, so that none
of them waits behind requests; a pod that ends goes on serving for a while, and a roll takes none away before its
successor is ready.
"""

from typing import Any, Final

from wsgi_contract import names
from wsgi_operator.core.app import App
from wsgi_operator.core.made import identity_of
from wsgi_operator.core.server import Server
from wsgi_operator.core.workload import Object, env_entry

_SCRATCH: Final = "/tmp"  # noqa: S108  # a folder of the pod's own, not of a shared machine
"""In memory, since a heartbeat that waits for a disk makes a worker look hung; what an app writes there counts as its
memory."""

_VOLUME: Final = "tmp"
_RUNTIME_DIR: Final = "XDG_RUNTIME_DIR"
"""Where gunicorn from 25.1 on puts its control socket."""

_BOOT_S, _BOOT_EVERY_S = 300, 2
"""How long an app may import before the kubelet starts it anew; the sidecar tells of a boot that hangs long before."""


def app_container(app: App) -> dict[str, Any]:
    """The server's container, without its probes: only the WSGIServer knows their port."""
    bind = [f"--bind=0.0.0.0:{app.port}", f"--worker-tmp-dir={_SCRATCH}"]
    env = [_entry(entry) for entry in app.env]
    container: dict[str, Any] = {
        "name": app.container,
        "image": app.image,
        "imagePullPolicy": app.pull_policy,
        "command": ["gunicorn"],
        "args": [*bind, *app.args, app.module],
        "ports": [{"name": "http", "containerPort": app.port, "protocol": "TCP"}],
        "volumeMounts": [{"name": _VOLUME, "mountPath": _SCRATCH}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    if env_entry({"env": env}, _RUNTIME_DIR) is None:
        env.append({"name": _RUNTIME_DIR, "value": _SCRATCH})
    if app.env_from:
        container["envFrom"] = [dict(source) for source in app.env_from]
    if app.resources:
        container["resources"] = {kind: dict(amounts) for kind, amounts in app.resources.items()}
    if app.drain_s:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": app.drain_s}}}
    return container | {"env": env}


def _entry(entry: Object) -> dict[str, Any]:
    """As the API server gives it back: an empty value is none."""
    return {key: value for key, value in entry.items() if value not in (None, "")}


def app_deployment(server: Server, app: App, container: Object) -> dict[str, Any]:
    """The Deployment, to be carried on by whoever adds the sidecar."""
    selector = {names.LABEL_APP: server.name}
    labels = identity_of(server, app)["labels"]
    spec: dict[str, Any] = {
        "selector": {"matchLabels": selector},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
        "template": {"metadata": {"labels": labels}, "spec": _pod(app, {**container, **_probes(server.sidecar.port)})},
    }
    if app.replicas is not None:
        spec["replicas"] = app.replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": identity_of(server, app), "spec": spec}


def _pod(app: App, container: Object) -> dict[str, Any]:
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if app.run_as_user is not None:
        security["runAsUser"] = app.run_as_user
    if app.run_as_group is not None:
        security["runAsGroup"] = app.run_as_group
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [{"name": _VOLUME, "emptyDir": {"medium": "Memory"}}],
        "securityContext": security,
        "terminationGracePeriodSeconds": app.grace_s,
        # A Service called `gunicorn` or `wsgi-sidecar` would else set variables that are read as settings.
        "enableServiceLinks": False,
        "automountServiceAccountToken": app.service_account is not None,
    }
    if app.service_account is not None:
        spec["serviceAccountName"] = app.service_account
    if app.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in app.pull_secrets]
    return spec


def _probes(port: int) -> dict[str, Any]:
    """Answered by the sidecar: the kubelet asks the pod's address, whichever container listens there.

    A sidecar that is away for a while must not cost a healthy server its life, and what livez would say the sidecar has
    cured before: so a whole minute of silence counts as no.
    """

    def probe(path: str, **more: int) -> dict[str, Any]:
        return {"httpGet": {"path": f"/server/{path}", "port": port, "scheme": "HTTP"}, "timeoutSeconds": 5, **more}

    return {
        "startupProbe": probe("startupz", periodSeconds=_BOOT_EVERY_S, failureThreshold=_BOOT_S // _BOOT_EVERY_S),
        "readinessProbe": probe("readyz", periodSeconds=5, failureThreshold=2),
        "livenessProbe": probe("livez", periodSeconds=10, failureThreshold=6),
    }
