"""Where the steps meet: one straight line per WSGIServer, turned again whenever something happened.

In: watch events of WSGIServers and Deployments, and time. Out: the Deployment as wanted, the status, Events. Rule:
every round looks at what is there and decides anew; nothing that a round needs is only in memory, so a restart, at any
moment, is one more round. One round at a time per WSGIServer, and its restore never beside a round.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import kopf

from wsgi_contract import names
from wsgi_operator.bells import Bells
from wsgi_operator.cluster import Cluster, Refused
from wsgi_operator.config import Config
from wsgi_operator.core.evidence import Evidence, gather
from wsgi_operator.core.notices import Notice, change_notices, event_of, kill_notices, restored_notice
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.pods import pods_of
from wsgi_operator.core.record import record_of
from wsgi_operator.core.restore import cut_out, handed_back, taken_out
from wsgi_operator.core.seen import Seen, look_at
from wsgi_operator.core.server import Obstacle, Server, owner_of
from wsgi_operator.core.status import Facts, status_of
from wsgi_operator.core.times import moment
from wsgi_operator.core.upgrade import Turn, held_back, left_behind
from wsgi_operator.core.workload import rollout
from wsgi_operator.crd import parse_server
from wsgi_operator.health import Pulse
from wsgi_operator.metrics import Meters
from wsgi_operator.reports import Reports

log = logging.getLogger("wsgi_operator")

PAUSE_S: Final = 0.5
"""Between two rounds over one WSGIServer, so that a burst of events is one round."""

Body = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Desk:
    """What the rounds work with."""

    config: Config
    cluster: Cluster
    reports: Reports
    bells: Bells = field(default_factory=Bells)
    pulse: Pulse = field(default_factory=Pulse)
    meters: Meters = field(default_factory=Meters)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    turn: Turn = field(default_factory=Turn)

    def lock(self, uid: str) -> asyncio.Lock:
        """The lock of one WSGIServer: its rounds and its restore take turns."""
        return self.locks.setdefault(uid, asyncio.Lock())


@dataclass(slots=True, kw_only=True)
class Memory:
    """What one follower remembers to save requests; all of it can be lost.

    Attributes:
        status: as last written.
        told: names of Events that are posted.
        patience_s: until the next look while things are not as wanted.
    """

    status: Body
    told: set[str] = field(default_factory=set)
    patience_s: float = 1.0


def build_registry(desk: Desk) -> kopf.OperatorRegistry:
    """Tell kopf what to call."""
    registry = kopf.OperatorRegistry()
    ours = (names.GROUP, names.VERSION, names.PLURAL)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_via_client(**kwargs)

    @kopf.index(*ours, id="claims", registry=registry)
    def claims(body: kopf.Body, **_: Any) -> Any:
        keys = ("name", "uid", "creationTimestamp")
        return {workload_of(body): {"metadata": {key: body["metadata"][key] for key in keys}}}

    @kopf.on.event(*ours, registry=registry)
    def on_server(event: Any, body: kopf.Body, **_: Any) -> None:
        metadata, gone = body["metadata"], event["type"] == "DELETED"
        desk.bells.ring_if_new(workload_of(body), metadata["uid"], metadata["generation"], gone=gone)

    @kopf.on.event("apps", "v1", "deployments", registry=registry)
    def on_deployment(namespace: str | None, name: str | None, **_: Any) -> None:
        desk.bells.ring((namespace or "", "Deployment", name or ""))

    @kopf.on.event("apps", "v1", "statefulsets", registry=registry)
    def on_stateful_set(namespace: str | None, name: str | None, **_: Any) -> None:
        desk.bells.ring((namespace or "", "StatefulSet", name or ""))

    @kopf.daemon(*ours, registry=registry, cancellation_backoff=1.0, cancellation_timeout=10.0)
    async def follow_server(stopped: Any, body: kopf.Body, **kwargs: Any) -> None:
        await follow(desk, stopped, body, kwargs["claims"])

    @kopf.on.delete(*ours, registry=registry, when=_is_ending, backoff=5.0)
    async def on_delete(body: kopf.Body, **_: Any) -> None:
        await restore(desk, body)

    return registry


def workload_of(body: Body) -> tuple[str, str, str]:
    """Namespace, kind and name of the workload that a WSGIServer names."""
    named = body.get("spec", {}).get("workload", {})
    return body["metadata"]["namespace"], str(named.get("kind", "Deployment")), str(named.get("name"))


def _is_ending(meta: Any, **_: Any) -> bool:
    """Keeps kopf from storing its own annotations on WSGIServers that live."""
    return "deletionTimestamp" in meta


async def follow(desk: Desk, stopped: Any, body: Body, claims: Mapping[Any, Iterable[Body]]) -> None:
    """Turn rounds over one WSGIServer until it goes, or the operator does."""
    workload, uid = workload_of(body), body["metadata"]["uid"]
    memory = Memory(status=dict(body.get("status") or {}))
    with desk.bells.listen(workload) as bell:
        while not stopped:
            bell.clear()
            async with desk.lock(uid):
                if stopped:
                    break
                delay = await _guarded_round(desk, body, tuple(claims.get(workload, ())), memory)
            await stopped.wait(PAUSE_S)
            if await _first(bell.wait(), stopped.wait(), timeout_s=delay):
                memory.patience_s = 1.0


async def _first(*waits: Any, timeout_s: float) -> bool:
    """Whether any of these came to an end in time."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _guarded_round(desk: Desk, body: Body, rivals: tuple[Body, ...], memory: Memory) -> float:
    """One round, whatever happens in it; returns the seconds until the next.

    This is the outermost loop: the only place that catches everything.
    """
    uid, extra = body["metadata"]["uid"], {"object": f"{body['metadata']['namespace']}/{body['metadata']['name']}"}
    desk.pulse.begin(uid)
    try:
        async with asyncio.timeout(60):
            with desk.meters.round():
                settled = await one_round(desk, body, rivals, memory)
    except kopf.TemporaryError as error:
        log.info("round to be repeated: %s", error, extra=extra)
        desk.meters.ended("repeated")
        return float(error.delay or 1.0)
    except Exception:
        log.exception("round failed", extra=extra)
        desk.meters.ended("failed")
        return 10.0
    finally:
        desk.pulse.end(uid)
    desk.meters.ended("settled" if settled else "unsettled")
    if settled:
        return desk.config.report_interval_s
    delay = min(memory.patience_s, desk.config.report_interval_s)
    memory.patience_s *= 2
    return delay


