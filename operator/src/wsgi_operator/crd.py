"""The WSGIServer resource: its models, and the CustomResourceDefinition made from them.

In: a WSGIServer object from the API server. Out: `Server`, or an `Obstacle` when this operator cannot read it; and the
CRD as YAML. Rule: what a user may write stands here once; schema, `kubectl explain`, defaults and sentences of refusal
are made from it. What one field cannot say alone is a CEL rule beside the model that it rules.

Run as a program it prints the CRD: `python -m wsgi_operator.crd > charts/wsgi-operator/crds/wsgiservers.yaml`.
"""

import sys
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from wsgi_contract import names
from wsgi_contract.policy import BOUNDS, Policy
from wsgi_contract.settings import Wanted
from wsgi_operator.core.server import DEFAULT_RESOURCES, Obstacle, Server, Sidecar
from wsgi_operator.schema import Rule, rules, structural
from wsgi_operator.status_model import Status

_DAY_S = 86_400
_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_QUANTITY = r"^([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+|[KMGTPE]i|[numkMGTPE])?$"


class _Model(BaseModel):
    """How all parts of the resource are written: camelCase outside, frozen, nothing unknown."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


class WorkloadSpec(_Model):
    """The workload to adopt: it stays its owner's; the operator adds to its pod template and takes away again."""

    kind: Literal["Deployment", "StatefulSet"] = Field(default="Deployment", description="Kind of the workload.")
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="Name of the workload, in the namespace of this WSGIServer.",
    )
    container: str | None = Field(
        default=None,
        min_length=1,
        max_length=63,
        pattern=_NAME_PATTERN,
        description="Container that the WSGI server runs in. May be left out when the pod has exactly one.",
    )


class SettingsSpec(_Model):
    """Settings of the server that you want; one that is left out stays as the workload's owner has it.

    They reach gunicorn through GUNICORN_CMD_ARGS, behind what the owner has there. What the container's command line
    says is stronger: such a setting is pinned, and the status says by which flag.
    """

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="!has(self.timeoutSeconds) || self.timeoutSeconds == 0 || self.timeoutSeconds >= 3",
                message="timeoutSeconds must be 0 (no timeout) or at least 3: workers beat once a second, and a "
                "shorter timeout kills healthy ones",
                field=".timeoutSeconds",
            ),
            Rule(
                rule="!has(self.maxRequestsJitter) || self.maxRequestsJitter == 0 || "
                "(has(self.maxRequests) && self.maxRequests > 0)",
                message="maxRequestsJitter only has a meaning together with maxRequests: set maxRequests above 0 as "
                "well, or remove maxRequestsJitter",
                field=".maxRequestsJitter",
            ),
        )
    )

    workers: int | None = Field(default=None, ge=1, le=512, description="Worker processes per pod.")
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Threads per worker. More than 1 turns gunicorn's sync class into gthread.",
    )
    timeout_seconds: int | None = Field(
        default=None,
        ge=0,
        le=_DAY_S,
        description="Seconds without a heartbeat after which the arbiter kills a worker; 0 switches it off. In class "
        "sync this bounds a request; in gthread it does not, since its main loop keeps beating.",
    )
    graceful_timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=_DAY_S,
        description="Seconds that a worker may take to finish its requests at exit. Keep it below the pod's "
        "terminationGracePeriodSeconds, or the kubelet kills first.",
    )
    keep_alive_seconds: int | None = Field(
        default=None,
        ge=0,
        le=3600,
        description="Seconds that an idle keep-alive connection is held. Class sync has none.",
    )
    worker_connections: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Connections that one worker accepts at most (gthread, gevent, eventlet). On gunicorn 21.2 to 23 "
        "a gthread worker that reaches it freezes for ever.",
    )
    max_requests: int | None = Field(
        default=None, ge=0, le=1_000_000_000, description="Requests after which a worker is replaced; 0: never."
    )
    max_requests_jitter: int | None = Field(
        default=None,
        ge=0,
        le=1_000_000_000,
        description="Random addition to maxRequests, up to this, so that workers do not all restart together.",
    )

    def wanted(self) -> Wanted:
        """The same in our own units and names."""
        return Wanted(
            workers=self.workers,
            threads=self.threads,
            timeout_s=self.timeout_seconds,
            graceful_timeout_s=self.graceful_timeout_seconds,
            keepalive_s=self.keep_alive_seconds,
            worker_connections=self.worker_connections,
            max_requests=self.max_requests,
            max_requests_jitter=self.max_requests_jitter,
        )


