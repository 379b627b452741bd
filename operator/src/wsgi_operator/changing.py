"""Changing the settings of running pods, where that is how they change.

In: a WSGIServer, its workload, what its pods say. Out: what stands on the workload afterwards, and what is waited for.
Rule: what `core/in_place` decides is written to the workload first and ordered of the pods then, each under the uid
that it was decided for; either can be lost and is decided again.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import kopf

from wsgi_contract.in_place import InPlaceOrder, dump_order
from wsgi_operator.applying import zones_of
from wsgi_operator.connection import Refused
from wsgi_operator.core.boot import boots
from wsgi_operator.core.brakes import why_not_in_place
from wsgi_operator.core.evidence import Evidence
from wsgi_operator.core.in_place import Seat, Wish, begins, follow, seats_of
from wsgi_operator.core.patch import Plan
from wsgi_operator.core.record import record_of
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.standing import ANNOTATION_STANDING, Standing, dump_standing, standing_of
from wsgi_operator.core.template import plan_template
from wsgi_operator.desk import Body, Desk, Memory

log = logging.getLogger("wsgi_operator")

REFUSED_S: Final = 60.0
"""How long a refusal to have pods ordered is borne before the settings come by a roll, which is for good. An API server
that has just come back refuses everything, for seconds: until it has read the roles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """How far it is.

    Attributes:
        standing: on the workload; None: nothing was ever changed in place.
        message: what is waited for; empty: nothing.
        held: why a change does not begin yet; None: nothing waits.
    """

    standing: Standing | None = None
    message: str = ""
    held: str | None = None


async def change_in_place(
    desk: Desk, server: Server, applied: tuple[Body, Plan], evidence: Evidence, memory: Memory, *, now: float
) -> Changed:
    """The next step, if settings change in place here.

    Args:
        desk: the doors.
        server: what is wanted.
        applied: the workload, and the plan that it carries.
        evidence: what its pods say.
        memory: of this follower.
        now: Unix seconds.
    """
    workload, made = applied
    # whatever ends this look otherwise, an API server that is away too, ends the row of refusals
    since, memory.refused_at = memory.refused_at or now, None
    standing, record = standing_of(workload), record_of(workload)
    if server.apply != "InPlace" or record is None:
        return Changed()
    if not boots(workload) or made.held is not None:
        return Changed(standing=standing)
    where = (server.kind, server.namespace, server.workload)
    wish = Wish(
        server=server.uid,
        generation=server.generation,
        settings=dict(server.wanted.items()),
        template=record.settings,
    )
    step = follow(wish, standing, seats_of((*evidence.heard, *evidence.silent)), now)
    if begins(standing, step.standing):
        held = why_not_in_place(server, record, standing, zones_of(server), now)
        if held is not None:
            return Changed(standing=standing, held=held)
    if step.standing is not None and step.standing != standing:
        await _note(desk, server, workload, step.standing)
    refusal = await _order_all(desk, server, step.orders)
    if refusal is None or step.standing is None:
        return Changed(standing=step.standing, message=step.message)
    memory.refused_at = since
    if now - since < REFUSED_S:
        return Changed(standing=step.standing, message=f"{refusal}; if that lasts, the settings come by a roll")
    unable = replace(step.standing, phase="Unable", reason=refusal, at=now)
    await _note(desk, server, desk.mirror.workload(*where) or workload, unable)
    return Changed(standing=unable)


async def _order_all(desk: Desk, server: Server, orders: Iterable[tuple[Seat, InPlaceOrder]]) -> str | None:
    """Give the pods their orders; why that is not allowed, if it is not: then no other pod is ordered."""
    for seat, order in orders:
        refusal = await _order(desk, server, seat, order)
        if refusal is not None:
            return refusal
    return None


async def _note(desk: Desk, server: Server, workload: Body, standing: Standing) -> None:
    """Write it beside the template; as all of ours it goes when we give the workload back.

    Raises:
        kopf.TemporaryError: the template is about to change; what stands beside it is written after that.
    """
    made = plan_template(server, workload, now=standing.at, admission=desk.config.admission)
    if isinstance(made, Obstacle) or made.rolls(workload):
        raise kopf.TemporaryError("settings change in place once the template has changed", delay=1)
    metadata = made.config["metadata"]
    told = {**metadata["annotations"], ANNOTATION_STANDING: dump_standing(standing)}
    config = {**made.config, "metadata": {**metadata, "annotations": told}}
    written = await desk.cluster.apply(config, workload["metadata"]["resourceVersion"])
    desk.mirror.learn(written)
    log.info(
        "in place, %s: %s",
        standing.phase,
        standing.reason,
        extra={"object": f"{server.namespace}/{server.name}"},
    )


async def _order(desk: Desk, server: Server, seat: Seat, order: InPlaceOrder) -> str | None:
    """Give a pod its order; why that is not allowed, if it is not. A pod that is gone needs none."""
    try:
        pod = await desk.cluster.order_pod(server.namespace, seat.name, seat.uid, dump_order(order))
    except Refused as error:
        return None if error.status in (404, 422) else f"the API server refuses to have pods ordered: {error}"
    desk.mirror.pods.there(pod)
    log.info("ordered %s of pod %s", order.id, seat.name, extra={"object": f"{server.namespace}/{server.name}"})
    return None
