"""The container that is added beside the server, and whom it runs as.

In: a `Server`, the Deployment, the identity that was seen or learnt. Out: the container and its volume as Kubernetes
knows them. Rule: the sidecar gets what the server's own container has, and nothing more: same uid and gid (the kernel
lets only the same user read a process closely), no capability that the server was denied, never privileged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from wsgi_contract import names
from wsgi_contract.policy import dump_policy
from wsgi_operator.core.server import Server, Sidecar
from wsgi_operator.core.workload import Object, pod_spec

POLICY_VOLUME: Final = "wsgi-policy"
POLICY_DIR: Final = "/etc/wsgi-sidecar"
POLICY_FILE: Final = "policy.json"
VERIFIERS_FILE: Final = "report-verifiers"
ORDER_FILE: Final = "order.json"
CONFIG_PATH: Final = f"{POLICY_DIR}/gunicorn.conf.py"
"""Where a gunicorn whose settings change in place finds its config file."""
LIVE_VOLUME: Final = "wsgi-in-place"
LIVE_DIR: Final = "/run/wsgi-sidecar"
LIVE_PATH: Final = f"{LIVE_DIR}/in-place.json"
"""What the sidecar writes, and that config file reads."""
ANNOTATION_CONFIG: Final = f"{names.GROUP}/gunicorn-config"
"""On pods: the text of that config file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a container runs as; None: not said by anybody."""

    uid: int | None = None
    gid: int | None = None


def declared_identity(server: Server, deployment: Object, container: Object) -> Identity:
    """Whom the manifests say: the WSGIServer before the container before the pod."""
    layers = (
        {"runAsUser": server.sidecar.run_as_user, "runAsGroup": server.sidecar.run_as_group},
        container.get("securityContext") or {},
        pod_spec(deployment).get("securityContext") or {},
    )
    return Identity(uid=_first(layers, "runAsUser"), gid=_first(layers, "runAsGroup"))


def _first(layers: Iterable[Mapping[str, Any]], key: str) -> int | None:
    return next((layer[key] for layer in layers if layer.get(key) is not None), None)


def missing(declared: Identity, learnt: Identity) -> Identity:
    """What was learnt and nobody declared.

    Declared wins, or the two would take turns: once the sidecar runs as seen, nothing is seen any more.
    """
    return Identity(
        uid=learnt.uid if declared.uid is None else None,
        gid=learnt.gid if declared.gid is None else None,
    )


def believed(learnt: Identity, deployment: Object, container: Object) -> Identity:
    """What may be learnt: a server whose manifest forbids root is not root, whatever a report says.

    Otherwise whoever took over such an app could have a sidecar made that the kernel lets touch everything in the pod.
    """
    layers = (container.get("securityContext") or {}, pod_spec(deployment).get("securityContext") or {})
    forbidden = next((layer["runAsNonRoot"] for layer in layers if layer.get("runAsNonRoot") is not None), False)
    return Identity() if forbidden and learnt.uid == 0 else learnt


def combine(declared: Identity, learnt: Identity) -> Identity:
    """Whom the sidecar shall run as."""
    return Identity(
        uid=declared.uid if declared.uid is not None else learnt.uid,
        gid=declared.gid if declared.gid is not None else learnt.gid,
    )


def sidecar_container(
    server: Server, container: Object, identity: Identity, *, statsd: bool, in_place: bool = False
) -> dict[str, Any]:
    """The native sidecar: an init container that is up before the server and leaves after it.

    It has a liveness probe and no other: a watchdog that is not ready must never take the server out of service, and
    one that does not start must never keep the server from starting. Where the server sends it statsd it has none at
    all: while the container restarts, each request would write a traceback into the server's log.
    """
    port = server.sidecar.port
    alive = {
        "httpGet": {"path": "/livez", "port": port, "scheme": "HTTP"},
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 3,
    }
    made = {
        "name": names.SIDECAR_CONTAINER,
        "image": server.sidecar.image,
        "imagePullPolicy": server.sidecar.pull_policy,
        "command": ["wsgi-sidecar", "watch"],
        "restartPolicy": "Always",
        "env": _env(server, container["name"], statsd=statsd, in_place=in_place),
        "ports": [{"name": names.SIDECAR_PORT_NAME, "containerPort": port, "protocol": "TCP"}],
        "resources": {kind: dict(amounts) for kind, amounts in server.sidecar.resources.items()},
        "securityContext": _security(container, identity),
        "volumeMounts": [{"name": POLICY_VOLUME, "mountPath": POLICY_DIR, "readOnly": True}]
        + ([{"name": LIVE_VOLUME, "mountPath": LIVE_DIR}] if in_place else []),
    }
    return made if statsd else made | {"livenessProbe": alive}


def server_mounts() -> list[dict[str, Any]]:
    """What the server's own container needs so as to read what its sidecar writes."""
    folders = ((POLICY_VOLUME, POLICY_DIR), (LIVE_VOLUME, LIVE_DIR))
    return [{"name": name, "mountPath": path, "readOnly": True} for name, path in folders]


