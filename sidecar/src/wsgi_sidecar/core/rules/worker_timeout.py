"""Workers whose heartbeat is late: those that the arbiter ends again and again, and those that it fails to end.

In: which workers departed and why, and what late ones wait on. Out: one fault for a storm of timeouts (see `timeouts`),
and one for each worker that is long overdue. Rule: what a late worker waits on is looked at while it is late, for the
arbiter takes the evidence with it. Nothing is ended here: the arbiter has done so, or it will not help.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict, Wishes
from wsgi_sidecar.core.snapshot import Closeup
from wsgi_sidecar.core.timeouts import Storm, TimedOut, advise, evidence, find_storm, recent, tell
from wsgi_sidecar.core.waits import Wait

LATE_SHARE: Final = 0.6
"""A sync worker at rest beats every timeout/2: above .6 of the timeout it is late."""
LAST_SHARE: Final = 0.85
"""A second look right before the end, for what it waits on at last; 30 s: at 18 s and from 25.5 s on."""
ENDING_S: Final = 0.5
"""A worker this close to its timeout may be in gunicorn's abort handler by the time its threads are looked at: it then
computes a traceback, whatever its request did. An earlier look tells more."""
ENDED_S: Final = 3.0
"""One that lives on so long after its timeout is not being ended: what it does now is what it does."""
MOST_LOOKED_AT: Final = 8
"""Late workers looked at in one look: some milliseconds each, and in a storm they all wait on the same."""
UNENDED_S: Final = 10.0
"""The arbiter looks every second, sends SIGABRT first and SIGKILL a second later. Ten seconds are no delay."""
RELOAD_S: Final = 30.0
"""From 24.0 on an arbiter that reloads waits up to graceful_timeout (30 s) for its old workers, and ends nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """What the looks so far left.

    Attributes:
        waits: what late workers' main threads waited on.
        timeouts: those that still count; `at` on the monotonic clock, which nobody sets.
        overdue: monotonic time at which each overdue worker was first seen so.
    """

    waits: Mapping[ProcessId, Wait] = field(default_factory=dict)
    timeouts: tuple[TimedOut, ...] = ()
    overdue: Mapping[ProcessId, float] = field(default_factory=dict)


def suspects(sight: Sight, memory: Lateness) -> frozenset[ProcessId]:
    """Nobody: the threads' waits are looked at instead."""
    return frozenset()


def wishes(sight: Sight, memory: Lateness) -> Wishes:
    """The waits of late workers: at first sight, and again right before their end."""
    late = [worker for worker in sight.family.workers if _late(worker, sight.terms, memory)]
    return Wishes(waits=frozenset(worker.process.id for worker in late[:MOST_LOOKED_AT]))


def _late(worker: Worker, terms: Terms, memory: Lateness) -> bool:
    age_s, timeout_s = worker.heartbeat_age_s, terms.timeout_s
    if age_s is None or not timeout_s or worker.state == "draining":
        return False
    share = LAST_SHARE if worker.process.id in memory.waits else LATE_SHARE
    return age_s >= share * timeout_s


def judge(sight: Sight, memory: Lateness) -> Verdict:
    """Remember what late workers wait on, count those that timed out, and tell storms and the overdue."""
    timeout_s, now = sight.terms.timeout_s, sight.family.monotonic
    if not timeout_s:
        return Verdict(faults=(), memory=Lateness())
    timeouts = recent([*memory.timeouts, *_timed_out(sight, memory)], now=now, timeout_s=timeout_s)
    overdue = _overdue(sight, memory)
    storm = find_storm(timeouts, now=now, timeout_s=timeout_s)
    left = [w for w in sight.family.workers if now - overdue.get(w.process.id, now) >= _patience_s(sight.terms)]
    faults = ((_stormy(storm, sight),) if storm else ()) + tuple(_unended(worker, sight, memory) for worker in left)
    return Verdict(faults=faults, memory=Lateness(waits=_seen(sight, memory), timeouts=timeouts, overdue=overdue))


def _timed_out(sight: Sight, memory: Lateness) -> list[TimedOut]:
    return [
        TimedOut(
            at=sight.family.monotonic,
            slot=gone.slot,
            silent_s=gone.silent_s or 0.0,
            wait=memory.waits.get(gone.process),
        )
        for gone in sight.departed
        if gone.reason == "timeout"
    ]


