"""Processes that the kernel killed because the container's memory limit was reached.

In: the container's count of OOM kills, and the workers that departed for it. Out: a fault for each victim, told for
`TOLD_S`. Rule: the kernel's count is believed and nothing else. A worker that went with it is the victim; a kill that
took no worker took something else in the container (a worker's child, an orphan), and is told of the server, but only
where the container has a limit: on a bare machine the count speaks for strangers, too.

Nothing is killed: the kernel has done that. Where it ends the whole container (cgroup v2, Kubernetes 1.28 and later)
the count dies with it, and Kubernetes says OOMKilled.
"""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict
from wsgi_sidecar.core.snapshot import Closeup

TOLD_S: Final = 60.0
"""A kill is over in a moment; it stays open for a minute, so that whoever looks every 30 s sees it."""
MOST_TOLD: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """What was counted so far.

    Attributes:
        server: the master that it was counted for.
        kills: the kernel's count at the last look; None where it was unknown.
        unexplained: kills of the last look that took no worker yet: one that dies slowly is gone a look later.
        told: faults with the monotonic time of their kill.
    """

    server: ProcessId
    kills: int | None
    unexplained: int = 0
    told: tuple[tuple[float, Fault], ...] = ()


def suspects(sight: Sight, memory: Toll | None) -> frozenset[ProcessId]:
    """None: the kernel's word is enough."""
    return frozenset()


def judge(sight: Sight, memory: Toll | None) -> Verdict:
    """Count on; tell each kill for a while."""
    toll, now = _counted(sight, memory), sight.family.monotonic
    told = tuple((at, fault) for at, fault in toll.told if now - at < TOLD_S)[-MOST_TOLD:]
    faults = {fault.process: fault for _, fault in told}
    return Verdict(faults=tuple(faults.values()), memory=replace(toll, told=told))


def _counted(sight: Sight, memory: Toll | None) -> Toll:
    kills, master = sight.around.pressure.oom_kills, sight.family.master.id
    if memory is None or memory.server != master or kills is None or memory.kills is None:
        told = memory.told if memory is not None and memory.server == master else ()
        return Toll(server=master, kills=kills, told=told)
    fresh = max(0, kills - memory.kills)
    taken = [_victim(each.process, sight) for each in sight.departed if each.reason == "oom"]
    left = max(0, memory.unexplained - len(taken))
    others = (_stranger(left, sight),) if left and isfinite(sight.around.limits.memory_bytes or float("inf")) else ()
    explained_now = max(0, len(taken) - memory.unexplained)
    now = sight.family.monotonic
    return Toll(
        server=master,
        kills=kills,
        unexplained=max(0, fresh - explained_now),
        told=(*memory.told, *((now, fault) for fault in (*taken, *others))),
    )


def _victim(process: ProcessId, sight: Sight) -> Fault:
    worker = sight.before.worker(process) if sight.before is not None else None
    size = f", {worker.process.rss_bytes / 2**20:.0f} MiB at the last look" if worker else ""
    return Fault(
        kind="oom-kill",
        process=process,
        slot=worker.slot if worker else None,
        since=sight.family.at,
        summary=(
            f"the kernel killed the worker in slot {worker.slot if worker else '?'} (pid {process.pid}{size}) because "
            f"the container reached its memory limit of {_limit(sight)}; gunicorn starts another one, which will grow "
            f"like it"
        ),
        evidence=_evidence(sight, worker),
        target=None,
        spare="the kernel has killed it; fewer workers, a higher limit, or memory_recycle_share in the policy",
        outcome="the kernel had ended it",
    )


def _stranger(kills: int, sight: Sight) -> Fault:
    one = kills == 1
    return Fault(
        kind="oom-kill",
        process=sight.family.master.id,
        slot=None,
        since=sight.family.at,
        summary=(
            f"the kernel killed {kills} process{'' if one else 'es'} of the server's container, no worker among them, "
            f"because the container reached its memory limit of {_limit(sight)}: a worker's child, or what one left "
            f"behind"
        ),
        evidence=_evidence(sight, None),
        target=None,
        spare="the kernel has killed it; look at what the workers start",
        outcome="the kernel had ended it",
    )


def _limit(sight: Sight) -> str:
    limit = sight.around.limits.memory_bytes
    return f"{limit / 2**20:.0f} MiB" if limit is not None and isfinite(limit) else "unknown size"


def _evidence(sight: Sight, worker: Worker | None) -> tuple[Evidence, ...]:
    pressure, limit = sight.around.pressure, sight.around.limits.memory_bytes
    size = worker.process.rss_bytes if worker else None
    told = (
        ("OOM kills of this container", pressure.oom_kills, "kills"),
        ("memory limit", limit if limit is not None and isfinite(limit) else None, "bytes"),
        ("working set now", pressure.memory_working_set_bytes, "bytes"),
        ("resident memory", size, "bytes"),
    )
    return tuple(Evidence(name=name, value=value, unit=unit) for name, value, unit in told if value is not None)


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Never asked: nothing is killed."""
    return "the kernel has done it already"


RULE: Final = Rule(kind="oom-kill", target=None, blank=None, suspects=suspects, judge=judge, doubt=doubt)
