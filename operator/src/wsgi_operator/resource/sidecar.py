"""`spec.sidecar` and `spec.monitoring`: the container that is added, and who hears from it.

In: nothing. Out: `SidecarSpec`, `MonitoringSpec`. Rule: all of it may be left out.
"""

from typing import Literal

from pydantic import Field

from wsgi_contract import names
from wsgi_operator.core.app import Monitoring, PodMonitor, Requests
from wsgi_operator.resource.containers import ResourcesSpec
from wsgi_operator.resource.part import Part, ruled
from wsgi_operator.schema import Rule


class SidecarSpec(Part):
    """The container that is added to the pods. All of it may be left out."""

    model_config = ruled(
        Rule(
            rule="!has(self.image) || self.image.contains('@sha256:') || "
            "(self.image.matches('^.+:[^:/]+$') && !self.image.endsWith(':latest'))",
            message="image needs a version, as name:tag or name@sha256:digest, and not the tag latest: otherwise "
            "nobody can say which sidecar a pod runs",
            field=".image",
        )
    )

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Image of the sidecar, from a repository that the installation allows: its own, and those of the "
        "chart's sidecar.allowedRepositories. Default: the one that the operator was installed with.",
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


class PodMonitorSpec(Part):
    """The PodMonitor by which the Prometheus operator finds the sidecars."""

    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Labels of the PodMonitor, as the podMonitorSelector of your Prometheus asks for them.",
        json_schema_extra={"default": {}, "maxProperties": 16},
    )
    interval_seconds: int = Field(default=15, ge=1, le=3600, description="Seconds between two scrapes.")


class RequestsSpec(Part):
    """Requests as gunicorn itself counts them, over statsd; it costs the server some 10 us a request."""

    forward: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=r"^([-a-zA-Z0-9.]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}$",
        description="host:port of your own statsd, to which every datagram goes on.",
    )


class MonitoringSpec(Part):
    """Who hears what the sidecars see, beside this object's status. /metrics is served in any case."""

    pod_monitor: PodMonitorSpec | None = Field(
        default=None,
        description="Makes a PodMonitor, where the cluster knows that resource. Left out: none is made.",
    )
    requests: RequestsSpec | None = Field(
        default=None,
        description="Has the server tell its requests (status, duration, log lines), for wsgi_requests_total and "
        "wsgi_request_duration_seconds. Left out: it does not.",
    )

    def monitoring(self) -> Monitoring:
        """The same as the core reads it."""
        monitor, requests = self.pod_monitor, self.requests
        return Monitoring(
            pod_monitor=PodMonitor(labels=dict(monitor.labels), interval_s=monitor.interval_seconds)
            if monitor
            else None,
            requests=Requests(forward=requests.forward) if requests else None,
        )
