"""`WSGIServer`, whole.

In: nothing. Out: `WSGIServerSpec`, `WSGIServer`. Rule: what one part cannot say alone is a CEL rule here.
"""

from typing import Final, Literal

from pydantic import BaseModel, Field

from wsgi_operator.resource.app import AppSpec
from wsgi_operator.resource.part import Part, ruled
from wsgi_operator.resource.settings import SettingsSpec
from wsgi_operator.resource.sidecar import MonitoringSpec, SidecarSpec
from wsgi_operator.resource.tuning import TuningSpec
from wsgi_operator.resource.watchdog import WatchdogSpec
from wsgi_operator.resource.workload import WorkloadSpec
from wsgi_operator.schema import Rule
from wsgi_operator.status_model import Status

_BOUNDED: Final = ("workers", "threads", "timeoutSeconds", "workerConnections")


def _within_bounds(setting: str) -> Rule:
    """A setting must keep to the bounds of the same name."""
    bounds, value = f"self.tuning.bounds.{setting}", f"self.settings.{setting}"
    return Rule(
        rule=f"!has(self.tuning) || !has(self.tuning.bounds) || !has({bounds}) || !has(self.settings) || "
        f"!has({value}) || ((!has({bounds}.min) || {bounds}.min <= {value}) && "
        f"(!has({bounds}.max) || {value} <= {bounds}.max))",
        message=f"spec.settings.{setting} lies outside of spec.tuning.bounds.{setting}: choose a value within the "
        "bounds, or have whoever set them change them",
        field=f".settings.{setting}",
    )


class WSGIServerSpec(Part):
    """What is wanted of one WSGI server. Exactly one of workload and app says which."""

    model_config = ruled(
        Rule(
            rule="has(self.workload) != has(self.app)",
            message="exactly one of spec.workload (adopt a workload that exists) and spec.app (have one made) must be "
            "given: remove the other, or add one",
        ),
        Rule(
            rule="has(self.workload) == has(oldSelf.workload) && "
            "(!has(self.workload) || self.workload == oldSelf.workload)",
            message="spec.workload cannot be changed: delete this WSGIServer (its workload gets its own template "
            "back) and create one for the other workload",
            field=".workload",
        ),
        Rule(
            rule="!has(self.app) || !has(self.settings) || !has(self.settings.gracefulTimeoutSeconds) || "
            "self.settings.gracefulTimeoutSeconds + self.app.drainSeconds < self.app.terminationGracePeriodSeconds",
            message="spec.settings.gracefulTimeoutSeconds and spec.app.drainSeconds together must be less than "
            "spec.app.terminationGracePeriodSeconds, or the kubelet kills requests that gunicorn would finish: raise "
            "the latter, or lower one of the others",
            field=".settings.gracefulTimeoutSeconds",
        ),
        Rule(
            rule="!has(self.app) || self.server != 'uwsgi'",
            message="spec.app is for gunicorn: for uWSGI write the Deployment yourself, and name it in spec.workload",
            field=".server",
        ),
        *(_within_bounds(setting) for setting in _BOUNDED),
    )

    workload: WorkloadSpec | None = Field(
        default=None, description="The workload to adopt. It cannot be changed later."
    )
    app: AppSpec | None = Field(default=None, description="The app to make a workload for.")
    server: Literal["auto", "gunicorn", "uwsgi"] = Field(
        default="auto",
        description="Which server runs in the container. auto: what the sidecars see; until they have seen it, "
        "gunicorn.",
    )
    settings: SettingsSpec = Field(default=SettingsSpec(), description="Settings of the server that you want.")
    tuning: TuningSpec = Field(default=TuningSpec(), description="How settings are chosen and changed.")
    watchdog: WatchdogSpec = Field(default=WatchdogSpec(), description="What the sidecar may do.")
    sidecar: SidecarSpec = Field(default=SidecarSpec(), description="The container that is added to the pods.")
    monitoring: MonitoringSpec = Field(default=MonitoringSpec(), description="Who hears what the sidecars see.")


class WSGIServer(BaseModel):
    """Watches, heals and sizes the WSGI server in the pods of one workload, from outside."""

    model_config = ruled(
        Rule(
            rule="self.metadata.name.size() <= 63",
            message="metadata.name may have at most 63 characters: it is also the value of a pod label",
        ),
        Rule(
            rule="!has(self.spec.app) || self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            message="with spec.app, metadata.name is also the name of a Service: begin it with a letter, and use only "
            "small letters, digits and -",
        ),
    )

    spec: WSGIServerSpec = Field(description="What is wanted.")
    status: Status | None = Field(default=None, description="What the operator found and did.")
