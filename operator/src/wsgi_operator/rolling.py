"""What becomes of a roll that we began.

In: a workload, what its pods say. Out: the same workload, with the end of the roll in its record, or with what was
before the roll. Rule: this looks at the record alone, so a restarted operator goes on where the other one was; each
step is one write that either happened or did not.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import kopf

from wsgi_operator.applying import apply_plan, write
from wsgi_operator.connection import Refused
from wsgi_operator.core.app_plan import plan_app
from wsgi_operator.core.evidence import Evidence, Pod
from wsgi_operator.core.outcome import End, end_of
from wsgi_operator.core.patch import plan
from wsgi_operator.core.record import Record, all_told, record_of
from wsgi_operator.core.restore import cut_out, taken_out
from wsgi_operator.core.retold import retold
from wsgi_operator.core.roll import Roll, Undone, wished_again
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.workload import carries_sidecar
from wsgi_operator.desk import Body, Desk

log = logging.getLogger("wsgi_operator")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One open roll, and what is known of it."""

    server: Server
    workload: Body
    record: Record
    roll: Roll
    now: float


async def look_after(desk: Desk, server: Server, workload: Body, evidence: Evidence, now: float) -> Body:
    """Close our roll, or undo it, once it is known how it went; and say who has its turn."""
    record = record_of(workload)
    _keep_turn(desk, server, workload, record)
    if record is None or record.roll is None or not record.roll.open:
        return workload
    case = _Case(server=server, workload=workload, record=record, roll=record.roll, now=now)
    pods, silent = evidence.all_pods(), bool(evidence.silent)
    end = end_of(
        record, workload, rollout(workload), pods, within_s=server.terms.ready_within_s, silent=silent, now=now
    )
    if end is None:
        await _evict_stuck(desk, case, pods)
        return workload
    if end.outcome == "Undone" and record.generation != server.generation:
        end = End(outcome="Failed", why=f"{end.why}. The spec was changed meanwhile: that takes its place")
    workload = await (_undo if end.outcome == "Undone" else _close)(desk, case, end)
    _keep_turn(desk, server, workload, record_of(workload))
    return workload


def _keep_turn(desk: Desk, server: Server, workload: Body, record: Record | None) -> None:
    """Whether it rolls, by its own record; a workload whose pods somebody replaces by hand keeps nobody waiting."""
    undone = record.undone if record is not None else None
    failed = undone is not None and undone.kind == "upgrade" and undone.answers(server)
    desk.turns.stop(server, server.sidecar.image if failed else None)
    roll = record.roll if record is not None else None
    if roll is not None and roll.open and rollout(workload).by_hand is None:
        desk.turns.hold(server, upgrade=roll.kind == "upgrade")
    else:
        desk.ring(desk.turns.give(server.uid))


def _log(case: _Case, end: End) -> None:
    which, why = f"{case.server.kind} {case.server.workload}", f": {end.why}" if end.why else ""
    extra = {"event": "roll-ended", "object": f"{case.server.namespace}/{case.server.name}"}
    log.info("roll of %s (%s) ended: %s%s", which, case.roll.kind, end.outcome, why, extra=extra)


async def _close(desk: Desk, case: _Case, end: End) -> Body:
    """Note the end in the record; the template stays as it is, to the letter."""
    ended = replace(case.roll, ended=case.now, outcome=end.outcome, why=end.why)
    config = retold(case.workload, replace(case.record, roll=ended))
    if config is None:  # the next plan takes what is ours into our hands again
        return case.workload
    _log(case, end)
    return await write(desk, config, case.workload)


async def _undo(desk: Desk, case: _Case, end: End) -> Body:
    """Apply what was before, and remember what failed."""
    record, roll = case.record, case.roll
    before = None if record.before is None else wished_again(case.server, record.before, record.generation)
    if record.wish is None or (before is None and record.before is not None):
        unknown = "What was there before is not known any more, so nothing is undone: correct the spec"
        return await _close(desk, case, End(outcome="Failed", why=f"{end.why}. {unknown}"))
    undone = Undone(
        generation=record.generation,
        wish=record.wish,
        at=roll.began,
        tried=all_told(record.changes) if record.at >= roll.began else f"the sidecar {record.image}",
        why=end.why,
        kind=roll.kind,
        out=record.before is None,
    )
    _log(case, end)
    if before is None:
        return await _take_out(desk, case, undone)
    if before.app is not None:
        made = plan_app(before, before.app, case.workload, now=case.now, undone=undone)
    else:
        made = plan(before, case.workload, now=case.now, admission=desk.config.admission, undone=undone)
    applied = made if isinstance(made, Obstacle) else await apply_plan(desk, case.server, case.workload, made)
    if isinstance(applied, Obstacle):
        return await _close(desk, case, End(outcome="Failed", why=f"{end.why}. It cannot be undone: {applied.message}"))
    desk.meters.undone.inc()
    return applied[0]


async def _take_out(desk: Desk, case: _Case, undone: Undone) -> Body:
    """Give the template back to its owner; only the record stays, so that nobody tries the same again."""
    roll = Roll(kind="undo", began=case.now, theirs=case.roll.theirs, calm=False)
    keep = replace(case.record, variables={}, ordered={}, share=False, roll=roll, undone=undone)
    metadata, after = case.workload["metadata"], case.workload
    if (config := taken_out(case.workload, keep)) is not None:
        after = await write(desk, config, case.workload)
    if carries_sidecar(after):  # somebody wiped managedFields: then giving up our fields takes nothing out
        told = dict(after) | {"metadata": dict(after["metadata"]) | {"annotations": metadata["annotations"]}}
        if (patch := cut_out(told, keep)) is not None:
            where = (after["kind"], metadata["namespace"], metadata["name"])
            after = await desk.cluster.merge_workload(*where, patch)
            desk.mirror.learn(after)
    desk.meters.undone.inc()
    return after


async def _evict_stuck(desk: Desk, case: _Case, pods: Sequence[Pod]) -> None:
    """A StatefulSet replaces no pod while another is not ready, also not that one (kubernetes #67250).

    So a pod of a template that is gone, which does not become ready, is asked to end; its budgets are heeded.
    """
    workload, roll = case.workload, case.roll
    newest = (workload.get("status") or {}).get("updateRevision")
    if workload["kind"] != "StatefulSet" or rollout(workload).by_hand is not None or newest is None:
        return
    for pod in pods:
        lost = pod.ready_since is None and (pod.hopeless or roll.kind == "undo") and pod.created < roll.began
        if lost and pod.revision not in (None, newest):
            about = {"event": "evicted", "object": f"{case.server.namespace}/{pod.name}"}
            try:
                await desk.cluster.evict(case.server.namespace, pod.name, pod.uid)
            except (kopf.TemporaryError, Refused) as error:  # its budget, mostly: asked again at the next look
                log.info("pod %s cannot be evicted: %s", pod.name, error, extra=about | {"event": "not-evicted"})
            else:
                log.info("evicted pod %s: it carries a template that is gone, and is not ready", pod.name, extra=about)
