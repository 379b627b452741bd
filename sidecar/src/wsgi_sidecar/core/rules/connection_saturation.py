"""More clients than workers, threads and queues hold.

In: the accept queues at every look, the demand in slots as last counted, connections that the kernel turned away. Out:
a fault once the server was crowded at every look for `CROWDED_S`. Rule: crowded is one of: an accept queue half full;
every slot taken while as many requests wait as are served; every worker at its connection limit with somebody waiting.
Connections dropped while the queue is full end the waiting at once: clients are losing. A peak of some seconds is what
a queue is for; it ends once there was room for `ROOM_S`, so that a server at the edge is one incident and not twenty.

Nothing is killed: a busy server is not a sick one, and a kill would lose what it serves.
"""

from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict
from wsgi_sidecar.core.snapshot import Closeup

CROWDED_S: Final = 10.0
ROOM_S: Final = 10.0
DEEP: Final = 0.5
"""Share of a backlog from which on its queue is deep: what waits there waits for seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How long the server has been crowded.

    Attributes:
        since: monotonic time since which it is; None where it is not.
        seen: monotonic time of the last crowded look.
        dropped_before: the kernel's count of dropped connections when it began.
        told: it is an incident already.
    """

    since: float | None = None
    seen: float = 0.0
    dropped_before: int | None = None
    told: bool = False


def suspects(sight: Sight, memory: Crowd) -> frozenset[ProcessId]:
    """None: queues and counts tell it."""
    return frozenset()


def judge(sight: Sight, memory: Crowd) -> Verdict:
    """Carry the crowd on, or let it go."""
    now = sight.family.monotonic
    why = crowded(sight)
    if why is None and (memory.since is None or not memory.told or now - memory.seen >= ROOM_S):
        return Verdict(faults=(), memory=Crowd())
    crowd = memory
    if memory.since is None:
        crowd = Crowd(since=now, seen=now, dropped_before=sight.around.dropped)
    elif why is not None:
        crowd = replace(memory, seen=now)
    since = now if crowd.since is None else crowd.since
    lost = dropped(crowd, sight)
    told = crowd.told or now - since >= CROWDED_S or bool(lost and _deepest(sight.family) >= 1.0)
    crowd = replace(crowd, told=told)
    return Verdict(faults=(_fault(crowd, why or "there is room again", since, sight),) if told else (), memory=crowd)


def crowded(sight: Sight) -> str | None:
    """Why the server is crowded at this look; None where it is not."""
    deepest, told, family = _deepest(sight.family), sight.around.saturation, sight.family
    if deepest >= DEEP:
        return f"an accept queue is {min(deepest, 1.0):.0%} full"
    waiting = sum(listener.queue for listener in family.listeners or ())
    if waiting and _at_their_limit(family, sight.terms):
        return f"every worker holds the {sight.terms.connection_limit} connections that it may"
    if told is not None and waiting + told.waiting > 0 and told.busy >= told.slots and told.waiting >= told.slots:
        return f"all {told.slots} slots are taken and {told.waiting} requests wait"
    return None


def _deepest(family: Family) -> float:
    shares = [each.queue / each.backlog for each in family.listeners or () if each.backlog]
    return max(shares, default=0.0)


def _at_their_limit(family: Family, terms: Terms) -> bool:
    limit = terms.connection_limit
    held = [worker.connections for worker in family.workers if worker.state in ("alive", "overdue")]
    # A limit of 1 is a sync worker's: one that serves is no news; its queue and its slots tell.
    return limit is not None and limit > 1 and bool(held) and all(each is not None and each >= limit for each in held)


def dropped(crowd: Crowd, sight: Sight) -> int | None:
    """Connections turned away since the crowd began; None where the kernel does not tell."""
    now = sight.around.dropped
    return None if now is None or crowd.dropped_before is None else max(0, now - crowd.dropped_before)


def _fault(crowd: Crowd, why: str, since: float, sight: Sight) -> Fault:
    family, told, lost = sight.family, sight.around.saturation, dropped(crowd, sight)
    lasted = family.monotonic - since
    queue = sum(listener.queue for listener in family.listeners or ())
    backlogs = [listener.backlog for listener in family.listeners or () if listener.backlog is not None]
    busy = f"{told.busy:g} of {told.slots} slots are taken" if told else "how many slots are taken is unknown"
    turned_away = f", and the kernel turned {lost} connections away" if lost else ""
    numbers = (
        ("waiting in accept queues", queue, "connections"),
        ("backlog", sum(backlogs) if backlogs else None, "connections"),
        ("slots taken", told.busy if told else None, "slots"),
        ("slots", told.slots if told else None, "slots"),
        ("requests waiting", told.waiting if told else None, "requests"),
        ("dropped", lost, "connections"),
        ("saturation", told.ratio if told else None, ""),
    )
    return Fault(
        kind="connection-saturation",
        process=family.master.id,
        slot=None,
        since=family.at - lasted,
        summary=(
            f"more clients than the server can serve for {lasted:.0f} s: {why}; {queue} connections wait to be "
            f"accepted, {busy}{turned_away}"
        ),
        evidence=tuple(Evidence(name=name, value=it, unit=unit) for name, it, unit in numbers if it is not None),
        target=None,
        spare="nothing is killed; more replicas help at once, more workers or threads if the CPU has room",
    )


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Never asked: nothing is killed."""
    return "a busy server is not killed"


RULE: Final = Rule(
    kind="connection-saturation", target=None, blank=Crowd(), suspects=suspects, judge=judge, doubt=doubt
)
