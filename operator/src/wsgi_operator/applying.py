"""Bringing a workload to what is asked for, when that may be.

In: a WSGIServer, its workload, what its pods reported. Out: the workload as it is then, and the plan, or an `Obstacle`.
Rule: what may not begin yet leaves everything as it was asked for before, so somebody else's change is put right
meanwhile; what failed is not tried again until something else is asked for.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import tzinfo

import kopf

from wsgi_contract import names
from wsgi_operator.connection import Conflict, Refused
from wsgi_operator.core.app_plan import HANDED_OVER, plan_app
from wsgi_operator.core.brakes import Moment, why_not_yet
from wsgi_operator.core.budgets import takes_away
from wsgi_operator.core.contest import CONTESTED, rewritten
from wsgi_operator.core.patch import Plan, applied_to
from wsgi_operator.core.record import Record, all_told, original_of, record_of
from wsgi_operator.core.restore import handed_back
from wsgi_operator.core.roll import wished_again
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.standing import standing_of
from wsgi_operator.core.template import plan_template
from wsgi_operator.core.theirs import owners_part
from wsgi_operator.core.workload import carries_sidecar
from wsgi_operator.desk import Body, Desk, Memory
from wsgi_operator.zones import zone_of

log = logging.getLogger("wsgi_operator")

Applied = tuple[Body, Plan]


async def apply_wanted(
    desk: Desk, server: Server, workload: Body | None, seen: Seen | None, memory: Memory, *, now: float
) -> Applied | Obstacle:
    """Apply what is planned, if anything is and may be; what the API server refuses is an obstacle with its words.

    Args:
        desk: what the rounds work with.
        server: what is wanted.
        workload: as it is now; None: there is none, and one is made for the app.
        seen: what the pods of this very template report; None: nobody was asked.
        memory: of this follower.
        now: Unix seconds.
    """
    if workload is None:
        return await _make(desk, server, now)
    record = record_of(workload)
    if record is not None and record.undone is not None and record.undone.answers(server):
        return await _as_before(desk, server, workload, memory, record=record, seen=seen, now=now)
    made = _plan(desk, server, workload, seen, memory, now=now)
    if isinstance(made, Obstacle):
        return made
    why = await _held(desk, server, workload, made, now)
    if why is None:
        return await apply_plan(desk, server, workload, made)
    if record is None or record.out:
        return workload, replace(made, needed=False, held=why)
    same = await _as_before(desk, server, workload, memory, record=record, seen=seen, now=now)
    return same if isinstance(same, Obstacle) else (same[0], replace(same[1], kind=made.kind, held=why))


def as_it_is(applied: Applied | Obstacle, workload: Body | None, memory: Memory) -> Applied | Obstacle:
    """The same; but an obstacle makes nobody blind: where the sidecar is in the template, its pods go on being heard.

    Args:
        applied: what came of applying what is wanted.
        workload: as it was before; None: there was none.
        memory: of this follower.
    """
    if not isinstance(applied, Obstacle):
        written, made = applied
        if not made.needed:
            return applied
        memory.rewritten = rewritten(written, made.config)
        return written, replace(made, stuck=memory.rewritten)
    record = None if workload is None else applied_to(workload)
    if workload is None or record is None or not carries_sidecar(workload):
        return applied
    if applied.reason == CONTESTED and memory.rewritten is not None:
        applied = memory.rewritten
    return workload, Plan(config={}, needed=False, record=record, stuck=applied)


async def _make(desk: Desk, server: Server, now: float) -> Applied | Obstacle:
    """The workload of an app; it rolls nothing, and so waits for nobody."""
    made = None if server.app is None else plan_app(server, server.app, None, now=now)
    if not isinstance(made, Plan):
        return made or Obstacle(reason="WorkloadNotFound", message=f"there is no {server.kind} {server.workload}")
    return await apply_plan(desk, server, None, made)


def _plan(
    desk: Desk, server: Server, workload: Body, seen: Seen | None, memory: Memory, *, now: float
) -> Plan | Obstacle:
    """What to apply to a workload that we made, or to somebody's; thought of once for what has not changed."""
    made: Plan | Obstacle | None = memory.settled.plan(server, workload, seen)
    if made is None and server.app is not None:
        made = plan_app(server, server.app, workload, seen=seen, now=now)
    if made is None:
        made = plan_template(server, workload, seen=seen, now=now, admission=desk.config.admission)
    if isinstance(made, Plan):
        memory.settled.remember(server, workload, seen, made)
    return made


