"""Where the steps meet: one straight line per WSGIServer.

In: what the API server and the pods say now. Out: the workload as wanted, the status, Events. Rule: every round looks
at what is there and decides anew; nothing that a round needs is only in memory, so a restart, at any moment, is one
more round.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any, Final

import kopf

from wsgi_operator.applying import Applied, apply_wanted, as_it_is, zones_of
from wsgi_operator.bells import Bell, unless
from wsgi_operator.changing import Changed, change_in_place
from wsgi_operator.connection import AskedToWait, Refused, Undeclared
from wsgi_operator.core.brakes import left_behind, unknown_zones
from wsgi_operator.core.budgets import takes_away, unknown
from wsgi_operator.core.evidence import Evidence, gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.hazards import hazards_of
from wsgi_operator.core.image import forbidden
from wsgi_operator.core.notices import Notice, event_of, in_place_notices, kill_notices
from wsgi_operator.core.patch import Plan
from wsgi_operator.core.pods import pods_for
from wsgi_operator.core.ration import AT_ONCE, grant
from wsgi_operator.core.record import record_of
from wsgi_operator.core.roll_notices import roll_notices
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.seen import look_at
from wsgi_operator.core.server import Obstacle, Server, owner_of
from wsgi_operator.core.status import TRYING_AGAIN, broken_off, cut_down, status_of
from wsgi_operator.core.times import moment
from wsgi_operator.core.turned import turned
from wsgi_operator.core.untold import untold
from wsgi_operator.core.workload import carries_sidecar
from wsgi_operator.crd import parse_server
from wsgi_operator.desk import Body, Desk, Memory
from wsgi_operator.making import Outcome, make_children
from wsgi_operator.rolling import look_after

log = logging.getLogger("wsgi_operator")

BROKEN_OFF: Final = 3
"""Rounds in a row that end early before the status says so: one or two are weather."""

UNDECLARED: Final = 6
"""Looks for which a status that the CRD is too old for is not tried again: 60 s where reports are read each 10 s, and a
thousand WSGIServers are 17 requests a second."""


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
    if facts.obstacle is not None:
        desk.ring(desk.turns.give(server.uid))
    await _tell_status(desk, body, status_of(server, facts, memory.status, _moment(now)), memory)
    if facts.evidence is not None:
        notices = chain(
            roll_notices(server, facts, now),
            in_place_notices(server, facts.standing, now),
            kill_notices(server, facts.evidence, now),
        )
        await _tell_events(desk, body, notices, memory)
    ready = next(c for c in memory.status["conditions"] if c["type"] == "Ready")["status"] == "True"
    heard, pods = (len(facts.evidence.heard), facts.evidence.pods) if facts.evidence else (0, 0)
    desk.meters.saw(server.uid, ready=ready, reporting=heard, silent=pods - heard)
    return ready or facts.obstacle is not None


async def _act(desk: Desk, server: Server, rivals: tuple[Body, ...], memory: Memory, now: float) -> Facts:
    """Bring the workload to what is wanted, hear its pods, see to our roll, apply what only pods could tell."""
    obstacle = _claimed(server, rivals) or forbidden(server, desk.config.repositories)
    workload: Body | None = None if obstacle else await _workload(desk, server)
    if workload is None and (obstacle is not None or server.app is None):
        return Facts(generation=server.generation, obstacle=obstacle or _missing(server))
    applied = as_it_is(await apply_wanted(desk, server, workload, None, memory, now=now), workload, memory)
    if isinstance(applied, Obstacle):
        return Facts(generation=server.generation, obstacle=applied)
    beside = await make_children(desk, server, memory)
    evidence = await _listen(desk, server, memory.bell)
    try:
        gone, changed = await _go_on(desk, server, applied, evidence, memory, now=now)
    except Refused as error:
        desk.ring(desk.turns.give(server.uid))
        gone, changed = (applied[0], replace(applied[1], stuck=_refused(server, error))), Changed()
    if isinstance(gone, Obstacle):
        return Facts(generation=server.generation, obstacle=gone)
    facts = await _facts(desk, server, gone[0], (gone[1], beside), evidence)
    held = facts.held if facts.held is not None else changed.held
    return replace(facts, standing=changed.standing, changing=changed.message, held=held)


async def _go_on(
    desk: Desk, server: Server, applied: Applied, evidence: Evidence, memory: Memory, *, now: float
) -> tuple[Applied | Obstacle, Changed]:
    """See to our roll; where none is under way, apply what only pods could tell, and change what they run with.

    Raises:
        Refused: the API server does not let us.
    """
    workload, made = await look_after(desk, server, applied[0], evidence, now), applied[1]
    if made.stuck is not None or not rollout(workload).done:
        return (workload, made), Changed()
    seen = look_at(answer.report for answer in evidence.heard)
    again = as_it_is(await apply_wanted(desk, server, workload, seen, memory, now=now), workload, memory)
    if isinstance(again, Obstacle) or again[1].stuck is not None or not rollout(again[0]).done:
        return again, Changed()
    return again, await change_in_place(desk, server, again, evidence, memory, now=now)


async def _facts(
    desk: Desk, server: Server, workload: Body, outcome: tuple[Plan, Outcome], evidence: Evidence
) -> Facts:
    """What the status is told from; what is remembered comes from the workload as it is now."""
    made, beside = outcome
    record = record_of(workload)
    undone = record.undone if record is not None else None
    budgets = await desk.disruptions.over(workload)
    upgrade = made.kind == "upgrade"
    return Facts(
        generation=server.generation,
        pending=made.pending,
        rollout=rollout(workload),
        evidence=evidence,
        image=record.image if record is not None and not record.out and carries_sidecar(workload) else None,
        waiting=made.held if upgrade else left_behind(server, record) if record is not None else None,
        runs=record.runs if record is not None else None,
        stuck=made.stuck or beside.stuck,
        told=(*made.told, *beside.told),
        changes=(record.at, record.changes) if record is not None else None,
        held=None if upgrade else made.held,
        roll=record.roll if record is not None else None,
        undone=undone if undone is not None and undone.answers(server) else None,
        trouble=unknown_zones(server, zones_of(server)),
        hazards=hazards_of(workload, server.container, evidence, budgets),
        unsure=unknown(budgets, takes_away(workload)),
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


def _refused(server: Server, error: Refused) -> Obstacle:
    return Obstacle(
        reason="Refused",
        message=f"the API server refuses to have {server.kind} {server.workload} or its pods changed: {error}",
    )


def _missing(server: Server) -> Obstacle:
    return Obstacle(
        reason="WorkloadNotFound",
        message=f"there is no {server.kind} {server.workload} in namespace {server.namespace}: create it, or correct "
        "spec.workload.name (delete this WSGIServer and create another)",
    )


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
    """Write the status if it is another one; under a CRD that is too old for it, what of it can be written."""
    now = time.time()
    if memory.undeclared is not None and now < memory.undeclared[1]:
        status = cut_down(status, memory.status, memory.undeclared[0], _moment(now))
    if status == memory.status:
        return
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    try:
        await desk.cluster.write_status(namespace, name, status)
        memory.undeclared = memory.undeclared if memory.undeclared and now < memory.undeclared[1] else None
    except Undeclared as error:
        memory.undeclared = (str(error), now + UNDECLARED * desk.config.report_interval_s)
        status = cut_down(status, memory.status, str(error), _moment(now))
        if status != memory.status:
            await desk.cluster.write_status(namespace, name, status)
    for condition in turned(memory.status, status):
        about = {"event": "condition", "object": f"{namespace}/{name}", "reason": condition["reason"]}
        log.info("%s=%s: %s", condition["type"], condition["status"], condition["message"], extra=about)
    memory.status, memory.patience_s = status, 1.0


async def tell_broken_off(desk: Desk, body: Body, memory: Memory, why: kopf.TemporaryError) -> None:
    """Have the status say that rounds end early, once some have; what lasts a moment or overloads is not told."""
    memory.broken_off += 1
    unsaid = all(condition["reason"] != TRYING_AGAIN for condition in memory.status.get("conditions") or ())
    if memory.broken_off < BROKEN_OFF or not unsaid or (why.delay or 0) < 1 or isinstance(why, AskedToWait):
        return
    metadata, now = body["metadata"], _moment(time.time())
    status = broken_off(memory.status, metadata["generation"], str(why), now)
    await desk.cluster.write_status(metadata["namespace"], metadata["name"], status)
    memory.status = status


async def _tell_events(desk: Desk, body: Body, notices: Iterable[Notice], memory: Memory) -> None:
    """Post what is untold, as far as it is granted; what is not granted has no Event made."""
    found = untold(notices, body["metadata"]["name"], memory.told, AT_ONCE)
    memory.told &= found.names
    granted, memory.ration = grant(memory.ration, len(found.first), time.time())
    for name, notice in found.first[:granted]:
        try:
            await desk.cluster.post_event(event_of(notice, body))
        except Refused as error:  # a quota, a namespace that ends: the status tells it all the same
            about = {"event": "event-refused", "object": f"{body['metadata']['namespace']}/{body['metadata']['name']}"}
            log.info("the API server refuses the Event %s: %s", name, error, extra=about)
        memory.told.add(name)


def _moment(now: float) -> str:
    return moment(now) or "1970-01-01T00:00:00Z"
