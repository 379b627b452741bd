"""`spec.app`: an app whose Deployment, Service and PodDisruptionBudget the operator makes and owns.

In: nothing. Out: `AppSpec`. Rule: what is asked for here is what gunicorn needs to serve one WSGI application, and no
more; who needs a pod of another shape writes the Deployment and names it in `spec.workload`.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from wsgi_operator.core.app import App, Service
from wsgi_operator.resource.containers import EnvFromSource, EnvVar, ResourcesSpec
from wsgi_operator.resource.part import LABEL_PATTERN, NAME_PATTERN, Part, list_of, ruled
from wsgi_operator.schema import Rule

_MODULE = r"^[a-zA-Z_][a-zA-Z0-9_.]*(:[a-zA-Z_][a-zA-Z0-9_.]*(\(.*\))?)?$"


class ServiceSpec(Part):
    """The Service in front of the app's pods."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(default="ClusterIP", description="Its type.")
    port: int = Field(default=80, ge=1, le=65535, description="Port that it listens on; it leads to spec.app.port.")
    annotations: dict[str, str] = Field(
        default_factory=dict,
        description="Annotations of the Service, for example for a cloud's load balancer.",
        json_schema_extra={"default": {}, "maxProperties": 32},
    )


class DisruptionSpec(Part):
    """How many pods a node drain may take at once; exactly one of the two."""

    model_config = ruled(
        Rule(
            rule="has(self.minAvailable) != has(self.maxUnavailable)",
            message="podDisruptionBudget takes exactly one of minAvailable and maxUnavailable: remove the other, or "
            "name one",
        )
    )

    min_available: int | None = Field(default=None, ge=0, le=10_000, description="Pods that must stay available.")
    max_unavailable: int | None = Field(default=None, ge=0, le=10_000, description="Pods that may be gone at once.")


class ImagePullSecret(Part):
    """A Secret with which the kubelet pulls the image."""

    name: str = Field(min_length=1, max_length=253, pattern=NAME_PATTERN, description="Its name.")


class AppSpec(Part):
    """A WSGI application: the operator makes its Deployment, Service and PodDisruptionBudget, and owns them.

    Pods run under Pod Security "restricted", with readiness and liveness probes that the sidecar answers.
    """

    model_config = ruled(
        Rule(
            rule="!has(self.drainSeconds) || !has(self.terminationGracePeriodSeconds) || "
            "self.drainSeconds < self.terminationGracePeriodSeconds",
            message="drainSeconds must be less than terminationGracePeriodSeconds: the server gets what is left of it "
            "to finish its requests",
            field=".drainSeconds",
        )
    )

    image: str = Field(
        min_length=1,
        max_length=512,
        description="Image with the application and gunicorn in it, as name:tag or name@sha256:digest.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When the kubelet pulls it."
    )
    image_pull_secrets: list[ImagePullSecret] = Field(
        default_factory=list,
        max_length=8,
        description="Secrets with which the kubelet pulls it.",
        json_schema_extra=list_of("name") | {"default": []},
    )
    module: str = Field(
        max_length=253,
        pattern=_MODULE,
        description="The WSGI application, as gunicorn takes it: package.module:variable.",
    )
    args: list[Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=list,
        max_length=64,
        description="More words for gunicorn's command line, such as --access-logfile=-. What stands here is pinned: "
        "settings belong into spec.settings.",
        json_schema_extra=list_of() | {"default": []},
    )
    port: int = Field(default=8000, ge=1024, le=65535, description="Port that gunicorn listens on.")
    replicas: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Pods. Left out: whoever scales has it (kubectl scale, an HPA), beginning with 1.",
    )
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=256,
        description="Environment variables, as in a pod. spec.settings stand behind a GUNICORN_CMD_ARGS that stands "
        "here; one that only the image or envFrom has gives way to them.",
        json_schema_extra=list_of("name") | {"default": []},
    )
    env_from: list[EnvFromSource] = Field(
        default_factory=list,
        max_length=32,
        description="ConfigMaps and Secrets whose keys become variables, as in a pod.",
        json_schema_extra=list_of() | {"default": []},
    )
    resources: ResourcesSpec | None = Field(default=None, description="Requests and limits of the app's container.")
    service_account_name: str | None = Field(
        default=None,
        max_length=253,
        pattern=NAME_PATTERN,
        description="ServiceAccount of the pods, whose token they get. Default: default, without its token.",
    )
    run_as_user: int | None = Field(
        default=None,
        ge=1,
        le=2**31 - 1,
        description="User id of the server. Default: the image's, which must be a number.",
    )
    run_as_group: int | None = Field(default=None, ge=1, le=2**31 - 1, description="Group id; likewise.")
    termination_grace_period_seconds: int = Field(
        default=60,
        ge=5,
        le=3600,
        description="Seconds from the order to end until the kubelet kills; drainSeconds and gracefulTimeoutSeconds "
        "must fit into it.",
    )
    drain_seconds: int = Field(
        default=5,
        ge=0,
        le=600,
        description="Seconds that an ending pod goes on serving until load balancers have heard of it.",
    )
    service: ServiceSpec = Field(default=ServiceSpec(), description="The Service in front of the pods.")
    pod_disruption_budget: DisruptionSpec | None = Field(
        default=None, description="How many pods a drain may take at once. Left out: no budget is made."
    )
    container_name: str = Field(
        default="app", min_length=1, max_length=63, pattern=LABEL_PATTERN, description="Name of the app's container."
    )

    def app(self) -> App:
        """The same as the core reads it."""
        service, budget = self.service, self.pod_disruption_budget
        return App(
            image=self.image,
            module=self.module,
            pull_policy=self.image_pull_policy,
            pull_secrets=tuple(secret.name for secret in self.image_pull_secrets),
            args=tuple(self.args),
            port=self.port,
            replicas=self.replicas,
            env=tuple(_as_written(entry) for entry in self.env),
            env_from=tuple(_as_written(source) for source in self.env_from),
            resources=self.resources.as_text() if self.resources else None,
            service_account=self.service_account_name,
            run_as_user=self.run_as_user,
            run_as_group=self.run_as_group,
            grace_s=self.termination_grace_period_seconds,
            drain_s=self.drain_seconds,
            service=Service(type=service.type, port=service.port, annotations=dict(service.annotations)),
            disruption=_as_written(budget) if budget else None,
            container=self.container_name,
        )


def _as_written(part: Part) -> dict[str, Any]:
    """A part in the words of Kubernetes."""
    return part.model_dump(by_alias=True, exclude_none=True)
