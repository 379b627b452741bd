"""Where the steps meet: one straight line per WSGIServer.

In: what the API server and the pods say now. Out: the workload as wanted, the status, Events. Rule: every round looks
at what is there and decides anew; nothing that a round needs is only in memory, so a restart, at any moment, is one
more round.
"""

import logging
import time
from dataclasses import replace
from typing import Any

import kopf

from wsgi_operator.bells import Bell, unless
from wsgi_operator.connection import Conflict, Refused
from wsgi_operator.core.app_plan import HANDED_OVER, plan_app
from wsgi_operator.core.evidence import Evidence, gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.image import forbidden
from wsgi_operator.core.notices import Notice, change_notices, event_of, kill_notices
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.pods import pods_for
from wsgi_operator.core.ration import grant
from wsgi_operator.core.record import record_of
from wsgi_operator.core.seen import Seen, look_at
from wsgi_operator.core.server import Obstacle, Server, owner_of
from wsgi_operator.core.status import status_of
from wsgi_operator.core.times import moment
from wsgi_operator.core.turned import turned
from wsgi_operator.core.upgrade import held_back, left_behind
from wsgi_operator.core.workload import rollout
from wsgi_operator.crd import parse_server
from wsgi_operator.desk import Body, Desk, Memory
from wsgi_operator.making import make_children

log = logging.getLogger("wsgi_operator")


async def one_round(desk: Desk, body: Body, rivals: tuple[Body, ...], memory: Memory) -> bool:
    """Look, apply, listen to the pods, tell. Returns whether everything is as wanted."""
    now = time.time()
    server = parse_server(body, desk.config.sidecar)
    if isinstance(server, Obstacle):
        facts = Facts(generation=body["metadata"]["generation"], obstacle=server)
        await _tell_status(desk, body, status_of(None, facts, memory.status, _moment(now)), memory)
        return False
    verifier = desk.keys.read().verifier(server.uid)
    server = replace(server, sidecar=replace(server.sidecar, verifier=verifier))
    facts = await _act(desk, server, rivals, memory, now)
    if facts.rollout is None or facts.evidence is None:
        desk.turn.give(server.uid)
    else:
        desk.turn.settle(server.uid, facts.rollout, silent=bool(facts.evidence.silent), now=now)
    await _tell_status(desk, body, status_of(server, facts, memory.status, _moment(now)), memory)
    if facts.evidence is not None and facts.changes is not None:
        told = change_notices(server, *facts.changes) if now - facts.changes[0] < 1800 else ()
        await _tell_events(desk, body, (*told, *kill_notices(server, facts.evidence, now)), memory)
    ready = next(c for c in memory.status["conditions"] if c["type"] == "Ready")["status"] == "True"
    heard, pods = (len(facts.evidence.heard), facts.evidence.pods) if facts.evidence else (0, 0)
    desk.meters.saw(server.uid, ready=ready, reporting=heard, silent=pods - heard)
    return ready or facts.obstacle is not None


async def _act(desk: Desk, server: Server, rivals: tuple[Body, ...], memory: Memory, now: float) -> Facts:
    """Bring the workload to what is wanted, hear what its pods say, and apply what only they could tell."""
    obstacle = _claimed(server, rivals) or forbidden(server, desk.config.repositories)
    deployment: Body | None = None if obstacle else await _workload(desk, server)
    if deployment is None and (obstacle is not None or server.app is None):
        return Facts(generation=server.generation, obstacle=obstacle or _missing(server))
    applied = await _apply(desk, server, deployment, None, memory, now=now)
    if isinstance(applied, Obstacle):
        return Facts(generation=server.generation, obstacle=applied)
    beside = await make_children(desk, server, memory)
    evidence = await _listen(desk, server, memory.bell)
    if rollout(applied[0]).done:
        seen = look_at(answer.report for answer in evidence.heard)
        applied = await _apply(desk, server, applied[0], seen, memory, now=now)
        if isinstance(applied, Obstacle):
            return Facts(generation=server.generation, obstacle=applied)
    deployment, made = applied
    return Facts(
        generation=server.generation,
        pending=made.pending,
        rollout=rollout(deployment),
        evidence=evidence,
        image=made.record.image,
        waiting=made.held_back or left_behind(server, made.record),
        runs=made.record.runs,
        stuck=beside.stuck,
        told=(*made.told, *beside.told),
        changes=(made.record.at, made.record.changes),
    )


def _claimed(server: Server, rivals: tuple[Body, ...]) -> Obstacle | None:
    if not rivals or (owner := owner_of(rivals))["metadata"]["uid"] == server.uid:
        return None
    return Obstacle(
        reason="AlreadyClaimed",
        message=f"{server.kind} {server.workload} already belongs to WSGIServer {owner['metadata']['name']}, which is "
        "older: delete one of the two",
    )


