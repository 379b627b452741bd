"""What is wrong with the server, since when, and since when no more.

In: a `Sight` (now, and the look before) and the `Memory` of earlier looks. Out: `Diagnosis`, with the memory for the
next look in it. Rule: every kind of incident is one rule in `RULES`; here faults only get an identity, a beginning
and an end. A fault of the same kind about the same process is the same case for as long as every look finds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from wsgi_contract.report import IncidentKind, ProcessId
from wsgi_sidecar.core.rules import (
    boot_hang,
    connection_saturation,
    frozen_worker,
    memory_limit,
    oom_kill,
    orphan_processes,
    shared_socket,
    stuck_arbiter,
    stuck_request,
    worker_timeout,
)
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Verdict, Wishes

RULES: Final[tuple[Rule, ...]] = (
    frozen_worker.RULE,
    stuck_arbiter.RULE,
    orphan_processes.RULE,
    shared_socket.RULE,
    worker_timeout.RULE,
    stuck_request.RULE,
    boot_hang.RULE,
    connection_saturation.RULE,
    oom_kill.RULE,
    memory_limit.RULE,
)

Key = tuple[IncidentKind, ProcessId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One incident while it lasts.

    Attributes:
        id: unique within this sidecar's life, for example `frozen-worker-3`.
        fault: as of the last look; `since` is the first look's.
    """

    id: str
    fault: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the looks so far left behind.

    Attributes:
        rules: each rule's own memory, by kind.
        open: the cases that the last look still found.
        opened: how many cases were ever opened: numbers the next one.
    """

    rules: Mapping[IncidentKind, Any] = field(default_factory=dict)
    open: Mapping[Key, Case] = field(default_factory=dict)
    opened: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What one look says.

    Attributes:
        open: all cases found now, old and new.
        opened: the ids of those that are new.
        ended: cases of the look before that are no more.
        again_at: monotonic time at which a look would settle a suspicion; None where the usual pace will do.
        memory: for the next look.
    """

    open: tuple[Case, ...] = ()
    opened: frozenset[str] = frozenset()
    ended: tuple[Case, ...] = ()
    again_at: float | None = None
    memory: Memory = field(default_factory=Memory)


def suspects(sight: Sight, memory: Memory) -> frozenset[ProcessId]:
    """The processes whose closeup the rules need before they can judge this look."""
    return frozenset().union(*(rule.suspects(sight, _remembered(rule, memory)) for rule in RULES))


def wishes(sight: Sight, memory: Memory) -> Wishes:
    """What else the rules need before they can judge this look."""
    wished = [rule.wishes(sight, _remembered(rule, memory)) for rule in RULES]
    return Wishes(
        waits=frozenset().union(*(each.waits for each in wished)),
        exchanges=any(each.exchanges for each in wished),
        freezer=any(each.freezer for each in wished),
    )


def diagnose(sight: Sight, memory: Memory) -> Diagnosis:
    """Judge one look by all rules."""
    verdicts = {rule.kind: rule.judge(sight, _remembered(rule, memory)) for rule in RULES}
    faults = [fault for verdict in verdicts.values() for fault in verdict.faults]
    return _told(faults, {kind: verdict.memory for kind, verdict in verdicts.items()}, memory, _soonest(verdicts))


def lost(memory: Memory) -> Diagnosis:
    """The diagnosis of a look that found no server: whatever was wrong has ended with it."""
    return _told([], {}, memory, None)


def rule_of(fault: Fault) -> Rule:
    """The rule that made the fault: the one that can look again before a kill."""
    return next(rule for rule in RULES if rule.kind == fault.kind)


def _remembered(rule: Rule, memory: Memory) -> Any:
    return memory.rules.get(rule.kind, rule.blank)


def _soonest(verdicts: Mapping[IncidentKind, Verdict]) -> float | None:
    return min((v.again_at for v in verdicts.values() if v.again_at is not None), default=None)


def _told(faults: list[Fault], rules: Mapping[IncidentKind, Any], memory: Memory, again_at: float | None) -> Diagnosis:
    cases: dict[Key, Case] = {}
    opened = memory.opened
    for fault in faults:
        key = (fault.kind, fault.process)
        known = memory.open.get(key)
        opened += known is None
        since = known.fault.since if known else fault.since
        cases[key] = Case(id=known.id if known else f"{fault.kind}-{opened}", fault=replace(fault, since=since))
    return Diagnosis(
        open=tuple(cases.values()),
        opened=frozenset(case.id for key, case in cases.items() if key not in memory.open),
        ended=tuple(case for key, case in memory.open.items() if key not in cases),
        again_at=again_at,
        memory=Memory(rules=rules, open=cases, opened=opened),
    )
