"""What surrounds a server beyond its processes: its container's limits, the connections it shares, how busy it is.

In: what the door `rounds` read, some of it at a slower pace than the looks. Out: `Circumstances`. Rule: a value that
nobody could read, or that nobody has looked for yet, is None and never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wsgi_contract.report import Container, Finding, Limit, ProcessId, Saturation, SharedSocket, Unknown
from wsgi_sidecar.core.limits import UNLIMITED, Limits, Pressure


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """As of one look.

    Attributes:
        limits: of the server's container.
        pressure: on it.
        shared: connections that several of master and workers hold.
        saturation: see the Report's field.
        busy: threads of each worker that work on a request.
        oom_kills: processes of the container that the kernel ended for memory at this look or the one before.
        dropped: connections that full accept queues of this network namespace turned away since it exists.
        pss_bytes: memory of each worker with shared pages divided among their users; empty while nobody asks for it.
        findings: of the lint.
        unknowns: what could not be read.
    """

    limits: Limits = field(default_factory=Limits)
    pressure: Pressure = field(default_factory=Pressure)
    shared: tuple[SharedSocket, ...] | None = None
    saturation: Saturation | None = None
    busy: Mapping[ProcessId, int] = field(default_factory=dict)
    oom_kills: int = 0
    dropped: int | None = None
    pss_bytes: Mapping[ProcessId, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    unknowns: tuple[Unknown, ...] = ()

    @property
    def container(self) -> Container:
        """Limits and pressure in the Report's words."""
        return Container(
            cpu_limit_cores=_limit(self.limits.cpu_cores),
            memory_limit_bytes=_limit(self.limits.memory_bytes),
            memory_working_set_bytes=self.pressure.memory_working_set_bytes,
            throttled_s=self.pressure.throttled_s,
            oom_kills=self.pressure.oom_kills,
        )


def _limit(value: float | None) -> Limit | None:
    return "unlimited" if value == UNLIMITED else value
