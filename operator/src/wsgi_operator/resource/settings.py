"""`spec.settings`: what the user pins.

In: nothing. Out: `SettingsSpec`, and `Wanted` from it. Rule: a setting that is left out is the workload's owner's.
"""

from pydantic import Field

from wsgi_contract.settings import Wanted
from wsgi_operator.resource.part import DAY_S, Part, ruled
from wsgi_operator.schema import Rule


class SettingsSpec(Part):
    """Settings of the server that you want; one that is left out stays as the workload's owner has it.

    They reach gunicorn through GUNICORN_CMD_ARGS, behind what the owner has there. What the container's command line
    says is stronger: such a setting is pinned, and the status says by which flag.
    """

    model_config = ruled(
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
        le=DAY_S,
        description="Seconds without a heartbeat after which the arbiter kills a worker; 0 switches it off. In class "
        "sync this bounds a request; in gthread it does not, since its main loop keeps beating.",
    )
    graceful_timeout_seconds: int | None = Field(
        default=None,
        ge=1,
        le=DAY_S,
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
