"""A request that never ends in a worker whose heartbeat stays fresh: no timeout bounds it (gunicorn #3129).

In: what the kernel knows of each accepted connection (`Exchange`), and what the threads wait on. Out: a fault for a
worker with a request older than `request_told_s`, or than `request_limit_s` if that is set. Rule: a request is under
way while the client has spoken last. One that answers in pieces, uploads in pieces, or keeps a connection idle is not
stuck; a thread that waits for its own client's bytes is not either. It is only told, unless the owner says how long a
request may take: a long poll of ten minutes is as healthy as it looks stuck.

gthread, gevent, eventlet, tornado and asgi workers beat from their main loop whatever their requests do; a sync one is
unbounded only with a timeout of 0. In an event loop a client of a WebSocket may speak last and expect no answer: there
only connections that got no byte at all are judged. Connections over a unix socket have no such clocks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId, ServerKind
from wsgi_sidecar.core.exchanges import Exchange
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict, Wishes
from wsgi_sidecar.core.snapshot import Closeup
from wsgi_sidecar.core.waits import Waits

SUSPECT_SHARE: Final = 0.5
"""Half way to the threshold a worker's threads begin to be looked at, so that it is known for how long they slept."""
GLANCES: Final = 10
LONGEST_GLANCE_S: Final = 15.0
"""A threshold of 300 s is looked for every 15 s, one of 5 s every .5 s: nothing else needs all connections' clocks."""
MOST_DOINGS: Final = 4