async def one_round(desk: Desk, body: Body, rivals: tuple[Body, ...], memory: Memory) -> bool:
    """Look, apply, listen to the pods, tell. Returns whether everything is as wanted."""
    now = time.time()
    server = parse_server(body, desk.config.sidecar)
    if isinstance(server, Obstacle):
        facts = Facts(generation=body["metadata"]["generation"], obstacle=server)
        await _tell_status(desk, body, status_of(None, facts, memory.status, _moment(now)), memory)
        return False
    facts = await _act(desk, server, rivals, now)
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


async def _act(desk: Desk, server: Server, rivals: tuple[Body, ...], now: float) -> Facts:
    """Bring the Deployment to what is wanted, hear what its pods say, and apply what only they could tell."""
    obstacle = _claimed(server, rivals)
    where = (server.kind, server.namespace, server.workload)
    deployment: Body | None = None if obstacle else await desk.cluster.workload(*where)
    if deployment is None:
        return Facts(generation=server.generation, obstacle=obstacle or _missing(server))
    applied = await _apply(desk, server, deployment, None, now)
    if isinstance(applied, Obstacle):
        return Facts(generation=server.generation, obstacle=applied)
    evidence = await _listen(desk, server)
    if rollout(applied[0]).done:
        seen = look_at(answer.report for answer in evidence.heard)
        applied = await _apply(desk, server, applied[0], seen, now)
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