def _seen(sight: Sight, memory: Lateness) -> Mapping[ProcessId, Wait]:
    """The last wait of every living worker that was looked at; a beat makes it history."""
    if not (sight.waits or memory.waits):
        return {}
    late = {w.process.id for w in sight.family.workers if _late(w, sight.terms, Lateness())}
    ending = {w.process.id for w in sight.family.workers if _ending(w, sight.terms)} & memory.waits.keys()
    seen = {who: waits.threads[0] for who, waits in sight.waits.items() if waits.threads and who not in ending}
    return {who: wait for who, wait in (dict(memory.waits) | seen).items() if who in late}


def _ending(worker: Worker, terms: Terms) -> bool:
    over_s = (worker.heartbeat_age_s or 0.0) - (terms.timeout_s or 0.0)
    return -ENDING_S < over_s < ENDED_S


def _overdue(sight: Sight, memory: Lateness) -> Mapping[ProcessId, float]:
    now = sight.family.monotonic
    overdue = (worker.process.id for worker in sight.family.workers if worker.state == "overdue")
    return {who: memory.overdue.get(who, now) for who in overdue}


def _patience_s(terms: Terms) -> float:
    major = (terms.release or "").partition(".")[0]
    return UNENDED_S if major.isdecimal() and int(major) < 24 else UNENDED_S + RELOAD_S


def _stormy(storm: Storm, sight: Sight) -> Fault:
    family = sight.family
    return Fault(
        kind="worker-timeout",
        process=family.master.id,
        slot=None,
        since=family.at - (family.monotonic - storm.since),
        summary=tell(storm),
        evidence=evidence(storm),
        target=None,
        spare=f"the arbiter has ended the workers; {advise(storm)}",
    )


def _unended(worker: Worker, sight: Sight, memory: Lateness) -> Fault:
    age_s, timeout_s = worker.heartbeat_age_s or 0.0, sight.terms.timeout_s or 0.0
    wait, arbiter = memory.waits.get(worker.process.id), sight.family.master
    doing = wait.doing if wait else "waits; on what could not be told"
    return Fault(
        kind="worker-timeout",
        process=worker.process.id,
        slot=worker.slot,
        since=sight.family.at - (age_s - timeout_s),
        summary=(
            f"worker in slot {worker.slot} (pid {worker.process.id.pid}) has been silent for {age_s:.0f} s (timeout is "
            f"{timeout_s:g} s) and the arbiter (pid {arbiter.id.pid}) does not end it: its main thread {doing}; the "
            f"worker's state is {_state(worker.process.state)}, the arbiter's {_state(arbiter.state)}"
        ),
        evidence=(
            Evidence(name="silent", value=round(age_s, 3), unit="s"),
            Evidence(name="timeout", value=timeout_s, unit="s"),
            Evidence(name="main thread", value=doing),
            Evidence(name="worker state", value=_state(worker.process.state)),
            Evidence(name="arbiter state", value=_state(arbiter.state)),
        ),
        target=None,
        spare=_why_left(worker, sight),
    )


_STATES: Final[Mapping[str, str]] = {
    "R": "running",
    "S": "sleeping",
    "D": "in uninterruptible sleep",
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "Z": "dead",
}


def _state(letter: str) -> str:
    return _STATES.get(letter, letter)


def _why_left(worker: Worker, sight: Sight) -> str:
    if worker.process.state == "D":
        return "no signal ends a process in uninterruptible sleep: look at the volume or device that it waits for"
    if sight.family.master.state in "Tt":
        return "the arbiter is stopped: SIGCONT, or the debugger's end, lets it go on"
    return "the arbiter should end it; look at what the arbiter does (py-spy dump --nonblocking), and at stuck-arbiter"


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Nothing is ended for a late heartbeat."""
    return "late workers are the arbiter's to end"


RULE: Final = Rule(
    kind="worker-timeout",
    target=None,
    blank=Lateness(),
    suspects=suspects,
    judge=judge,
    doubt=doubt,
    wishes=wishes,
)