_ONE_AT_A_TIME: Final = ("sync", "SyncWorker")
_ANSWERS_ONCE: Final = (*_ONE_AT_A_TIME, "gthread", "ThreadWorker", "threads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """A thread that sleeps: how often it had switched when it was first seen so, and when that was (monotonic)."""

    switches: int | None
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What the last glance left.

    Attributes:
        asked_at: monotonic time of the last look at the connections.
        waiting: workers with requests older than half of the threshold.
        rests: how long the threads of those workers have slept, by tid.
    """

    asked_at: float = float("-inf")
    waiting: frozenset[ProcessId] = frozenset()
    rests: Mapping[ProcessId, Mapping[int, Rest]] = field(default_factory=dict)


def unbounded(kind: ServerKind, terms: Terms) -> bool:
    """Whether no timeout of the server's ends a request; False where that is not known."""
    name = _class(terms)
    if kind == "gunicorn" and name not in _ONE_AT_A_TIME:
        return bool(name)
    # uWSGI's harakiri bounds the requests of every kind of worker.
    return kind in ("gunicorn", "uwsgi") and terms.timeout_s == 0


def _class(terms: Terms) -> str:
    return (terms.worker_class or "").rpartition(".")[2]


def threshold_s(policy: Policy) -> float:
    """Age from which on a request is told."""
    return min(policy.request_told_s, policy.request_limit_s or policy.request_told_s)


def suspects(sight: Sight, memory: Queue) -> frozenset[ProcessId]:
    """Workers whose requests were old at the look before."""
    return memory.waiting & {worker.process.id for worker in sight.family.workers}


def wishes(sight: Sight, memory: Queue) -> Wishes:
    """The connections' clocks, seldom while nothing is old; the waits of workers with old requests."""
    if not unbounded(sight.family.kind, sight.terms) or not any(worker.connections for worker in sight.family.workers):
        return Wishes()
    every_s = min(LONGEST_GLANCE_S, threshold_s(sight.policy) / GLANCES)
    due = bool(memory.waiting) or sight.family.monotonic - memory.asked_at >= every_s
    return Wishes(exchanges=due, waits=suspects(sight, memory))


def judge(sight: Sight, memory: Queue) -> Verdict:
    """Tell the workers that hold an old request, once their threads were looked at, too."""
    if sight.exchanges is None:
        return Verdict(faults=(), memory=Queue(asked_at=memory.asked_at))
    old = {worker.process.id: _old(worker, sight) for worker in sight.family.workers}
    waiting = frozenset(who for who, exchanges in old.items() if exchanges)
    looked = {who: sight.closeups[who] for who in waiting & sight.closeups.keys()}
    rests = {who: _rests(memory.rests.get(who, {}), closeup) for who, closeup in looked.items()}
    stuck = [worker for worker in sight.family.workers if worker.process.id in looked]
    faults = tuple(
        _fault(worker, old[worker.process.id], rests[worker.process.id], sight)
        for worker in stuck
        if _age_s(old[worker.process.id][0]) >= threshold_s(sight.policy)
    )
    return Verdict(faults=faults, memory=Queue(asked_at=sight.family.monotonic, waiting=waiting, rests=rests))


def _old(worker: Worker, sight: Sight) -> tuple[Exchange, ...]:
    """Connections of a worker that have waited for half of the threshold, the oldest first."""
    held = worker.process.connections or frozenset()
    least_s = threshold_s(sight.policy) * SUSPECT_SHARE
    awaited = _awaited(sight.waits.get(worker.process.id))
    once = _class(sight.terms) in _ANSWERS_ONCE
    old = [
        each
        for each in sight.exchanges or ()
        if each.inode in held and _age_s(each) >= least_s and each.peer not in awaited and (once or not each.confirmed)
    ]
    return tuple(sorted(old, key=_age_s, reverse=True))


def _age_s(exchange: Exchange) -> float:
    return exchange.unanswered_s or 0.0


def _awaited(waits: Waits | None) -> frozenset[str]:
    """Clients whose next bytes a thread waits for: half a request is theirs to end."""
    return frozenset(wait.peer for wait in (waits.threads if waits else ()) if wait.kind == "client" and wait.peer)


def _rests(before: Mapping[int, Rest], closeup: Closeup) -> Mapping[int, Rest]:
    return {
        thread.tid: known
        if (known := before.get(thread.tid)) is not None and known.switches == thread.switches
        else Rest(switches=thread.switches, since=closeup.monotonic)
        for thread in closeup.threads
    }


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Why the worker must not be ended; None while its oldest request still has no answer."""
    same = (earlier.connections or frozenset()) & (later.connections or frozenset())
    if not same:
        return "the connection of its oldest request is gone"
    if later.exchanges is None:
        return "whether its oldest request was answered could not be read"
    limit_s = policy.request_limit_s or threshold_s(policy)
    waits = any(each.inode in same and _age_s(each) >= limit_s for each in later.exchanges)
    return None if waits else "its oldest request was answered"


def _fault(worker: Worker, old: tuple[Exchange, ...], rests: Mapping[int, Rest], sight: Sight) -> Fault:
    oldest, limit_s = old[0], sight.policy.request_limit_s
    age_s, more = _age_s(oldest), len(old) - 1
    doings = _doings(worker, rests, sight)
    return Fault(
        kind="stuck-request",
        process=worker.process.id,
        slot=worker.slot,
        since=sight.family.at - age_s,
        summary=(
            f"worker in slot {worker.slot} (pid {worker.process.id.pid}) holds a request that no timeout ends: client "
            f"{oldest.peer} {'gave up, and its request' if oldest.left else 'waits and'} has had no answer for "
            f"{age_s:.0f} s{_more(more)}, while the worker's heartbeat stays fresh; its threads: {', '.join(doings)}"
        ),
        evidence=(
            Evidence(name="oldest request", value=round(age_s, 3), unit="s"),
            Evidence(name="client", value=oldest.peer),
            Evidence(name="client left", value="yes" if oldest.left else "no"),
            Evidence(name="old requests", value=len(old), unit="requests"),
            Evidence(name="request limit", value=limit_s or "none", unit="s" if limit_s else ""),
            Evidence(name="worker class", value=sight.terms.worker_class or "unknown"),
            *(Evidence(name=f"threads {number}", value=doing) for number, doing in enumerate(doings, 1)),
        ),
        target="worker",
        spare=_why_spared(age_s, limit_s),
        serving=len(sight.family.workers) > 1,
        connection=oldest.inode,
    )


def _more(count: int) -> str:
    return "" if not count else f" ({count} more request{'s' if count > 1 else ''} of it nearly as long)"


def _why_spared(age_s: float, limit_s: float) -> str | None:
    if not limit_s:
        return (
            "it is told and not ended, for how long a request may take is yours to say: set request_limit_s to have "
            "such a worker ended, and give the client that it waits in a timeout of its own"
        )
    return None if age_s >= limit_s else f"it is ended when a request is {limit_s:g} s old"


def _doings(worker: Worker, rests: Mapping[int, Rest], sight: Sight) -> tuple[str, ...]:
    """What the threads do that may be the request's: not the main loop of a pool, and no idle thread."""
    waits = sight.waits.get(worker.process.id)
    if waits is None or not waits.threads:
        return ("what they wait on could not be told",)
    # In an event loop the main thread is what all requests share; its other threads are helpers.
    pooled = len(waits.threads) > 1 and _class(sight.terms) in _ANSWERS_ONCE
    pool = waits.threads[1:] if pooled else waits.threads
    telling = [wait for wait in pool if wait.kind != "lock"]
    slept = {wait.thread: _slept_s(rests.get(wait.thread), sight) for wait in telling}
    counts = Counter(wait.doing for wait in telling)
    said = tuple(
        f"{count} {doing}{_for(slept[wait.thread] for wait in telling if wait.doing == doing)}"
        for doing, count in counts.most_common(MOST_DOINGS)
    )
    return said or ("all wait for a lock or for work, which look the same from outside",)


def _slept_s(rest: Rest | None, sight: Sight) -> float:
    return sight.family.monotonic - rest.since if rest is not None and rest.switches is not None else 0.0


def _for(slept: Iterable[float]) -> str:
    """Said once the sleep is long enough to be more than the gap between two looks."""
    longest = max(slept)
    return f" (asleep for at least {longest:.0f} s)" if longest >= 2.0 else ""


RULE: Final = Rule(
    kind="stuck-request",
    target="worker",
    blank=Queue(),
    suspects=suspects,
    judge=judge,
    doubt=doubt,
    wishes=wishes,
)
