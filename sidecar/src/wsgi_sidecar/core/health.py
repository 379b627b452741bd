"""Whether the server lives, is ready, has started: the answers to Kubernetes' probes, told without touching a worker.

In: the Report of a look, and what the look before left. Out: `Health`. Rule: busy is not wedged. A server whose workers
all work, with a full queue behind them, lives; a probe over HTTP would wait in that queue and have it killed. Live is
refused only for what was seen, and lasted; what cannot be seen lives.

The sidecar's own cure (a frozen worker: 5 s and a respawn) is gentler than a restart of the container, so `live` waits
`probe_grace_s` before it says no.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import IncidentKind, ProcessId, Report, WorkerInfo

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


def examine(before: Vigil, report: Report, policy: Policy, monotonic: float) -> tuple[Vigil, Health]:
    """The health of this look, and what to remember."""
    seen = before.seen or report.server is not None
    symptoms = dict(_symptoms(report, policy, seen))
    since = {name: before.since.get(name, monotonic) for name in symptoms}
    lasted = {name: monotonic - at for name, at in since.items()}
    fatal = next((name for name in symptoms if name != _QUEUE and lasted[name] >= policy.probe_grace_s), None)
    health = Health(
        live=Answer(ok=False, why=f"{symptoms[fatal]} for {lasted[fatal]:.0f} s") if fatal else _LIVES,
        ready=_ready(report, symptoms, lasted),
        started=_started(report),
    )
    return Vigil(seen=seen, since=since), health


_LIVES: Final = Answer(ok=True, why="ok")


def _symptoms(report: Report, policy: Policy, seen: bool) -> Iterator[tuple[str, str]]:
    if report.server is None:
        if seen:
            yield "gone", "the server has been gone"
        return
    stuck = _open(report, frozenset({"stuck-arbiter"}))
    if stuck:
        yield "stuck", "the arbiter has stood still"
    workers = report.workers
    if workers is not None and not workers:
        yield "none", "there has been no worker"
    elif workers and all(_is_wedged(worker, report) for worker in workers):
        yield "wedged", "every worker has been frozen, hung at its boot, or overdue"
    queue, share = report.accept_queue, policy.probe_queue_share
    if share and queue is not None and queue.limit and queue.length >= share * queue.limit:
        yield _QUEUE, f"{queue.length} connections wait in queues of {queue.limit}"


def _open(report: Report, kinds: frozenset[IncidentKind]) -> frozenset[ProcessId | None]:
    return frozenset(each.process for each in report.incidents if each.ended_at is None and each.kind in kinds)


def _is_wedged(worker: WorkerInfo, report: Report) -> bool:
    return worker.state == "overdue" or worker.process in _open(report, WEDGING)


def _ready(report: Report, symptoms: Mapping[str, str], lasted: Mapping[str, float]) -> Answer:
    if report.server is None:
        return Answer(ok=False, why="no server was found")
    if _QUEUE in symptoms and lasted[_QUEUE] >= QUEUE_S:
        return Answer(ok=False, why=symptoms[_QUEUE])
    serving = [w for w in report.workers or () if w.state == "alive" and not _is_wedged(w, report)]
    return Answer(ok=bool(serving), why="ok" if serving else "no worker is up that could serve")


def _started(report: Report) -> Answer:
    if report.server is None:
        return Answer(ok=False, why="no server was found")
    booted = any(worker.state not in ("booting", "draining") for worker in report.workers or ())
    return Answer(ok=booted, why="ok" if booted else "no worker has booted yet")
