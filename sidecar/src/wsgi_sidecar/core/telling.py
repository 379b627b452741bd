"""The Report: one look, the ledger and the teller, in the contract's words.

In: a `View` of the server, the `Ledger`, and who tells. Out: `Report`. Rule: translation only; nothing is judged here,
and what the view does not hold is None in the Report, never 0.
"""

from dataclasses import dataclass

from wsgi_contract.in_place import InPlace
from wsgi_contract.policy import Policy
from wsgi_contract.report import (
    SCHEMA,
    AcceptQueue,
    PodIdentity,
    Report,
    RequestTotals,
    ServerInfo,
    SidecarInfo,
    Unknown,
    WorkerInfo,
)
from wsgi_contract.servers.gunicorn import connection_limit, may_hold_secrets
from wsgi_contract.settings import Setting
from wsgi_sidecar.core.account import KEPT_KILLS, Ledger
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.rules.rule import cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """The sidecar itself and where it runs; see the Report's fields of the same names."""

    sidecar: SidecarInfo
    pod: PodIdentity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One look with all that was read about the server.

    Attributes:
        at: wall clock.
        family: None where no server was found.
        before: the look before, of the same master; None at the first.
        release: of the server; None where it could not be read.
        settings: in force; empty where no server was found.
        unknowns: what could not be seen.
        policy: in force.
        cmd_args: text of `GUNICORN_CMD_ARGS` that the master was started with; see `ServerInfo`.
        around: what surrounds the server beyond its processes; None where there is no server.
        requests: that the server says it answered; None where nobody told.
        in_place: settings changed in place; None where nobody may order any.
    """

    at: float
    family: Family | None
    before: Family | None
    release: str | None
    settings: tuple[Setting, ...]
    unknowns: tuple[Unknown, ...]
    policy: Policy
    cmd_args: str | None = None
    around: Circumstances | None = None
    requests: RequestTotals | None = None
    in_place: InPlace | None = None


def tell(view: View, ledger: Ledger, teller: Teller) -> Report:
    """The Report of this moment."""
    family, around = view.family, view.around
    return Report(
        schema=SCHEMA,
        taken_at=view.at,
        sidecar=teller.sidecar,
        pod=teller.pod,
        server=_server(family, view) if family else None,
        settings=view.settings,
        workers=tuple(_worker(worker, family, view) for worker in family.workers) if family else None,
        accept_queue=accept_queue(family) if family else None,
        connection_limit=connection_limit(view.settings),
        orphans=family.orphans if family else None,
        incidents=(*ledger.open.values(), *ledger.ended),
        kills=tuple(deed.kill for deed in ledger.deeds[-KEPT_KILLS:]),
        counts=ledger.counts,
        unknowns=view.unknowns,
        policy=view.policy,
        findings=around.findings if around else (),
        container=around.container if around else None,
        saturation=around.saturation if around else None,
        shared_sockets=around.shared if around else None,
        requests=view.requests,
        in_place=view.in_place,
    )


def _server(family: Family, view: View) -> ServerInfo:
    master = family.master
    return ServerInfo(
        kind=family.kind,
        release=view.release,
        process=master.id,
        uid=master.uid,
        gid=master.gid,
        started_at=master.started_at,
        cmd_args=None if view.cmd_args is None or may_hold_secrets(view.cmd_args) else view.cmd_args,
    )


def _worker(worker: Worker, family: Family, view: View) -> WorkerInfo:
    return WorkerInfo(
        slot=worker.slot,
        process=worker.process.id,
        state=worker.state,
        started_at=worker.process.started_at,
        heartbeat_age_s=worker.heartbeat_age_s,
        cpu_s=worker.process.cpu_s,
        cpu_cores=cores(worker.process.id, family, view.before),
        threads=worker.process.thread_count,
        connections=worker.connections,
        rss_bytes=worker.process.rss_bytes,
        busy=view.around.busy.get(worker.process.id) if view.around else None,
        pss_bytes=view.around.pss_bytes.get(worker.process.id) if view.around else None,
    )


def accept_queue(family: Family) -> AcceptQueue | None:
    """All accept queues of the server together; None where it has none, or they could not be read."""
    if not family.listeners:
        return None
    limits = [listener.backlog for listener in family.listeners]
    return AcceptQueue(
        length=sum(listener.queue for listener in family.listeners),
        limit=None if None in limits else sum(limit for limit in limits if limit is not None),
        listeners=tuple(listener.address for listener in family.listeners),
    )