class WatchdogSpec(_Model):
    """What the sidecar may do about a sick worker. Healing is local: it needs neither operator nor network."""

    mode: Literal["Enforce", "DryRun"] = Field(
        default="Enforce", description="Enforce ends frozen workers; DryRun only says what it would have done."
    )
    frozen_window_seconds: int = Field(
        default=int(Policy().frozen_window_s),
        ge=int(BOUNDS["frozen_window_s"][0]),
        le=int(BOUNDS["frozen_window_s"][1]),
        description="Seconds over which a worker must look frozen before it is ended.",
    )
    kills_per_minute: int = Field(
        default=Policy().kills_per_minute,
        ge=int(BOUNDS["kills_per_minute"][0]),
        le=int(BOUNDS["kills_per_minute"][1]),
        description="Budget of kills per pod; beyond it the sidecar waits and says so. 0: never kill.",
    )
    cooldown_seconds: int = Field(
        default=int(Policy().cooldown_s),
        ge=int(BOUNDS["cooldown_s"][0]),
        le=int(BOUNDS["cooldown_s"][1]),
        description="Seconds between two kills in the same worker slot.",
    )
    request_told_seconds: int = Field(
        default=int(Policy().request_told_s),
        ge=int(BOUNDS["request_told_s"][0]),
        le=int(BOUNDS["request_told_s"][1]),
        description="Seconds after which a request that no timeout bounds (gthread, event loops) is told as stuck.",
    )
    request_limit_seconds: int = Field(
        default=int(Policy().request_limit_s),
        ge=int(BOUNDS["request_limit_s"][0]),
        le=int(BOUNDS["request_limit_s"][1]),
        description="Seconds after which the worker with such a request is ended. 0: never, it is only told.",
    )
    boot_limit_seconds: int = Field(
        default=int(Policy().boot_limit_s),
        ge=int(BOUNDS["boot_limit_s"][0]),
        le=int(BOUNDS["boot_limit_s"][1]),
        description="Seconds after which a worker that is still loading the application is ended. 0: never.",
    )
    stacks: bool = Field(
        default=Policy().stacks,
        description="Whether Python stacks (names of functions, files and threads, no values) are taken before a kill.",
    )

    def policy(self) -> Policy:
        """The same as the sidecar reads it."""
        return Policy(
            mode=self.mode,
            frozen_window_s=float(self.frozen_window_seconds),
            kills_per_minute=self.kills_per_minute,
            cooldown_s=float(self.cooldown_seconds),
            request_told_s=float(self.request_told_seconds),
            request_limit_s=float(self.request_limit_seconds),
            boot_limit_s=float(self.boot_limit_seconds),
            stacks=self.stacks,
        )


class ResourcesSpec(_Model):
    """Requests and limits of the sidecar container, as in any container."""

    requests: dict[str, str | int] | None = Field(
        default=None, description="What the scheduler reserves, by resource name."
    )
    limits: dict[str, str | int] | None = Field(default=None, description="What it may use at most, by resource name.")


class SidecarSpec(_Model):
    """The container that is added to the pods. All of it may be left out."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="!has(self.image) || self.image.contains('@sha256:') || "
                "(self.image.matches('^.+:[^:/]+$') && !self.image.endsWith(':latest'))",
                message="image needs a version, as name:tag or name@sha256:digest, and not the tag latest: otherwise "
                "nobody can say which sidecar a pod runs",
                field=".image",
            )
        )
    )

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Image of the sidecar. Default: the one that the operator was installed with.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When to pull it. Default: as the operator was installed."
    )
    resources: ResourcesSpec | None = Field(
        default=None, description="Default: requests 20m CPU and 64Mi memory, limit 256Mi memory."
    )
    run_as_user: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="User id. It must be the server's own, or the sidecar sees and ends nothing. Default: the target "
        "container's or pod's runAsUser; where the image alone knows it, what the sidecar finds.",
    )
    run_as_group: int | None = Field(default=None, ge=0, le=2**31 - 1, description="Group id; likewise.")
    port: int = Field(
        default=names.SIDECAR_PORT,
        ge=1024,
        le=65535,
        description="Port of /report and /metrics, free in the whole pod.",
    )
    upgrade: Literal["Automatic", "OnNextChange", "Manual"] = Field(
        default="Automatic",
        description="When an upgraded operator gives this workload its new sidecar, which rolls it. Automatic: one "
        "workload after the other. OnNextChange: together with the next change of spec. Manual: when "
        "spec.sidecar.image names it.",
    )


class WSGIServerSpec(_Model):
    """What is wanted of one WSGI server."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="self.workload == oldSelf.workload",
                message="spec.workload cannot be changed: delete this WSGIServer (its workload gets its own template "
                "back) and create one for the other workload",
                field=".workload",
            )
        )
    )

    workload: WorkloadSpec = Field(description="The workload to adopt. It cannot be changed later.")
    settings: SettingsSpec = Field(default=SettingsSpec(), description="Settings of the server that you want.")
    watchdog: WatchdogSpec = Field(default=WatchdogSpec(), description="What the sidecar may do.")
    sidecar: SidecarSpec = Field(default=SidecarSpec(), description="The container that is added to the pods.")


