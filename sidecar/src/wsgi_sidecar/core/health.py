"""Whether the server lives, is ready, has started: the answers to Kubernetes' probes, told without touching a worker.

In: the family and the open incidents of a look, and what the look before left. Out: `Health`. Rule: busy is not
wedged. A server whose workers all work, with a full queue behind them, lives; a probe over HTTP would wait in that
queue and have it killed. Live is refused only for what was seen, and lasted; what cannot be seen lives.

The sidecar's own cure (a frozen worker: 5 s and a respawn) is gentler than a restart of the container, so `live` waits
`probe_grace_s` before it says no.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Incident, IncidentKind
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.telling import accept_queue

WEDGING: Final[frozenset[IncidentKind]] = frozenset({"frozen-worker", "boot-hang"})
"""Incidents whose worker serves nothing."""
QUEUE_S: Final = 5.0
"""A burst fills a queue for a second; a queue that stays full for five is a server that cannot keep up."""

_QUEUE: Final = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one probe is told: yes or no, and why."""

    ok: bool
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Of the server, as of one look.

    Attributes:
        live: no: nothing but a restart helps.
        ready: no: send it no requests now.
        started: no: it has no worker yet that has booted.
    """

    live: Answer
    ready: Answer
    started: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Vigil:
    """What one look leaves for the next.

    Attributes:
        seen: whether there ever was a server.
        since: monotonic time since when each symptom has lasted.
    """

    seen: bool = False
    since: Mapping[str, float] = field(default_factory=dict)


UNSEEN: Final = Health(
    live=Answer(ok=True, why="no look was taken yet"),
    ready=Answer(ok=False, why="no look was taken yet"),
    started=Answer(ok=False, why="no look was taken yet"),
)


def examine(
    before: Vigil, family: Family | None, incidents: Collection[Incident], policy: Policy, monotonic: float
) -> tuple[Vigil, Health]:
    """The health of this look, and what to remember.

    Args:
        before: what the look before left.
        family: the server; None where none was found.
        incidents: that are open.
        policy: in force.
        monotonic: time of the look.
    """
    seen = before.seen or family is not None
    symptoms = dict(_symptoms(family, incidents, policy, seen))
    since = {name: before.since.get(name, monotonic) for name in symptoms}
    lasted = {name: monotonic - at for name, at in since.items()}
    fatal = next((name for name in symptoms if name != _QUEUE and lasted[name] >= policy.probe_grace_s), None)
    health = Health(
        live=Answer(ok=False, why=f"{symptoms[fatal]} for {lasted[fatal]:.0f} s") if fatal else _OK,
        ready=_ready(family, incidents, symptoms, lasted),
        started=_started(family),
    )
    return Vigil(seen=seen, since=since), health


_OK: Final = Answer(ok=True, why="ok")
_NO_SERVER: Final = Answer(ok=False, why="no server was found")


def _symptoms(
    family: Family | None, incidents: Collection[Incident], policy: Policy, seen: bool
) -> Iterator[tuple[str, str]]:
    if family is None:
        if seen:
            yield "gone", "the server has been gone"
        return
    if family.doubt is not None:
        return
    if any(each.kind == "stuck-arbiter" for each in incidents):
        yield "stuck", "the arbiter has stood still"
    if not family.workers:
        yield "none", "there has been no worker"
    elif all(_is_wedged(worker, incidents) for worker in family.workers):
        yield "wedged", "every worker has been frozen, hung at its boot, or overdue"
    queue, share = accept_queue(family), policy.probe_queue_share
    if share and queue is not None and queue.limit and queue.length >= share * queue.limit:
        yield _QUEUE, f"{queue.length} connections wait in queues of {queue.limit}"


def _is_wedged(worker: Worker, incidents: Collection[Incident]) -> bool:
    if worker.state == "overdue":
        return True
    return any(each.kind in WEDGING and each.process == worker.process.id for each in incidents)


def _ready(
    family: Family | None, incidents: Collection[Incident], symptoms: Mapping[str, str], lasted: Mapping[str, float]
) -> Answer:
    if family is None:
        return _NO_SERVER
    if _QUEUE in symptoms and lasted[_QUEUE] >= QUEUE_S:
        return Answer(ok=False, why=symptoms[_QUEUE])
    if any(each.state == "alive" and not _is_wedged(each, incidents) for each in family.workers):
        return _OK
    return Answer(ok=False, why="no worker is up that could serve")


def _started(family: Family | None) -> Answer:
    if family is None:
        return _NO_SERVER
    booted = any(worker.state not in ("booting", "draining") for worker in family.workers)
    return _OK if booted else Answer(ok=False, why="no worker has booted yet")