async def _workload(desk: Desk, server: Server) -> Body | None:
    """The workload from the mirror; one that is not there is asked for, since a watch may be late."""
    where = (server.kind, server.namespace, server.workload)
    return desk.mirror.workload(*where) or await desk.cluster.workload(*where)


def _missing(server: Server) -> Obstacle:
    return Obstacle(
        reason="WorkloadNotFound",
        message=f"there is no {server.kind} {server.workload} in namespace {server.namespace}: create it, or correct "
        "spec.workload.name (delete this WSGIServer and create another)",
    )


async def _apply(
    desk: Desk, server: Server, deployment: Body | None, seen: Seen | None, memory: Memory, *, now: float
) -> tuple[Body, Plan] | Obstacle:
    """Apply what is planned, if anything is; what the API server refuses is an obstacle with its own words."""
    made = _plan(desk, server, deployment, seen, memory, now=now)
    if isinstance(made, Obstacle):
        return made
    before = record_of(deployment) if deployment is not None else None
    if deployment is not None and before is not None and made.upgrade:
        why = held_back(server, rollout(deployment), desk.turn, now)
        if why is not None:
            return deployment, replace(made, needed=False, record=before, held_back=why)
    if deployment is not None and not made.needed:
        return deployment, made
    try:
        if deployment is not None and made.handed_over is not None:
            version = deployment["metadata"]["resourceVersion"]
            deployment = await desk.cluster.apply(made.handed_over, version, HANDED_OVER)
        version = deployment["metadata"]["resourceVersion"] if deployment is not None else None
        deployment = await desk.cluster.apply(made.config, version)
    except Conflict:
        # Whoever was faster is not in the mirror yet, and would not be for long if the watch has just broken.
        latest = await desk.cluster.workload(server.kind, server.namespace, server.workload)
        if latest is not None:
            desk.mirror.learn(latest)
        raise
    except Refused as error:
        return Obstacle(reason="Refused", message=f"the API server refuses the change: {error}")
    desk.mirror.learn(deployment)
    desk.meters.changes.inc()
    log.info(
        "applied to %s %s: %s",
        server.kind,
        server.workload,
        ", ".join(f"{change.name} {change.before} -> {change.after}" for change in made.record.changes),
        extra={"event": "applied", "object": f"{server.namespace}/{server.name}"},
    )
    return deployment, made


def _plan(
    desk: Desk, server: Server, live: Body | None, seen: Seen | None, memory: Memory, *, now: float
) -> Plan | Obstacle:
    """What to apply to a workload that we make, or to somebody's; thought of once for what has not changed."""
    if live is None:
        return plan_app(server, server.app, None, seen=seen, now=now) if server.app is not None else _missing(server)
    made: Plan | Obstacle | None = memory.settled.plan(server, live, seen)
    if made is None and server.app is not None:
        made = plan_app(server, server.app, live, seen=seen, now=now)
    if made is None:
        made = plan(server, live, seen=seen, now=now, admission=desk.config.admission)
    if isinstance(made, Plan):
        memory.settled.remember(server, live, seen, made)
    return made


async def _listen(desk: Desk, server: Server, bell: Bell) -> Evidence:
    """What the pods say; a person who changes the spec meanwhile is not kept waiting for pods that are silent."""
    ring = desk.keys.read()
    known = pods_for(desk.mirror.pods.look(server.namespace, server.name), server.kind, server.workload)
    pods = tuple(ring.equip(pod, server.uid) for pod in known)
    with desk.meters.sweep():
        answers = await unless(bell.urgent, desk.reports.read(pods, server.sidecar.port))
    if answers is None:
        raise kopf.TemporaryError("the spec has changed while its pods were asked", delay=0.01)
    return gather(answers, server.wanted)


async def _tell_status(desk: Desk, body: Body, status: dict[str, Any], memory: Memory) -> None:
    if status != memory.status:
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        await desk.cluster.write_status(namespace, name, status)
        for condition in turned(memory.status, status):
            about = {"event": "condition", "object": f"{namespace}/{name}", "reason": condition["reason"]}
            log.info("%s=%s: %s", condition["type"], condition["status"], condition["message"], extra=about)
        memory.status, memory.patience_s = status, 1.0


async def _tell_events(desk: Desk, body: Body, notices: tuple[Notice, ...], memory: Memory) -> None:
    events = {event["metadata"]["name"]: event for event in (event_of(notice, body) for notice in notices)}
    memory.told &= events.keys()
    untold = [name for name in events if name not in memory.told]
    granted, memory.ration = grant(memory.ration, len(untold), time.time())
    for name in untold[:granted]:
        await desk.cluster.post_event(events[name])
        memory.told.add(name)


def _moment(now: float) -> str:
    return moment(now) or "1970-01-01T00:00:00Z"