class WSGIServer(BaseModel):
    """Watches, heals and sizes the WSGI server in the pods of one workload, from outside."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                rule="self.metadata.name.size() <= 63",
                message="metadata.name may have at most 63 characters: it is also the value of a pod label",
            )
        )
    )

    spec: WSGIServerSpec = Field(description="What is wanted.")
    status: Status | None = Field(default=None, description="What the operator found and did.")


def parse_server(body: Mapping[str, Any], default: Sidecar) -> Server | Obstacle:
    """Read a WSGIServer object.

    Args:
        body: as the API server gives it.
        default: the sidecar that the operator was installed with; the object's own words win.

    Returns:
        The server, or an obstacle when the object is not as this operator's CRD demands (an older or newer CRD is
        installed than the operator knows).
    """
    try:
        spec = WSGIServerSpec.model_validate(body.get("spec") or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        return Obstacle(
            reason="InvalidSpec",
            message=f"this operator cannot read {where}: {first['msg']}. The installed CRD and the operator are of "
            "different versions: upgrade the chart's CRD (helm does not do it by itself)",
        )
    metadata = body["metadata"]
    return Server(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        created=metadata["creationTimestamp"],
        kind=spec.workload.kind,
        workload=spec.workload.name,
        container=spec.workload.container,
        wanted=spec.settings.wanted(),
        policy=spec.watchdog.policy(),
        sidecar=_sidecar(spec.sidecar, default),
    )


def _sidecar(spec: SidecarSpec, default: Sidecar) -> Sidecar:
    resources = spec.resources.model_dump(exclude_none=True) if spec.resources else None
    return Sidecar(
        image=spec.image or default.image,
        pull_policy=spec.image_pull_policy or default.pull_policy,
        resources=_as_text(resources) if resources is not None else DEFAULT_RESOURCES,
        run_as_user=spec.run_as_user,
        run_as_group=spec.run_as_group,
        port=spec.port,
        upgrade=spec.upgrade,
        named=spec.image is not None,
    )


def _as_text(resources: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    return {kind: {name: str(amount) for name, amount in amounts.items()} for kind, amounts in resources.items()}


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition, as a plain object."""
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(),
        "schema": {"openAPIV3Schema": _root_schema()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": ["all"],
            },
            "versions": [version],
        },
    }


def _root_schema() -> dict[str, Any]:
    schema = structural(WSGIServer)
    meta = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    schema["properties"] = meta | schema["properties"]
    quantity = {"x-kubernetes-int-or-string": True, "pattern": _QUANTITY}
    resources = schema["properties"]["spec"]["properties"]["sidecar"]["properties"]["resources"]["properties"]
    for kind in resources.values():
        kind["additionalProperties"] = quantity
        kind["maxProperties"] = 16
    return schema


def _columns() -> list[dict[str, Any]]:
    def in_force(setting: str) -> str:
        return f'.status.effective[?(@.name=="{setting}")].value'

    columns: tuple[tuple[str, str, str, int], ...] = (
        ("Workload", "string", ".spec.workload.name", 0),
        ("Workers", "string", in_force("workers"), 0),
        ("Threads", "string", in_force("threads"), 0),
        ("Timeout", "string", in_force("timeoutSeconds"), 0),
        ("Pods", "string", ".status.pods.summary", 0),
        ("Incidents", "integer", ".status.incidents.open", 0),
        ("Kills", "integer", ".status.incidents.kills", 1),
        ("Mode", "string", ".spec.watchdog.mode", 1),
        ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', 0),
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', 0),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    )
    return [
        {"name": name, "type": kind, "jsonPath": path} | ({"priority": priority} if priority else {})
        for name, kind, path, priority in columns
    ]


def main() -> None:
    """Print the CRD as YAML."""
    sys.stdout.write("# Made from the models: python -m wsgi_operator.crd\n")
    yaml.safe_dump(definition(), sys.stdout, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    main()
