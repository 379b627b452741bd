"""The shape of a WSGIServer's status, for the schema in the CRD.

In: nothing. Out: `Status`. Rule: this only describes; the values are made, pure, in `core/status.py`, and a test holds
that what is made there fits in here. Numbers of settings are text, since one setting may be a word or a list over pods.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _list_of(key: str | None = None, **more: Any) -> dict[str, Any]:
    if key is None:
        return {"x-kubernetes-list-type": "atomic"} | more
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]} | more


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Condition(_Part):
    """One condition."""

    type: str = Field(max_length=316, description="Ready, Injected, Tuned, Reconciling, Stalled, Degraded or RollSafe.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(max_length=1024, description="Why, in one word for programs.")
    message: str = Field(max_length=32768, description="Why, in a sentence for people, with what to do.")
    observed_generation: int = Field(ge=0, description="Generation of the spec that this was found for.")
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"}, description="When the status changed.")


class Effective(_Part):
    """One setting in force, over all pods that report."""

    name: str = Field(description="The setting, as in spec.settings.")
    value: str | None = Field(
        default=None, description="What the servers use; absent where it is not known, or not the same."
    )
    wanted: str | None = Field(default=None, description="What spec.settings wants; absent where it wants nothing.")
    state: Literal["Agreed", "Mixed", "Unknown"] = Field(
        description="Agreed: all pods that report use the value. Mixed: they differ, as during a roll. Unknown: no pod "
        "could tell."
    )
    source: str | None = Field(
        default=None,
        description="Who gave it: default, config-file, environment, command-line, control-socket, unknown.",
    )
    said_by: str | None = Field(default=None, description="The words that gave it, such as -w 3.")
    pinned: bool = Field(description="Whether the command line gives it, so that spec.settings cannot change it.")
    values: list[str] | None = Field(
        default=None,
        max_length=8,
        description="The values that differ, where the state is Mixed.",
        json_schema_extra=_list_of(),
    )


class Choice(_Part):
    """One setting as a tuner would have it."""

    name: str = Field(description="The setting, as in spec.settings.")
    value: str = Field(description="Its value.")
    reasons: list[str] = Field(
        default_factory=list,
        max_length=8,
        description="Why, in sentences with the numbers in them.",
        json_schema_extra=_list_of(),
    )


class Recommendation(_Part):
    """What a tuner would set. Its place: this version has no tuner."""

    at: str = Field(json_schema_extra={"format": "date-time"}, description="When it was made.")
    settings: list[Choice] = Field(
        default_factory=list, max_length=16, description="The settings.", json_schema_extra=_list_of("name")
    )


class Silent(_Part):
    """A pod that did not report, or whose sidecar sees little."""

    name: str = Field(description="Name of the pod.")
    reason: str = Field(description="Why, as far as the operator can tell.")


class Pods(_Part):
    """The pods that carry the sidecar."""

    total: int = Field(ge=0, description="How many there are.")
    reporting: int = Field(ge=0, description="How many of them reported in the last look.")
    summary: str = Field(description="reporting/total.")
    silent: list[Silent] = Field(
        default_factory=list,
        max_length=20,
        description="Those that did not, at most 20 of them.",
        json_schema_extra=_list_of("name"),
    )
    denied: list[Silent] = Field(
        default_factory=list,
        max_length=20,
        description="Those whose sidecar runs as another user than the server, so that it sees little; the operator "
        "sets the right one by itself, unless spec.sidecar or the workload names another.",
        json_schema_extra=_list_of("name"),
    )


class IncidentLine(_Part):
    """One incident."""

    pod: str = Field(description="Where.")
    kind: str = Field(description="What, such as frozen-worker.")
    since: str | None = Field(default=None, json_schema_extra={"format": "date-time"}, description="When it began.")
    ended: str | None = Field(default=None, json_schema_extra={"format": "date-time"}, description="When it ended.")
    summary: str = Field(description="What was seen, in a sentence.")
    action: str = Field(description="What was done, or why nothing was.")
    outcome: str | None = Field(default=None, description="How it ended.")


class Incidents(_Part):
    """Incidents and kills in the pods that report, counted since each sidecar's start."""

    open: int = Field(ge=0, description="Incidents that last.")
    total: int = Field(ge=0, description="All incidents.")
    kills: int = Field(ge=0, description="Kills that the reports still list.")
    recent: list[IncidentLine] = Field(
        default_factory=list,
        max_length=10,
        description="Open ones first, then the latest.",
        json_schema_extra=_list_of(),
    )


class ChangeLine(_Part):
    """One change that the operator made."""

    at: str = Field(json_schema_extra={"format": "date-time"}, description="When.")
    what: str = Field(description="A setting, or sidecar, image, app.image, watchdog, identity, server, requests.")
    before: str | None = Field(default=None, description="Value before; absent: it was the owner's.")
    after: str | None = Field(default=None, description="Value after; absent: it is the owner's again.")
    outcome: Literal["UnderWay", "Kept", "Undone", "Failed"] | None = Field(
        default=None,
        description="UnderWay: its roll goes on. Kept: its pods became ready. Undone: they did not, and what was there "
        "before is applied again. Failed: they did not, and nothing of the operator's was to blame or to undo.",
    )
    why: str | None = Field(default=None, description="What the pods said, where they did not become ready.")


class NotVisible(_Part):
    """Something that the sidecars cannot see."""

    what: str = Field(description="What.")
    why: str = Field(description="Why not.")
    remedy: str = Field(description="What to do.")
    pods: int = Field(ge=0, description="In how many pods.")


class Status(_Part):
    """What the operator found and did."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation of the spec that this status is about."
    )
    workload: str | None = Field(default=None, description="Kind and name of the workload.")
    saturation: str | None = Field(
        default=None,
        description="How much of what the server can do at a time is taken in the fullest pod: 0 idle, 1 all of it, 2 "
        "as many requests wait as are served. Told anew once it has moved by 0.2, or over 1.",
    )
    recommendation: Recommendation | None = Field(
        default=None, description="What a tuner would set; this version has none, so it is absent."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        description="Ready: the pods run as wanted. Injected: the template carries the sidecar. Reconciling: work goes "
        "on. Stalled: it cannot, until somebody does something. Tuned: the settings in force are the wanted ones. "
        "Degraded: it works, but not all of it. RollSafe: nothing in the workload's manifest makes a roll lose "
        "requests.",
        json_schema_extra=_list_of("type"),
    )
    effective: list[Effective] = Field(
        default_factory=list,
        max_length=32,
        description="Settings in force, as the servers have them.",
        json_schema_extra=_list_of("name"),
    )
    pods: Pods | None = Field(default=None, description="The pods that carry the sidecar.")
    incidents: Incidents | None = Field(default=None, description="Incidents in summary.")
    not_visible: list[NotVisible] = Field(
        default_factory=list,
        max_length=10,
        description="What the sidecars cannot see, and the remedy.",
        json_schema_extra=_list_of(),
    )
    last_changes: list[ChangeLine] = Field(
        default_factory=list,
        max_length=10,
        description="What the operator changed, newest first.",
        json_schema_extra=_list_of(),
    )