async def write(desk: Desk, config: Body, workload: Body | None, manager: str = names.FIELD_MANAGER) -> Body:
    """Apply a configuration to the version of the workload that was looked at; None: to none, so that it is made.

    Raises:
        Conflict: somebody was faster, and the mirror knows by now.
    """
    metadata = config["metadata"]
    try:
        version = None if workload is None else workload["metadata"]["resourceVersion"]
        written = await desk.cluster.apply(config, version, manager)
    except Conflict:
        # Whoever was faster is not in the mirror yet, and would not be for long if the watch has just broken.
        latest = await desk.cluster.workload(config["kind"], metadata["namespace"], metadata["name"])
        if latest is not None:
            desk.mirror.learn(latest)
        raise
    desk.mirror.learn(written)
    return written


async def apply_plan(desk: Desk, server: Server, workload: Body | None, made: Plan) -> Applied | Obstacle:
    """Apply it, if it changes anything."""
    if workload is not None and not made.needed:
        return workload, made
    try:
        if workload is not None and made.handed_over is not None:
            workload = await write(desk, made.handed_over, workload, HANDED_OVER)
        workload = await write(desk, made.config, workload)
    except Refused as error:
        return Obstacle(reason="Refused", message=f"the API server refuses the change: {error}")
    if made.kind is not None:
        desk.meters.changes.inc()
        log.info(
            "applied to %s %s (%s): %s",
            server.kind,
            server.workload,
            made.kind,
            all_told(made.record.changes),
            extra={"event": "applied", "object": f"{server.namespace}/{server.name}"},
        )
    return workload, made


async def _as_before(
    desk: Desk, server: Server, workload: Body, memory: Memory, *, record: Record, seen: Seen | None, now: float
) -> Applied | Obstacle:
    """Keep to what was asked for before: undo what others did to that, and change no more."""
    resting = Plan(config={}, needed=False, record=record, pending=False)
    if record.out:
        if original_of(workload) is not None and (patch := handed_back(workload)) is not None:
            where = (server.kind, server.namespace, server.workload)
            workload = await desk.cluster.merge_workload(*where, patch)
            desk.mirror.learn(workload)
        return workload, resting
    before = None if record.wish is None else wished_again(server, record.wish, record.generation)
    if before is None:
        return workload, resting
    made = _plan(desk, before, workload, seen, memory, now=now)
    if isinstance(made, Obstacle):
        return made
    if made.kind not in (None, "repair"):
        return workload, resting
    return await apply_plan(desk, server, workload, made)


async def _held(desk: Desk, server: Server, workload: Body, made: Plan, now: float) -> str | None:
    """Why the plan does not begin now."""
    if made.kind is None:
        return None
    if not desk.mirror.complete.is_set():
        raise kopf.TemporaryError("not all workloads are known yet, so nobody can say how many roll", delay=0.5)
    record, takes = record_of(workload), takes_away(workload)
    budgets = await desk.disruptions.over(workload, anew=True) if takes and made.kind != "adoption" else ()
    moment = Moment(
        now=now,
        zones=zones_of(server),
        rollout=rollout(workload),
        budgets=budgets,
        takes=takes,
        mending=record is not None and _failed(record, workload),
        unnoted=record is not None and record.roll is not None and record.roll.open,
        standing=standing_of(workload),
    )
    return why_not_yet(made.kind, server, record, moment, desk.turns)


def zones_of(server: Server) -> Mapping[str, tzinfo]:
    """The zones that the windows name, as far as anybody knows them."""
    found = {window.zone: zone_of(window.zone) for window in server.terms.windows}
    return {name: zone for name, zone in found.items() if zone is not None}


def _failed(record: Record, workload: Body) -> bool:
    """Whether what lies there is a roll of our own that failed, so that another spec may take its place at once."""
    roll = record.roll
    return roll is not None and roll.outcome == "Failed" and roll.theirs == owners_part(workload)
