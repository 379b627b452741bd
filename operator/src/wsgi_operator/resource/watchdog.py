"""`spec.watchdog`: what the sidecar may do, and how sure it must be.

In: nothing. Out: `WatchdogSpec`, and the sidecar's `Policy` from it. Rule: bounds and defaults are the policy's own;
what the policy holds as a share is written here in per cent, since a resource has whole numbers only.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from wsgi_contract.policy import MOST_PATTERNS, Policy
from wsgi_operator.resource.part import Part, bounded, list_of

_DEFAULT: Final = Policy()


class WatchdogSpec(Part):
    """What the sidecar may do about a sick worker. Healing is local: it needs neither operator nor network."""

    mode: Literal["Enforce", "DryRun"] = Field(
        default="Enforce", description="Enforce ends frozen workers; DryRun only says what it would have done."
    )
    frozen_window_seconds: int = bounded(
        "frozen_window_s",
        default=_DEFAULT.frozen_window_s,
        description="Seconds over which a worker must look frozen before it is ended.",
    )
    stuck_window_seconds: int = bounded(
        "stuck_window_s",
        default=_DEFAULT.stuck_window_s,
        description="Seconds without one context switch after which a sleeping arbiter counts as stuck; a healthy one "
        "makes one a second.",
    )
    kills_per_minute: int = bounded(
        "kills_per_minute",
        default=_DEFAULT.kills_per_minute,
        description="Budget of kills per pod; beyond it the sidecar waits and says so. 0: never kill.",
    )
    cooldown_seconds: int = bounded(
        "cooldown_s",
        default=_DEFAULT.cooldown_s,
        description="Seconds between two kills in the same worker slot.",
    )
    only_if_queue: bool = Field(
        default=_DEFAULT.only_if_queue,
        description="Whether a worker that serves nobody (frozen, stuck, hanging at boot) is ended only while somebody "
        "waits in the accept queue. false: it is ended anyway.",
    )
    end_orphans: bool = Field(
        default=_DEFAULT.end_orphans,
        description="Whether children that outlived their worker are ended. false: they are only told.",
    )
    orphan_exempt: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list,
        max_length=MOST_PATTERNS,
        description="Names (ps -o comm) of processes that may outlive their worker; * and ? stand for any letters.",
        json_schema_extra=list_of() | {"default": []},
    )
    memory_recycle_percent: int = Field(
        default=round(_DEFAULT.memory_recycle_share * 100),
        ge=0,
        le=99,
        description="Per cent of the container's memory limit from which on the worker that grew most is asked to end "
        "and is replaced, one at a time, before the kernel kills one. 0: never.",
    )
    request_told_seconds: int = bounded(
        "request_told_s",
        default=_DEFAULT.request_told_s,
        description="Seconds after which a request that no timeout bounds (gthread, event loops) is told as stuck.",
    )
    request_limit_seconds: int = bounded(
        "request_limit_s",
        default=_DEFAULT.request_limit_s,
        description="Seconds after which the worker with such a request is ended. 0: never, it is only told.",
    )
    boot_told_seconds: int = bounded(
        "boot_told_s",
        default=_DEFAULT.boot_told_s,
        description="Seconds after which a worker that idles while it loads the application is told.",
    )
    boot_limit_seconds: int = bounded(
        "boot_limit_s",
        default=_DEFAULT.boot_limit_s,
        description="Seconds after which a worker that is still loading the application is ended. 0: never.",
    )
    stacks: bool = Field(
        default=_DEFAULT.stacks,
        description="Whether Python stacks (names of functions, files and threads, no values) are taken before a kill.",
    )
    probe_grace_seconds: int = bounded(
        "probe_grace_s",
        default=_DEFAULT.probe_grace_s,
        description="Seconds that the server must look dead or wedged before /server/livez says no: more than the "
        "sidecar's own cure takes.",
    )
    probe_queue_percent: int = Field(
        default=round(_DEFAULT.probe_queue_share * 100),
        ge=0,
        le=100,
        description="Per cent of the accept queue that, filled for 5 s, makes /server/readyz say no. 0: never, since "
        "where all pods are as full, taking them out of service helps nobody.",
    )

    def policy(self) -> Policy:
        """The same as the sidecar reads it."""
        return Policy(
            mode=self.mode,
            frozen_window_s=float(self.frozen_window_seconds),
            stuck_window_s=float(self.stuck_window_seconds),
            kills_per_minute=self.kills_per_minute,
            cooldown_s=float(self.cooldown_seconds),
            only_if_queue=self.only_if_queue,
            end_orphans=self.end_orphans,
            orphan_exempt=tuple(self.orphan_exempt),
            memory_recycle_share=self.memory_recycle_percent / 100,
            request_told_s=float(self.request_told_seconds),
            request_limit_s=float(self.request_limit_seconds),
            boot_told_s=float(self.boot_told_seconds),
            boot_limit_s=float(self.boot_limit_seconds),
            stacks=self.stacks,
            probe_grace_s=float(self.probe_grace_seconds),
            probe_queue_share=self.probe_queue_percent / 100,
        )