def _missing(server: Server) -> Obstacle:
    return Obstacle(
        reason="WorkloadNotFound",
        message=f"there is no {server.kind} {server.workload} in namespace {server.namespace}: create it, or correct "
        "spec.workload.name (delete this WSGIServer and create another)",
    )


async def _apply(
    desk: Desk, server: Server, deployment: Body, seen: Seen | None, now: float
) -> tuple[Body, Plan] | Obstacle:
    """Apply what is planned, if anything is; what the API server refuses is an obstacle with its own words."""
    made = plan(server, deployment, seen=seen, now=now, admission=desk.config.admission)
    if isinstance(made, Obstacle):
        return made
    before = record_of(deployment)
    why = held_back(server, rollout(deployment), desk.turn, now) if made.upgrade else None
    if before is not None and why is not None:
        return deployment, replace(made, needed=False, record=before, held_back=why)
    if not made.needed:
        return deployment, made
    try:
        deployment = await desk.cluster.apply(made.config, deployment["metadata"]["resourceVersion"])
    except Refused as error:
        return Obstacle(reason="Refused", message=f"the API server refuses the change: {error}")
    desk.meters.changes.inc()
    log.info(
        "applied to %s %s: %s",
        server.kind,
        server.workload,
        ", ".join(f"{change.name} {change.before} -> {change.after}" for change in made.record.changes),
        extra={"object": f"{server.namespace}/{server.name}"},
    )
    return deployment, made


async def _listen(desk: Desk, server: Server) -> Evidence:
    pods = pods_of(await desk.cluster.pods(server.namespace, server.name))
    with desk.meters.sweep():
        return gather(await desk.reports.read(pods, server.sidecar.port), server.wanted)


async def _tell_status(desk: Desk, body: Body, status: dict[str, Any], memory: Memory) -> None:
    if status != memory.status:
        await desk.cluster.write_status(body["metadata"]["namespace"], body["metadata"]["name"], status)
        memory.status, memory.patience_s = status, 1.0


async def _tell_events(desk: Desk, body: Body, notices: tuple[Notice, ...], memory: Memory) -> None:
    events = [event_of(notice, body) for notice in notices]
    for event in events:
        if event["metadata"]["name"] not in memory.told:
            await desk.cluster.post_event(event)
    memory.told = {event["metadata"]["name"] for event in events}


async def restore(desk: Desk, body: Body) -> None:
    """Give the workload back to its owner; done when nothing of ours is left in it.

    Raises:
        kopf.TemporaryError: not yet; kopf calls again, and the WSGIServer stays until then.
    """
    (namespace, kind, workload), uid = workload_of(body), body["metadata"]["uid"]
    async with desk.lock(uid):
        for _ in range(5):
            deployment = await desk.cluster.workload(kind, namespace, workload)
            if deployment is None or not await _restore_step(desk, deployment, uid):
                break
        else:
            raise kopf.TemporaryError(f"{kind} {workload} still carries fields of ours", delay=2)
        if deployment is not None:
            with suppress(Refused):
                await desk.cluster.post_event(event_of(restored_notice(uid, f"{kind} {workload}", time.time()), body))
    desk.locks.pop(uid, None)
    desk.meters.forget(uid)
    desk.turn.give(uid)
    desk.meters.restores.inc()


async def _restore_step(desk: Desk, deployment: Body, uid: str) -> bool:
    """The next step of the restore; False where none is left, or the workload is somebody else's by now."""
    record = record_of(deployment)
    if record is not None and record.server != uid:
        return False
    metadata = deployment["metadata"]
    where = (deployment["kind"], metadata["namespace"], metadata["name"])
    try:
        if (config := taken_out(deployment)) is not None:
            deployment = await desk.cluster.apply(config, metadata["resourceVersion"])
        if (patch := cut_out(deployment) or handed_back(deployment)) is not None:
            await desk.cluster.merge_workload(*where, patch)
        return config is not None or patch is not None
    except Refused as error:
        raise kopf.TemporaryError(f"the API server refuses the restore: {error}", delay=15) from None


def _moment(now: float) -> str:
    return moment(now) or "1970-01-01T00:00:00Z"
