"""How much of what a server can do at a time is taken: one number, fit for an autoscaler.

In: a `Family`, its terms, and what was seen inside its workers. Out: `Demand`; of two looks, the Report's `Saturation`.
Rule: `ratio = (busy + min(waiting, slots)) / slots`, from 0 to 2. Below 1 there is room; from 1 on requests wait; at 2
as many wait as are served. It stops at 2 because an autoscaler multiplies by it: a backlog of thousands must not ask
for a hundred times the pods.

What a slot is, by worker class:

- sync: a worker; busy while it holds a connection, whether the client sends or not, for it can do nothing else.
- gthread: a thread of the pool. Idle ones wait for work without a time limit; whoever does anything else is busy, but
  never more threads than the worker holds connections (an application's own threads are no slots). Connections with
  unread bytes beyond those being served wait inside the worker: from release 24 on that is where requests queue.
- event loops (gevent, eventlet, tornado, asgi, uvicorn): a worker; taken by its loop's CPU time or by its connections
  against worker_connections, whichever is more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Final, Literal

from wsgi_contract.report import ProcessId, Saturation
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.rules.rule import Terms, cores

SMOOTHED_OVER_S: Final = 15.0
"""Time constant: Prometheus scrapes every 15 to 30 s, and a scrape must not tell the luck of one moment."""
ARRIVED: Final = 0.001
"""From how near the smoothed ratio is told as what it is drawn to. Alone it never gets there: an idle server would be
told as one that does a little for ever. With it the way from 2 to 0 ends after 15 * ln(2 / .001) = 114 s."""

Style = Literal["sync", "gthread", "loop"]

_STYLES: Final[Mapping[str, Style]] = {
    "sync": "sync", "SyncWorker": "sync",
    "gthread": "gthread", "ThreadWorker": "gthread",
    **dict.fromkeys(
        ("gevent", "gevent_wsgi", "gevent_pywsgi", "GeventWorker", "GeventPyWSGIWorker", "eventlet", "EventletWorker",
         "tornado", "TornadoWorker", "asgi", "ASGIWorker", "UvicornWorker", "UvicornH11Worker"), "loop",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What was seen inside one worker.

    Attributes:
        busy: threads beside the main one that did not wait for work; None where the kernel refused to tell.
        unread: connections with bytes that nobody has read yet.
    """

    busy: int | None
    unread: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One moment, in slots.

    Attributes:
        busy: taken.
        slots: there are.
        waiting: requests and connections that wait for one.
        by_worker: busy threads of each worker, where threads are what is counted.
    """

    busy: float
    slots: int
    waiting: int
    by_worker: Mapping[ProcessId, int]

    @property
    def ratio(self) -> float:
        """See the module.

        >>> Demand(busy=4, slots=4, waiting=2, by_worker={}).ratio
        1.5
        """
        return (self.busy + min(self.waiting, self.slots)) / self.slots

    @property
    def full(self) -> bool:
        """Every slot is taken, and as many requests wait as are served."""
        return self.busy >= self.slots and self.waiting >= self.slots


def style(worker_class: str | None) -> Style | None:
    """How workers of this class take requests; None where it is not known."""
    return _STYLES.get((worker_class or "").rpartition(".")[2])


def demand(
    family: Family, before: Family | None, terms: Terms, threads: int | None, efforts: Mapping[ProcessId, Effort]
) -> Demand | None:
    """The demand of this moment; None where a fact that it needs is unknown, or nobody serves.

    Args:
        family: now.
        before: an earlier look, from which CPU time is counted.
        terms: what the server was told to be.
        threads: of each worker, as set; asked for with gthread only.
        efforts: of workers that hold connections; asked for with gthread only.
    """
    serving = tuple(worker for worker in family.workers if worker.state in ("alive", "overdue"))
    queue = None if family.listeners is None else sum(listener.queue for listener in family.listeners)
    if queue is None or not serving or any(worker.connections is None for worker in serving):
        return None
    match style(terms.worker_class):
        case "sync":
            by_worker = {worker.process.id: min(1, worker.connections or 0) for worker in serving}
            return Demand(busy=sum(by_worker.values()), slots=len(serving), waiting=queue, by_worker=by_worker)
        case "gthread" if threads:
            return _threaded(serving, threads, efforts, queue)
        case "loop":
            taken = [_loop_taken(worker, family, before, terms.connection_limit) for worker in serving]
            return Demand(busy=sum(taken), slots=len(serving), waiting=queue, by_worker={})
        case _:
            return None


def _threaded(
    serving: tuple[Worker, ...], threads: int, efforts: Mapping[ProcessId, Effort], queue: int
) -> Demand | None:
    by_worker: dict[ProcessId, int] = {}
    waiting = queue
    for worker in serving:
        held = worker.connections or 0
        effort = efforts.get(worker.process.id) if held else Effort(busy=0, unread=0)
        if effort is None or effort.busy is None:
            return None
        busy = min(effort.busy, threads, held)
        by_worker[worker.process.id] = busy
        waiting += min(effort.unread, held - busy)
    return Demand(
        busy=sum(by_worker.values()), slots=threads * len(serving), waiting=waiting, by_worker=by_worker
    )  # fmt: skip


def _loop_taken(worker: Worker, family: Family, before: Family | None, limit: int | None) -> float:
    used = cores(worker.process.id, family, before) or 0.0
    return min(1.0, max(used, (worker.connections or 0) / limit if limit else 0.0))


def saturation(now: Demand, before: Saturation | None, elapsed_s: float) -> Saturation:
    """The demand with its ratio drawn towards what it was before.

    What is told is what the next look starts from, so it is not rounded: over a short look a rounded one stands still.

    >>> idle = Demand(busy=0, slots=4, waiting=0, by_worker={})
    >>> full = Saturation(ratio=1.0, busy=4, slots=4, waiting=0)
    >>> round(saturation(idle, full, 15.0).ratio, 2)
    0.37
    """
    share = 1.0 if before is None else 1.0 - exp(-max(0.0, elapsed_s) / SMOOTHED_OVER_S)
    past = before.ratio if before is not None else 0.0
    ratio = past + share * (now.ratio - past)
    if abs(ratio - now.ratio) < ARRIVED:
        ratio = now.ratio
    return Saturation(ratio=ratio, busy=now.busy, slots=now.slots, waiting=now.waiting)
