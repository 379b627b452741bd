"""Making what the operator makes beside a workload, and taking away what is not wanted any more.

In: a `Server`. Out: what is in the way, and what cannot be had here. Rule: what is wanted is looked at in each round;
what is not wanted is looked for once per change of the spec, since nobody remembers whether it was made.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from wsgi_operator.connection import Refused
from wsgi_operator.core.made import children, step
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.workload import Object
from wsgi_operator.desk import Desk, Memory

log = logging.getLogger("wsgi_operator")

_FIRST: Final = 1
"""The generation of a spec that nobody has changed: what it does not want was never made."""

NO_MONITORS: Final = "PodMonitorUnknown"


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How it went.

    Attributes:
        stuck: what is in the way of something that is wanted; None: nothing.
        told: what this cluster does not have.
    """

    stuck: Obstacle | None = None
    told: Sequence[Obstacle] = field(default_factory=tuple)


async def make_children(desk: Desk, server: Server, memory: Memory) -> Outcome:
    """Bring everything beside the workload to what is wanted."""
    outcome = Outcome()
    for kind, wanted in children(server).items():
        if wanted is None and server.generation in (_FIRST, memory.cleared):
            continue
        try:
            found = await _bring(desk, server, kind, wanted)
        except Refused as error:
            found = _refusal(server, kind, error)
        if found is not None and found.reason == NO_MONITORS:
            outcome.told = (found,)
        else:
            outcome.stuck = outcome.stuck or found
    if outcome.stuck is None:
        memory.cleared = server.generation
    return outcome


async def _bring(desk: Desk, server: Server, kind: str, wanted: Object | None) -> Obstacle | None:
    """One of them.

    Raises:
        Refused: the API server does not let us.
    """
    found = step(server, kind, wanted, await desk.cluster.made(kind, server.namespace, server.name))
    if found is None or isinstance(found, Obstacle):
        return found
    if found.config is not None:
        await desk.cluster.apply(found.config, found.version)
    else:
        await desk.cluster.delete(kind, server.namespace, server.name, found.version or "")
    log.info(
        "%s %s %s", "applied" if found.config else "deleted", kind, server.name,
        extra={"object": f"{server.namespace}/{server.name}"},
    )  # fmt: skip
    return None


def _refusal(server: Server, kind: str, error: Refused) -> Obstacle:
    if error.status == 404 and kind == "PodMonitor":
        return Obstacle(
            reason=NO_MONITORS,
            message="spec.monitoring.podMonitor is not made: this cluster does not know PodMonitor "
            "(monitoring.coreos.com/v1). Install the Prometheus operator's CRDs, or remove it from the spec",
        )
    return Obstacle(reason="Refused", message=f"the API server refuses {kind} {server.name}: {error}")
