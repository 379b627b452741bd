"""A worker that never finishes loading its application: from gunicorn 22.0 on no timeout ends it.

In: workers that have not beaten yet, look after look, and closeups of those that have not for long. Out: a fault for
one that idles in its boot for `boot_told_s`, or boots for `boot_limit_s` whatever it does. Rule: slow is not stuck. An
import that wants a CPU is at work and is not told before the limit; one that sleeps waits for somebody else. It is
ended only at the limit, since a fresh start cures nothing but a wait that was lost.

Wanted, not used: an import on a full machine, or under a limit that its siblings use up, waits for a CPU nearly all of
the time, and looks idle by what it got.

Up to 21.2 the arbiter itself ends such a worker at its timeout; from 22.0 it compares the monotonic clock with a file
time of the wall clock until the first beat, and waits for ever. Boots are timed from our first look, on the monotonic
clock: a step of the wall clock must not make a worker old.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_sidecar.core.activity import main_cpu_s, main_wanted_s, others_cpu_s, others_wanted_s
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.heartbeat import beat
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict, Wishes
from wsgi_sidecar.core.snapshot import Closeup

IDLE_CORES: Final = 0.05
"""An import at work wants .9 cores, however few it gets; one that waits for a socket wants less than .001."""
SUSPECT_SHARE: Final = 0.5
"""The idleness is measured over the second half of the time until it is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One worker's boot so far.

    Attributes:
        since: monotonic time at which it was first seen.
        first: the first closeup; None before half of `boot_told_s` went by.
    """

    since: float
    first: Closeup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Cores, all threads of one worker together.

    Attributes:
        used: that it got.
        wanted: those, and the ones that it waited for.
    """

    used: float
    wanted: float


Boots = Mapping[ProcessId, Boot]


def _booting(sight: Sight) -> tuple[Worker, ...]:
    return tuple(worker for worker in sight.family.workers if worker.state == "booting")


def _boots_s(worker: Worker, sight: Sight, memory: Boots) -> float:
    boot = memory.get(worker.process.id)
    return sight.family.monotonic - boot.since if boot is not None else 0.0


def suspects(sight: Sight, memory: Boots) -> frozenset[ProcessId]:
    """Workers that have booted for half as long as it takes to be told, or as they may."""
    policy = sight.policy
    least_s = min(policy.boot_told_s, policy.boot_limit_s or policy.boot_told_s) * SUSPECT_SHARE
    return frozenset(w.process.id for w in _booting(sight) if _boots_s(w, sight, memory) >= least_s)


def wishes(sight: Sight, memory: Boots) -> Wishes:
    """What the suspects wait on, once it is to be told."""
    policy = sight.policy
    least_s = min(policy.boot_told_s, policy.boot_limit_s or policy.boot_told_s)
    return Wishes(waits=frozenset(w.process.id for w in _booting(sight) if _boots_s(w, sight, memory) >= least_s))


def judge(sight: Sight, memory: Boots) -> Verdict:
    """Carry each boot on; one that is idle or over its limit is a fault."""
    boots = {worker.process.id: _carried(worker, sight, memory) for worker in _booting(sight)}
    faults = [_fault(w, boots[w.process.id], sight) for w in _booting(sight) if _hangs(w, boots[w.process.id], sight)]
    return Verdict(faults=tuple(faults), memory=boots)


def _carried(worker: Worker, sight: Sight, memory: Boots) -> Boot:
    boot = memory.get(worker.process.id, Boot(since=sight.family.monotonic))
    return boot if boot.first is not None else replace(boot, first=sight.closeups.get(worker.process.id))


def _hangs(worker: Worker, boot: Boot, sight: Sight) -> bool:
    boots_s, policy = sight.family.monotonic - boot.since, sight.policy
    if _over_limit(boots_s, policy):
        return True
    effort = _effort(worker, boot, sight)
    return boots_s >= policy.boot_told_s and effort is not None and effort.wanted < IDLE_CORES


def _over_limit(boots_s: float, policy: Policy) -> bool:
    return bool(policy.boot_limit_s) and boots_s >= policy.boot_limit_s


def _effort(worker: Worker, boot: Boot, sight: Sight) -> Effort | None:
    """What the worker did since its first closeup; None where too little time went by."""
    first, now = boot.first, sight.closeups.get(worker.process.id)
    if now is None or first is None or now.monotonic - first.monotonic < 1.0:
        return None
    elapsed = now.monotonic - first.monotonic
    return Effort(
        used=(main_cpu_s(first, now) + others_cpu_s(first, now)) / elapsed,
        wanted=(main_wanted_s(first, now) + others_wanted_s(first, now)) / elapsed,
    )


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Why the worker must not be ended; None while it has not beaten and has accepted nothing."""
    if any(not beat(file, at=0.0, monotonic=0.0).booting for file in later.heartbeats or ()):
        return "it beats"
    return "it has begun to accept connections" if later.connections else None


def _fault(worker: Worker, boot: Boot, sight: Sight) -> Fault:
    boots_s, effort = sight.family.monotonic - boot.since, _effort(worker, boot, sight)
    waits = sight.waits.get(worker.process.id)
    doing = waits.threads[0].doing if waits and waits.threads else "waits; on what could not be told"
    limit_s = sight.policy.boot_limit_s
    return Fault(
        kind="boot-hang",
        process=worker.process.id,
        slot=worker.slot,
        since=sight.family.at - boots_s,
        summary=(
            f"worker in slot {worker.slot} (pid {worker.process.id.pid}) has been loading the application for "
            f"{boots_s:.0f} s and serves nobody: its main thread {doing}"
            f"{_in_words(effort)}; gunicorn {sight.terms.release or ''} never ends a worker that has not beaten yet"
        ),
        evidence=(
            Evidence(name="boots for", value=round(boots_s, 3), unit="s"),
            _cores("CPU", effort.used if effort else None),
            _cores("wanted CPU", effort.wanted if effort else None),
            Evidence(name="main thread", value=doing),
            Evidence(name="boot limit", value=limit_s or "none", unit="s" if limit_s else ""),
            Evidence(name="release", value=sight.terms.release or "unknown"),
        ),
        target="worker",
        spare=_why_spared(boots_s, sight.policy),
        heartbeat=worker.heartbeat.inode if worker.heartbeat is not None else None,
    )


def _in_words(effort: Effort | None) -> str:
    if effort is None:
        return ""
    starved = effort.wanted - effort.used > 0.1
    return f", and it used {effort.used:.2f} cores" + (f" of {effort.wanted:.2f} that it wanted" if starved else "")


def _cores(name: str, cores: float | None) -> Evidence:
    if cores is None:
        return Evidence(name=name, value="unknown")
    return Evidence(name=name, value=round(cores, 3), unit="cores")


def _why_spared(boots_s: float, policy: Policy) -> str | None:
    if _over_limit(boots_s, policy):
        return None
    if not policy.boot_limit_s:
        return "it is told and not ended, for boot_limit_s is 0; bring back what it waits for, or end it yourself"
    return f"a slow import is healthy: it is ended after {policy.boot_limit_s:g} s; bring back what it waits for"


RULE: Final = Rule(
    kind="boot-hang", target="worker", blank={}, suspects=suspects, judge=judge, doubt=doubt, wishes=wishes
)
