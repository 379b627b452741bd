"""The shape that all rules share: what a rule sees, what it says, what it remembers.

In: a `Sight`, and the rule's own memory of earlier looks. Out: a `Verdict`. Rule: a rule is a value (`Rule`) made of
pure functions; it remembers only what it hands back, names its numbers, and when in doubt says nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, IncidentKind, KillTarget, ProcessId
from wsgi_contract.servers.gunicorn import connection_limit
from wsgi_contract.settings import Setting
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.departures import Departure
from wsgi_sidecar.core.exchanges import Exchange
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.snapshot import Closeup
from wsgi_sidecar.core.waits import Waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the server was told to be, as far as it could be read.

    Attributes:
        release: of the server; None where it could not be read.
        worker_class: as gunicorn names it; None likewise.
        connection_limit: connections one worker accepts at most; None where there is no limit, or unknown.
        timeout_s: seconds without a heartbeat after which the arbiter kills; 0 never; None where unknown.
        graceful_timeout_s: seconds that a worker which was asked to end may take for its requests; None where unknown.
        master_loads: the master may run code of the owner's before it forks: it preloads the application or has a
            configuration file, or nobody knows.
    """

    release: str | None
    worker_class: str | None
    connection_limit: int | None
    timeout_s: float | None
    graceful_timeout_s: float | None = None
    master_loads: bool = True


def terms(release: str | None, settings: tuple[Setting, ...]) -> Terms:
    """The few settings that rules ask for."""
    values = {setting.name: setting.value for setting in settings}
    worker_class, timeout = values.get("worker_class"), values.get("timeout_s")
    graceful = values.get("graceful_timeout_s")
    return Terms(
        release=release,
        worker_class=worker_class if isinstance(worker_class, str) else None,
        connection_limit=connection_limit(settings),
        timeout_s=timeout if isinstance(timeout, (int, float)) else None,
        graceful_timeout_s=graceful if isinstance(graceful, (int, float)) else None,
        master_loads=values.get("preload_app") is not False or any(one.source == "config-file" for one in settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All that a rule may look at.

    Attributes:
        family: now.
        before: the look before, of the same master; None at the first.
        closeups: of the processes some rule asked for, as far as they still live; empty while asking.
        around: what surrounds the server beyond its processes.
        terms: what the server was told to be.
        policy: in force.
        waits: what the threads of the processes wait on that some rule wished for; empty while wishing.
        exchanges: of accepted TCP connections whose client waits; None where no rule wished for them, or the kernel
            refused.
        frozen: the master's cgroup is; None where no rule wished to know, or it could not be read.
        departed: workers that ended since the look before.
        asked: processes that were asked to end and live, also where they are no workers any more.
    """

    family: Family
    before: Family | None
    terms: Terms
    policy: Policy
    closeups: Mapping[ProcessId, Closeup]
    around: Circumstances = field(default_factory=Circumstances)
    waits: Mapping[ProcessId, Waits] = field(default_factory=dict)
    exchanges: tuple[Exchange, ...] | None = None
    frozen: bool | None = None
    departed: tuple[Departure, ...] = ()
    asked: frozenset[ProcessId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a rule needs of one look that is too dear for every look.

    Attributes:
        waits: processes whose threads are to be looked at: some .2 ms a thread.
        exchanges: whether the clocks of all accepted connections are: some 2 ms for 1,000.
        freezer: whether the master's cgroup is to be asked if it is frozen: some .5 ms.
    """

    waits: frozenset[ProcessId] = frozenset()
    exchanges: bool = False
    freezer: bool = False


def _no_wishes(sight: Sight, memory: Any) -> Wishes:
    return Wishes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong that is true now.

    Attributes:
        kind: which.
        process: the process it concerns: the root of the tree that a cure would end.
        slot: the worker's, if it is one.
        since: wall clock from which on it was seen.
        summary: one sentence with the numbers in it.
        evidence: the numbers.
        target: what a cure would end; None where killing is no cure.
        spare: why it is told but must not be cured by a kill; None where it may. Without a target: what to do.
        serving: the process may still serve requests, so that the last one of its kind must stay.
        others: processes with the same fault that one kill ends together with the first.
        outcome: how it ends when it is found no more and nothing was killed; None where that must be looked up.
        gentle_s: seconds that the process gets to end by itself, once asked, before its tree is killed; None where
            asking is of no use.
        gently: the signal by which it is asked: a worker finishes its requests on it.
        connection: inode of the accepted connection that it is about; None where it is about none.
        heartbeat: inode of the heartbeat file that it is about; None likewise.
    """

    kind: IncidentKind
    process: ProcessId
    slot: int | None
    since: float
    summary: str
    evidence: tuple[Evidence, ...]
    target: KillTarget | None
    spare: str | None = None
    serving: bool = False
    others: tuple[ProcessId, ...] = ()
    outcome: str | None = None
    gentle_s: float | None = None
    gently: Literal["SIGTERM", "SIGHUP"] = "SIGTERM"
    connection: int | None = None
    heartbeat: int | None = None


def about(fault: Fault, closeup: Closeup) -> Closeup:
    """The closeup without those connections and heartbeats that the fault is not about."""
    connections, heartbeats = closeup.connections, closeup.heartbeats
    if fault.connection is not None and connections is not None:
        connections &= {fault.connection}
    if fault.heartbeat is not None and heartbeats is not None:
        heartbeats = tuple(file for file in heartbeats if file.inode == fault.heartbeat)
    return replace(closeup, connections=connections, heartbeats=heartbeats)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a rule says about one sight.

    Attributes:
        faults: what is wrong now.
        memory: handed back to the rule at the next look.
        again_at: monotonic time at which a look would settle a suspicion; None where the usual pace will do.
    """

    faults: tuple[Fault, ...]
    memory: Any
    again_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of incident: how it is suspected, judged and, right before a kill, looked at again.

    Attributes:
        kind: which.
        target: what its cure would end; None where no kill cures it.
        blank: the memory before the first look.
        suspects: from the cheap look alone: processes whose closeup the judgement needs now.
        judge: the verdict.
        doubt: from the closeup of the decision and one taken right before the first signal, both narrowed to what the
            fault is about: why the kill must not happen; None where the fault still stands.
        wishes: what else the judgement needs of this look.
    """

    kind: IncidentKind
    target: KillTarget | None
    blank: Any
    suspects: Callable[[Sight, Any], frozenset[ProcessId]]
    judge: Callable[[Sight, Any], Verdict]
    doubt: Callable[[Closeup, Closeup, Terms, Policy], str | None]
    wishes: Callable[[Sight, Any], Wishes] = _no_wishes


def cores(worker: ProcessId, now: Family, before: Family | None) -> float | None:
    """Cores that a worker used since the look before, all threads together; None at its first sight."""
    seen, then = now.worker(worker), before.worker(worker) if before else None
    if seen is None or then is None or before is None or now.monotonic <= before.monotonic:
        return None
    return max(0.0, seen.process.cpu_s - then.process.cpu_s) / (now.monotonic - before.monotonic)
