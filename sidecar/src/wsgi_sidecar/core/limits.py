"""What a server's container may use, what it uses, and what it was refused, from the texts of its cgroup.

In: texts of cgroup files by name, as the door `cgroups` read them, of cgroup v1 or v2. Out: `Limits` and `Pressure`.
Rule: no limit is `UNLIMITED` (infinity), so that it compares as one expects; None is what nobody could read, and is
never a limit. A file that is missing or holds nonsense makes its own fields None and no others.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Version = Literal[1, 2]
Texts = Mapping[str, str]

UNLIMITED: Final = math.inf

# cgroup v1 has no word for "no limit": it shows the largest page count there is, about 2^63 bytes (less one page, of
# 4 or 64 KiB). No machine has an exbibyte.
_V1_NO_MEMORY_LIMIT: Final = 1 << 60
_LONGEST_NUMBER: Final = 20  # digits of 2^64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The tightest limits in force; each `UNLIMITED` where there is none, None where it could not be read.

    Attributes:
        cpu_cores: CPU quota as cores, for example 0.5 for 50 ms in every 100 ms.
        memory_bytes: beyond it the kernel reclaims, then kills.
        pids: processes and threads.
    """

    cpu_cores: float | None = None
    memory_bytes: float | None = None
    pids: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How hard the container leans on its limits; each None where it could not be read.

    Counters count since the container started: a restarted container begins at zero.

    Attributes:
        memory_used_bytes: all memory charged, page cache included.
        memory_working_set_bytes: without the page cache that the kernel can drop at once; what the kubelet evicts by.
        memory_peak_bytes: the most that was ever charged; on cgroup v2 from Linux 5.19 on.
        memory_limit_hits: times an allocation met the limit (and had to reclaim first).
        oom_kills: processes of this container that the kernel's OOM killer ended.
        cpu_used_s: CPU seconds of all its processes, those that are gone included.
        periods: scheduler periods (100 ms by default) in which it ran under a quota; 0 without a quota.
        throttled_periods: those of them in which the quota ran out.
        throttled_s: seconds that its CPUs' run queues were held back by the quota, summed over the CPUs.
        pids: processes and threads now.
        pids_limit_hits: forks refused.
        cpu_stalled_s: seconds in which some thread waited for a CPU; cgroup v2 with PSI only.
        memory_stalled_s: seconds in which all threads that had work waited for memory; cgroup v2 with PSI only.
    """

    memory_used_bytes: int | None = None
    memory_working_set_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_limit_hits: int | None = None
    oom_kills: int | None = None
    cpu_used_s: float | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    pids: int | None = None
    pids_limit_hits: int | None = None
    cpu_stalled_s: float | None = None
    memory_stalled_s: float | None = None


def limits_of(version: Version, levels: Sequence[Texts]) -> Limits:
    """The tightest limits over a cgroup and its ancestors, in any order.

    >>> limits_of(2, [{"cpu.max": "50000 100000", "memory.max": "max"}])
    Limits(cpu_cores=0.5, memory_bytes=inf, pids=None)
    """
    cpu = _quota_v1 if version == 1 else _quota_v2
    memory = "memory.limit_in_bytes" if version == 1 else "memory.max"
    return Limits(
        cpu_cores=_tightest(cpu(level) for level in levels),
        memory_bytes=_tightest(_maximum(level.get(memory)) for level in levels),
        pids=_tightest(_maximum(level.get("pids.max")) for level in levels),
    )


def pressure_of(version: Version, own: Texts) -> Pressure:
    """What the cgroup's own files tell; ancestors speak for other containers, too."""
    return _pressure_v1(own) if version == 1 else _pressure_v2(own)


def _pressure_v2(own: Texts) -> Pressure:
    cpu, events = counters(own.get("cpu.stat")), counters(own.get("memory.events"))
    used = _number(own.get("memory.current"))
    return Pressure(
        memory_used_bytes=used,
        memory_working_set_bytes=_difference(used, counters(own.get("memory.stat")).get("inactive_file")),
        memory_peak_bytes=_number(own.get("memory.peak")),
        memory_limit_hits=events.get("max"),
        oom_kills=events.get("oom_kill"),
        cpu_used_s=_scaled(cpu.get("usage_usec"), 1e-6),
        periods=cpu.get("nr_periods"),
        throttled_periods=cpu.get("nr_throttled"),
        throttled_s=_scaled(cpu.get("throttled_usec"), 1e-6),
        pids=_number(own.get("pids.current")),
        pids_limit_hits=counters(own.get("pids.events")).get("max"),
        cpu_stalled_s=_stalled(own.get("cpu.pressure"), "some"),
        memory_stalled_s=_stalled(own.get("memory.pressure"), "full"),
    )


def _pressure_v1(own: Texts) -> Pressure:
    cpu, used = counters(own.get("cpu.stat")), _number(own.get("memory.usage_in_bytes"))
    return Pressure(
        memory_used_bytes=used,
        memory_working_set_bytes=_difference(used, counters(own.get("memory.stat")).get("total_inactive_file")),
        memory_peak_bytes=_number(own.get("memory.max_usage_in_bytes")),
        memory_limit_hits=_number(own.get("memory.failcnt")),
        oom_kills=counters(own.get("memory.oom_control")).get("oom_kill"),
        cpu_used_s=_scaled(_number(own.get("cpuacct.usage")), 1e-9),
        periods=cpu.get("nr_periods"),
        throttled_periods=cpu.get("nr_throttled"),
        throttled_s=_scaled(cpu.get("throttled_time"), 1e-9),
        pids=_number(own.get("pids.current")),
        pids_limit_hits=counters(own.get("pids.events")).get("max"),
    )


def counters(text: str | None) -> dict[str, int]:
    """A "flat keyed" cgroup file: lines of a name and a whole number; lines that are neither are left out."""
    pairs = (line.split() for line in (text or "").splitlines())
    return {pair[0]: value for pair in pairs if len(pair) == 2 and (value := _number(pair[1])) is not None}


def _quota_v2(level: Texts) -> float | None:
    quota, _, period = level.get("cpu.max", "").strip().partition(" ")
    return UNLIMITED if quota == "max" else _ratio(_number(quota), _number(period))


def _quota_v1(level: Texts) -> float | None:
    quota = level.get("cpu.cfs_quota_us", "").strip()
    return UNLIMITED if quota in ("-1", "max") else _ratio(_number(quota), _number(level.get("cpu.cfs_period_us")))


def _maximum(text: str | None) -> float | None:
    if text is not None and text.strip() == "max":
        return UNLIMITED
    value = _number(text)
    return UNLIMITED if value is not None and value >= _V1_NO_MEMORY_LIMIT else value


def _tightest(limits: Iterable[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _stalled(text: str | None, kind: str) -> float | None:
    """Seconds from PSI: `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345` counts microseconds."""
    for line in (text or "").splitlines():
        words = line.split()
        if words[:1] == [kind] and words[-1].startswith("total="):
            return _scaled(_number(words[-1].removeprefix("total=")), 1e-6)
    return None


def _number(text: str | None) -> int | None:
    stripped = (text or "").strip()
    return int(stripped) if stripped.isdecimal() and len(stripped) <= _LONGEST_NUMBER else None


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _ratio(quota: int | None, period: int | None) -> float | None:
    return quota / period if quota is not None and period else None


def _difference(whole: int | None, part: int | None) -> int | None:
    # The two are read a moment apart, so the part may be the larger one.
    return max(0, whole - part) if whole is not None and part is not None else None
