"""`spec.tuning`: who chooses settings, within which bounds, and when and how a change may be made.

In: nothing. Out: `TuningSpec`. Rule: it rules every change of settings, whoever chose them; bounds are a promise to the
platform: no setting outside of them is ever accepted or applied.
"""

from typing import Literal

from pydantic import Field

from wsgi_operator.core.server import Terms
from wsgi_operator.core.windows import Window
from wsgi_operator.resource.part import DAY_S, Part, list_of, ruled
from wsgi_operator.schema import Rule

_CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


class RangeSpec(Part):
    """From where to where a setting may go."""

    model_config = ruled(
        Rule(
            rule="!has(self.min) || !has(self.max) || self.min <= self.max",
            message="min must not be above max: swap the two, or remove one of them",
            field=".min",
        )
    )

    min: int | None = Field(default=None, ge=0, le=1_000_000, description="The least. Left out: no bound.")
    max: int | None = Field(default=None, ge=0, le=1_000_000, description="The most. Left out: no bound.")


class BoundsSpec(Part):
    """Bounds of settings."""

    workers: RangeSpec | None = Field(default=None, description="Worker processes per pod.")
    threads: RangeSpec | None = Field(default=None, description="Threads per worker.")
    timeout_seconds: RangeSpec | None = Field(default=None, description="Seconds; a timeout of 0 (off) is below all.")
    worker_connections: RangeSpec | None = Field(default=None, description="Connections per worker.")


class WindowSpec(Part):
    """A time of the week in which changes may begin; one that ends before it starts goes over midnight."""

    model_config = ruled(
        Rule(
            rule="self.start != self.end",
            message="start and end must differ: for the whole day write 00:00 and 23:59, or leave the window out",
            field=".end",
        )
    )

    days: list[Day] = Field(
        default_factory=list,
        max_length=7,
        description="Days on which it starts. Left out: every day.",
        json_schema_extra=list_of() | {"default": []},
    )
    start: str = Field(pattern=_CLOCK, max_length=5, description="When it starts, as 22:00.")
    end: str = Field(pattern=_CLOCK, max_length=5, description="When it ends, as 06:00.")
    time_zone: str = Field(
        default="UTC",
        min_length=1,
        max_length=64,
        description="Time zone by its IANA name, such as Europe/Berlin. One that the operator does not know is told "
        "in the Stalled condition.",
    )


class TuningSpec(Part):
    """How settings are chosen and changed."""

    mode: Literal["Off", "Recommend", "Auto"] = Field(
        default="Off",
        description="Off: settings are spec.settings. Recommend and Auto keep the place of a tuner that this version "
        "does not have: the Tuned condition says so, and nothing but spec.settings is applied.",
    )
    apply: Literal["RollingUpdate", "InPlace"] = Field(
        default="RollingUpdate",
        description="How a change reaches running pods. RollingUpdate: by new pods. InPlace: the sidecars change the "
        "running servers, one canary first, where the server allows that; otherwise by new pods.",
    )
    bounds: BoundsSpec = Field(default=BoundsSpec(), description="Bounds of settings.")
    windows: list[WindowSpec] = Field(
        default_factory=list,
        max_length=16,
        description="When a change may begin. Left out: at any time. Adopting and giving back wait for no window.",
        json_schema_extra=list_of() | {"default": []},
    )
    cooldown_seconds: int = Field(
        default=0, ge=0, le=7 * DAY_S, description="Seconds from the end of one change to the beginning of the next."
    )
    ready_within_seconds: int = Field(
        default=600,
        ge=10,
        le=DAY_S,
        description="Seconds that a roll which a change began may go on without another of its pods becoming ready; "
        "then it is undone, and what it brought is not tried again until the spec changes.",
    )

    def terms(self) -> Terms:
        """On which terms a change is made, in our own units."""
        windows = (
            Window(days=tuple(window.days), start=window.start, end=window.end, zone=window.time_zone)
            for window in self.windows
        )
        return Terms(windows=tuple(windows), cooldown_s=self.cooldown_seconds, ready_within_s=self.ready_within_seconds)
