"""What the rounds work with, and what one follower remembers.

In: the doors. Out: `Desk`, which all rounds share, and `Memory`, which each follower has of its own. Rule: all of it
can be lost at any moment; what must not be lost stands in the cluster.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wsgi_operator.bells import Bell, Bells
from wsgi_operator.cluster import Cluster
from wsgi_operator.config import Config
from wsgi_operator.core.contest import REWRITTEN
from wsgi_operator.core.ration import Ration
from wsgi_operator.core.record import record_of
from wsgi_operator.core.server import Obstacle
from wsgi_operator.core.settled import Settled
from wsgi_operator.core.turns import Turns
from wsgi_operator.disruptions import Disruptions
from wsgi_operator.health import Pulse
from wsgi_operator.keys import KeyFolder
from wsgi_operator.metrics import Meters
from wsgi_operator.mirror import Mirror
from wsgi_operator.precedence import Precedence
from wsgi_operator.reports import Reports

Body = Mapping[str, Any]

FIRST_AT_ONCE: Final = 50
"""First rounds that are under way at the same time. After a start there is one for each WSGIServer, and each holds its
workload, its plan and its pods' reports: the start of 300 took 108 MB without this bound, and 95 MB with it."""


@dataclass(slots=True, kw_only=True)
class Desk:
    """What the rounds work with; `told` is set once we are to end, be it before kopf takes signals."""

    config: Config
    cluster: Cluster
    reports: Reports
    bells: Bells
    pulse: Pulse = field(default_factory=Pulse)
    meters: Meters = field(default_factory=Meters)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    keys: KeyFolder = field(default_factory=lambda: KeyFolder(None, guards=False))
    told: asyncio.Event = field(default_factory=asyncio.Event)
    first: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FIRST_AT_ONCE))
    precedence: Precedence = field(default_factory=Precedence)
    turns: Turns = field(init=False)
    disruptions: Disruptions = field(init=False)
    mirror: Mirror = field(init=False)

    def __post_init__(self) -> None:
        """As many turns as the configuration allows; the mirror tells who has one."""
        self.turns = Turns(at_once=self.config.rolls_at_once)
        self.disruptions = Disruptions(self.cluster)
        self.mirror = Mirror(self.bells, self._count)

    def _count(self, workload: Body) -> None:
        record, metadata = record_of(workload), workload["metadata"]
        if record is not None:
            self.turns.told(record, f"{metadata['namespace']}/{metadata['name']}")

    def ring(self, workload: tuple[str, str, str] | None) -> None:
        """Have somebody look again: its turn has come; None: nobody waits."""
        if workload is not None:
            self.bells.ring(workload)

    def lock(self, uid: str) -> asyncio.Lock:
        """The lock of one WSGIServer: its rounds and its restore take turns."""
        return self.locks.setdefault(uid, asyncio.Lock())


@dataclass(slots=True, kw_only=True)
class Memory:
    """What one follower remembers to save requests; all of it can be lost.

    Attributes:
        status: as last written.
        told: names of Events that are posted.
        ration: how many more may be.
        cleared: generation of the spec for which what is not wanted any more was looked for, and taken away.
        patience_s: until the next look while things are not as wanted.
        bell: rings when there is reason to look again.
        settled: plans that change nothing, by what they were made from.
        broken_off: rounds in a row that ended before they could tell anything.
        rewritten: why what we write does not arrive as it was written; None: it does.
        undeclared: the API server's words for why a whole status cannot be written, and until when (Unix seconds) that
            is not tried again; None: it can.
        refused_at: since when the API server has refused, at each look, to have pods ordered (Unix seconds); None: it
            did not at the last one.
    """

    status: Body
    told: set[str] = field(default_factory=set)
    ration: Ration = field(default_factory=Ration)
    cleared: int | None = None
    patience_s: float = 1.0
    bell: Bell = field(default_factory=Bell)
    settled: Settled = field(default_factory=Settled)
    broken_off: int = 0
    rewritten: Obstacle | None = None
    undeclared: tuple[str, float] | None = None
    refused_at: float | None = None


def memory_of(status: Body, bell: Bell) -> Memory:
    """What a follower begins with. A status is written after its round, so it tells what that round has cleared."""
    stalled = (one for one in status.get("conditions") or () if one["type"] == "Stalled" and one["status"] == "True")
    obstacle = next((Obstacle(reason=one["reason"], message=one["message"]) for one in stalled), None)
    return Memory(
        status=status,
        cleared=status.get("observedGeneration") if obstacle is None else None,
        rewritten=obstacle if obstacle is not None and obstacle.reason == REWRITTEN else None,
        bell=bell,
    )


def workload_of(body: Body) -> tuple[str, str, str]:
    """Namespace, kind and name of the workload that a WSGIServer names, or has made."""
    spec, metadata = body.get("spec", {}), body["metadata"]
    named = {"name": metadata["name"]} if "app" in spec else spec.get("workload", {})
    return metadata["namespace"], str(named.get("kind", "Deployment")), str(named.get("name"))
