"""A worker that grows towards the container's memory limit, recycled before the kernel takes one (off by default).

In: the container's working set and limit, the memory (PSS) of each worker. Out: a fault for the worker that grew most,
once the working set passed `memory_recycle_share` of the limit. Rule: one at a time; the next only when the last one is
gone and what it gave back was counted. PSS, not RSS: pages shared since the fork belong to nobody's growth. Growth
counts from a worker's first weighing: where none has grown, recycling gives nothing back, and that is told instead.

The worker is asked first, and gets the server's graceful timeout; only then its tree is killed. gunicorn's finishes its
requests on SIGTERM; uWSGI's breaks them off on that, and finishes them on SIGHUP (2.0.31: an empty reply, and a 200).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict
from wsgi_sidecar.core.snapshot import Closeup

LEAST_GROWTH_BYTES: Final = 16 * 2**20
"""Less than this is no leak, and not worth a worker's start."""
REST_S: Final = 25.0
"""Until the next one: the new worker loads the application, and memory is weighed anew every 10 s."""
GRACE_S: Final = 2.0
"""Beyond gunicorn's own graceful timeout, so that it is gunicorn who ends a slow request."""
USUAL_GRACEFUL_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """What was weighed so far.

    Attributes:
        first: memory of each living worker when it was first weighed.
        chosen: the one that is being recycled; None while none is.
        told: what was said of it last: it may leave the family, its heartbeat let go of, and live on.
        rest_until: monotonic time before which no other is chosen.
        full_since: monotonic time since which the share is passed and nobody is chosen; None where it is not.
    """

    first: Mapping[ProcessId, int] = field(default_factory=dict)
    chosen: ProcessId | None = None
    told: Fault | None = None
    rest_until: float = float("-inf")
    full_since: float | None = None


def suspects(sight: Sight, memory: Scales) -> frozenset[ProcessId]:
    """The one that is being recycled: whoever strikes it looks again."""
    return frozenset({memory.chosen}) if memory.chosen is not None else frozenset()


def judge(sight: Sight, memory: Scales) -> Verdict:
    """Weigh, and choose at most one."""
    weighed = sight.around.pss_bytes
    living = {worker.process.id for worker in sight.family.workers}
    first = {who: memory.first.get(who, size) for who, size in weighed.items() if who in living}
    scales = replace(memory, first=first)
    if memory.chosen is not None and memory.chosen not in living:
        if memory.told is not None and memory.chosen in sight.asked:
            return Verdict(faults=(memory.told,), memory=scales)
        scales = replace(scales, chosen=None, told=None, rest_until=sight.family.monotonic + REST_S)
    if scales.chosen is None:
        scales = _choose(scales, sight)
    worker = sight.family.worker(scales.chosen) if scales.chosen is not None else None
    if worker is not None:
        fault = _fault(worker, first.get(worker.process.id, 0), sight)
        return Verdict(faults=(fault,), memory=replace(scales, told=fault))
    # The workers may have grown since they were last weighed: that nobody has is said only after a while.
    full_s = 0.0 if scales.full_since is None else sight.family.monotonic - scales.full_since
    return Verdict(faults=(_nobody(sight),) if full_s >= REST_S else (), memory=scales)


def _choose(scales: Scales, sight: Sight) -> Scales:
    share, wanted = filled(sight), sight.policy.memory_recycle_share
    if not wanted or share is None or share < wanted:
        return replace(scales, full_since=None)
    now = sight.family.monotonic
    since = now if scales.full_since is None else scales.full_since
    chosen = None if now < scales.rest_until else _grew_most(sight, scales.first)
    return replace(scales, chosen=chosen, full_since=None if chosen else since)


def filled(sight: Sight) -> float | None:
    """The working set's share of the limit; None where either is unknown, or there is no limit."""
    limit, used = sight.around.limits.memory_bytes, sight.around.pressure.memory_working_set_bytes
    return used / limit if used is not None and limit and isfinite(limit) else None


def _grew_most(sight: Sight, first: Mapping[ProcessId, int]) -> ProcessId | None:
    weighed = sight.around.pss_bytes
    grown = {
        worker.process.id: weighed[worker.process.id] - first[worker.process.id]
        for worker in sight.family.workers
        if worker.state == "alive" and worker.process.id in first
    }
    most = max(grown, key=lambda who: grown[who], default=None)
    return most if most is not None and grown[most] >= LEAST_GROWTH_BYTES else None


def _fault(worker: Worker, first: int, sight: Sight) -> Fault:
    size = sight.around.pss_bytes.get(worker.process.id, worker.process.rss_bytes)
    graceful_s = sight.terms.graceful_timeout_s
    return Fault(
        kind="memory-limit",
        process=worker.process.id,
        slot=worker.slot,
        since=sight.family.at,
        summary=(
            f"the container uses {_share(sight)}; the worker in slot {worker.slot} (pid {worker.process.id.pid}) grew "
            f"most, from {_mib(first)} to {_mib(size)}, and is recycled before the kernel kills one"
        ),
        evidence=(*_evidence(sight), Evidence(name="memory of the worker (PSS)", value=size, unit="bytes")),
        target="worker",
        serving=True,
        spare=_why_spared(sight),
        gently="SIGHUP" if sight.family.kind == "uwsgi" else "SIGTERM",
        gentle_s=(USUAL_GRACEFUL_TIMEOUT_S if graceful_s is None else graceful_s) + GRACE_S,
    )


def _why_spared(sight: Sight) -> str | None:
    if sight.family.kind == "uwsgi" and not sight.family.has_arbiter:
        return "without a master process nobody starts another worker in its place"
    return None


def _nobody(sight: Sight) -> Fault:
    return Fault(
        kind="memory-limit",
        process=sight.family.master.id,
        slot=None,
        since=sight.family.at,
        summary=f"the container uses {_share(sight)}, and no worker has grown since it was first weighed",
        evidence=_evidence(sight),
        target=None,
        spare="recycling would give nothing back: fewer workers or a higher limit; tmpfs and page cache count, too",
        outcome="there is room again",
    )


def _share(sight: Sight) -> str:
    limit, used = sight.around.limits.memory_bytes, sight.around.pressure.memory_working_set_bytes
    known = limit is not None and used is not None
    return f"{_mib(used or 0)} of its {_mib(limit or 0)} of memory" if known else "an unknown share of its memory"


def _mib(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def _evidence(sight: Sight) -> tuple[Evidence, ...]:
    limit, used = sight.around.limits.memory_bytes, sight.around.pressure.memory_working_set_bytes
    told = (("memory limit", limit), ("working set", used))
    return tuple(Evidence(name=name, value=value, unit="bytes") for name, value in told if value is not None)


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """None: it was asked, and it still lives."""
    return None


RULE: Final = Rule(kind="memory-limit", target="worker", blank=Scales(), suspects=suspects, judge=judge, doubt=doubt)