def volumes(sidecar: Sidecar, *, in_place: bool = False) -> list[dict[str, Any]]:
    """The pod's volumes of ours; what the sidecar writes is in memory, and gone with the pod."""
    live = {"name": LIVE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    return [policy_volume(sidecar, in_place=in_place), *([live] if in_place else [])]


def policy_volume(sidecar: Sidecar, *, in_place: bool = False) -> dict[str, Any]:
    """The pod's annotations for the sidecar as files: orders reach it without any port that takes them."""
    files = {POLICY_FILE: names.ANNOTATION_POLICY}
    if in_place:
        files |= {ORDER_FILE: names.ANNOTATION_ORDER, CONFIG_PATH.rpartition("/")[2]: ANNOTATION_CONFIG}
    if sidecar.verifier is not None:
        files[VERIFIERS_FILE] = names.ANNOTATION_VERIFIERS
    items = [
        {"path": path, "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{annotation}']"}}
        for path, annotation in files.items()
    ]
    return {"name": POLICY_VOLUME, "downwardAPI": {"items": items}}


def pod_annotations(server: Server) -> dict[str, str]:
    """What the files say."""
    verifier = server.sidecar.verifier
    return {names.ANNOTATION_POLICY: dump_policy(server.policy)} | (
        {names.ANNOTATION_VERIFIERS: verifier} if verifier is not None else {}
    )


def _env(server: Server, container: str, *, statsd: bool, in_place: bool) -> list[dict[str, Any]]:
    plain = {
        names.ENV_PORT: str(server.sidecar.port),
        names.ENV_LOG_FORMAT: "json",
        names.ENV_POLICY_FILE: f"{POLICY_DIR}/{POLICY_FILE}",
        names.ENV_SERVER_CONTAINER: container,
    }
    if server.sidecar.verifier is not None:
        plain[names.ENV_VERIFIERS_FILE] = f"{POLICY_DIR}/{VERIFIERS_FILE}"
    if in_place:
        plain[names.ENV_ORDER_FILE] = f"{POLICY_DIR}/{ORDER_FILE}"
        plain[names.ENV_IN_PLACE] = LIVE_DIR
    if server.app is not None:
        plain[names.ENV_TERMINATION_GRACE] = str(server.app.grace_s)
    if statsd:
        plain[names.ENV_STATSD_PORT] = str(names.STATSD_PORT)
        if server.monitoring.requests is not None and server.monitoring.requests.forward is not None:
            plain[names.ENV_STATSD_FORWARD] = server.monitoring.requests.forward
    from_pod = {
        names.ENV_POD_NAMESPACE: "metadata.namespace",
        names.ENV_POD_NAME: "metadata.name",
        names.ENV_POD_UID: "metadata.uid",
    }
    return [{"name": name, "value": value} for name, value in plain.items()] + [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in from_pod.items()
    ]


def _security(container: Object, identity: Identity) -> dict[str, Any]:
    # The kernel refuses to open a process that has a capability we lack. So beside a root server, which keeps the
    # runtime's default capabilities unless its manifest drops them, the sidecar must have the very same ones.
    theirs = (container.get("securityContext") or {}).get("capabilities")
    capabilities = theirs if identity.uid == 0 else {"drop": ["ALL"]}
    security: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": identity.uid != 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if capabilities:
        security["capabilities"] = dict(capabilities)
    if identity.uid is not None:
        security["runAsUser"] = identity.uid
    if identity.gid is not None:
        security["runAsGroup"] = identity.gid
    return security
