"""What one WSGIServer asks for, and which of several may have its workload.

In: nothing. Out: `Server`, `Obstacle`, `owner_of`. Rule: these values are what the API server accepted, in our own
units; where the user said nothing they hold None, and the step that needs a value decides, with a reason.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from wsgi_contract import names
from wsgi_contract.policy import Policy
from wsgi_contract.settings import SettingName, Wanted
from wsgi_operator.core.app import App, Monitoring
from wsgi_operator.core.windows import Window

UpgradePolicy = Literal["Automatic", "OnNextChange", "Manual"]
Kind = Literal["Deployment", "StatefulSet"]
Apply = Literal["RollingUpdate", "InPlace"]
Tuner = Literal["Off", "Recommend", "Auto"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]
Runs = Literal["gunicorn", "uwsgi"]
"""Servers that we have a lever for."""

RUNS: Final[tuple[Runs, ...]] = ("gunicorn", "uwsgi")

DEFAULT_RESOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "requests": {"cpu": "20m", "memory": "64Mi"},
    "limits": {"memory": "256Mi"},
}
"""Room for one Python process that looks once a second. No CPU limit: a throttled watchdog sees hangs that are its own;
the request alone gives it its share."""

SPEC_NAMES: Final[Mapping[SettingName, str]] = {
    "workers": "workers",
    "threads": "threads",
    "timeout_s": "timeoutSeconds",
    "graceful_timeout_s": "gracefulTimeoutSeconds",
    "keepalive_s": "keepAliveSeconds",
    "worker_connections": "workerConnections",
    "worker_class": "workerClass",
    "max_requests": "maxRequests",
    "max_requests_jitter": "maxRequestsJitter",
    "backlog": "backlog",
    "preload_app": "preloadApp",
}
"""What the resource calls our settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """How the sidecar container shall be.

    Attributes:
        image: with tag or digest.
        pull_policy: as Kubernetes knows it.
        resources: requests and limits, as Kubernetes knows them.
        run_as_user: None: the server's own, as far as it can be told.
        run_as_group: None: likewise.
        port: of `/report` and `/metrics`.
        upgrade: when a workload that is adopted gets another sidecar than it has.
        named: whether the WSGIServer itself names the image.
        verifier: of the token that its report asks for; None: it answers anybody.
    """

    image: str
    pull_policy: PullPolicy = "IfNotPresent"
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: DEFAULT_RESOURCES)
    run_as_user: int | None = None
    run_as_group: int | None = None
    port: int = names.SIDECAR_PORT
    upgrade: UpgradePolicy = "Automatic"
    named: bool = False
    verifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms a change is made: when it may begin, and how long its roll may take.

    Attributes:
        windows: in one of which it must begin; none: at any time.
        cooldown_s: seconds from the end of one change to the beginning of the next.
        ready_within_s: seconds without a new pod that became ready after which a roll has failed.
    """

    windows: tuple[Window, ...] = ()
    cooldown_s: float = 0.0
    ready_within_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One WSGIServer.

    Attributes:
        namespace: its own and its workload's.
        name: its own.
        uid: tells it from an earlier one of the same name.
        generation: of the spec that these values were read from.
        created: RFC 3339; the earlier of two keeps the workload.
        workload: name of the workload.
        container: the one that the server runs in; None: the only one there is.
        wanted: settings.
        policy: what the watchdog may do.
        sidecar: the container to add.
        kind: of the workload.
        runs: which server it is; None: what the pods report.
        app: what to make the workload for; None: the workload is there, and its owner's.
        monitoring: who hears what the sidecars see.
        tuner: whether a tuner is asked for, and how it should work.
        terms: on which a change is made.
        apply: how a change of settings reaches running pods.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    workload: str
    container: str | None
    wanted: Wanted
    policy: Policy
    sidecar: Sidecar
    kind: Kind = "Deployment"
    runs: Runs | None = None
    app: App | None = None
    monitoring: Monitoring = field(default_factory=Monitoring)
    tuner: Tuner = "Off"
    terms: Terms = Terms()
    apply: Apply = "RollingUpdate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a step cannot be done: a value, not an exception; it ends up in the Stalled condition.

    Attributes:
        reason: one CamelCase word.
        message: what is wrong and what to do.
    """

    reason: str
    message: str


def owner_of(bodies: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Which of the WSGIServers that name the same workload may have it: the oldest; one at a time.

    One that is being deleted keeps its claim until its restore is done: two must never write one template.

    Args:
        bodies: at least one WSGIServer object.
    """
    return min(bodies, key=lambda body: (body["metadata"]["creationTimestamp"], body["metadata"]["uid"]))
