"""An app whose workload the operator makes, and who hears what the sidecars see.

In: nothing. Out: `App`, `Service`, `Monitoring`. Rule: parts that Kubernetes takes as they are (a container's env, its
resources) stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The Service in front of the app.

    Attributes:
        type: as Kubernetes knows it.
        port: that it listens on.
        annotations: for the cloud's load balancer.
    """

    type: str = "ClusterIP"
    port: int = 80
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The app.

    Attributes:
        image: with the app and gunicorn in it.
        module: as gunicorn takes it.
        pull_policy: as Kubernetes knows it.
        pull_secrets: names of Secrets.
        args: more words for gunicorn.
        port: that gunicorn listens on.
        replicas: None: whoever scales has it.
        env: as in a container.
        env_from: as in a container.
        resources: as in a container; None: none are asked for.
        service_account: of the pods; None: the default one, without its token.
        run_as_user: None: the image's.
        run_as_group: None: likewise.
        grace_s: from the order to end until the kubelet kills.
        drain_s: that an ending pod goes on serving.
        service: in front of the pods.
        disruption: `minAvailable` or `maxUnavailable` of a budget; None: no budget.
        container: the container's name.
    """

    image: str
    module: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    port: int = 8000
    replicas: int | None = None
    env: tuple[Mapping[str, Any], ...] = ()
    env_from: tuple[Mapping[str, Any], ...] = ()
    resources: Mapping[str, Mapping[str, str]] | None = None
    service_account: str | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    grace_s: int = 60
    drain_s: int = 5
    service: Service = field(default_factory=Service)
    disruption: Mapping[str, int] | None = None
    container: str = "app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """That the server counts its requests for us.

    Attributes:
        forward: `host:port` of the owner's statsd, where each datagram goes on; None: nowhere.
    """

    forward: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodMonitor:
    """A PodMonitor for the Prometheus operator.

    Attributes:
        labels: by which a Prometheus chooses it.
        interval_s: between two scrapes.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    interval_s: int = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """Who hears what the sidecars see; None: nobody is made to."""

    pod_monitor: PodMonitor | None = None
    requests: Requests | None = None
