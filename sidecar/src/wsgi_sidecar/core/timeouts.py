"""Worker timeouts that come in a storm, and what they have in common.

In: workers that the arbiter killed for a late heartbeat, each with what its main thread did while it was late. Out:
`Storm`, one sentence about it and what to do. Rule: one timeout is an accident and only counted; a storm is a statement
about what the requests wait on, since raising `timeout` cures none that wait for ever.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from wsgi_contract.report import Evidence
from wsgi_sidecar.core.waits import Wait
from wsgi_sidecar.core.wchans import Kind

STORM_AT_LEAST: Final = 3
"""Timeouts within the window. One slow request, retried once by its client, makes two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """One worker that was killed for its late heartbeat.

    Attributes:
        at: wall clock of the look that missed it.
        slot: the worker's.
        silent_s: age of its heartbeat when it was last seen. With sync workers: how long its request had run.
        wait: what its main thread did while the heartbeat was late; None where nobody could look.
    """

    at: float
    slot: int
    silent_s: float
    wait: Wait | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Several timeouts that belong together.

    Attributes:
        since: the first one's time.
        count: how many.
        slots: how many different workers' slots.
        over_s: from the first to the last.
        silent_s: shortest and longest silence.
        timeout_s: in force.
        doings: (what the main thread did, how often), the most frequent first; `unknown` where nobody could look.
        kind: of the most frequent one; None where nobody could look.
        example: the wait that is the most frequent one; None likewise.
    """

    since: float
    count: int
    slots: int
    over_s: float
    silent_s: tuple[float, float]
    timeout_s: float
    doings: tuple[tuple[str, int], ...]
    kind: Kind | None
    example: Wait | None


def window_s(timeout_s: float) -> float:
    """How far back timeouts still belong together: four times the timeout, at least a minute.

    A single worker whose every request hangs times out once per timeout, so that a fixed window would miss it. 3 s:
    60 s; 30 s: 120 s; 120 s: 480 s.
    """
    return max(60.0, 4.0 * timeout_s)


def recent(timeouts: Iterable[TimedOut], *, now: float, timeout_s: float) -> tuple[TimedOut, ...]:
    """Those that still count, oldest first: what to remember for the next look."""
    kept = (each for each in timeouts if now - window_s(timeout_s) <= each.at <= now)
    return tuple(sorted(kept, key=lambda each: each.at))


def find_storm(timeouts: Iterable[TimedOut], *, now: float, timeout_s: float) -> Storm | None:
    """The storm that is under way; None if there are too few timeouts, or a timeout that is switched off."""
    found = recent(timeouts, now=now, timeout_s=timeout_s)
    if len(found) < STORM_AT_LEAST or timeout_s <= 0:
        return None
    doings = Counter(each.wait.doing if each.wait else "unknown" for each in found).most_common()
    # The frequent cause by what it waits on: clients differ by their ports, and are one cause.
    causes = Counter((each.wait.kind, each.wait.service) for each in found if each.wait is not None)
    cause = causes.most_common(1)[0][0] if causes else None
    example = next((each.wait for each in found if each.wait and (each.wait.kind, each.wait.service) == cause), None)
    return Storm(
        since=found[0].at,
        count=len(found),
        slots=len({each.slot for each in found}),
        over_s=found[-1].at - found[0].at,
        silent_s=(min(each.silent_s for each in found), max(each.silent_s for each in found)),
        timeout_s=timeout_s,
        doings=tuple(doings),
        kind=example.kind if example else None,
        example=example,
    )


def tell(storm: Storm) -> str:
    """One sentence with the numbers in it."""
    shortest, longest = storm.silent_s
    span = f"{longest:.1f}" if longest - shortest < 0.1 else f"{shortest:.1f} to {longest:.1f}"
    doings = ", ".join(f"{count} {doing}" for doing, count in _told(storm.doings))
    return (
        f"{storm.count} worker timeouts within {storm.over_s:.0f} s in {storm.slots} "
        f"slot{'s' if storm.slots > 1 else ''}: the workers were last seen silent for {span} s "
        f"(timeout is {storm.timeout_s:g} s); what their main threads did: {doings}"
    )


def evidence(storm: Storm) -> tuple[Evidence, ...]:
    """The numbers of the sentence, one by one."""
    return (
        Evidence(name="timeouts", value=storm.count, unit="timeouts"),
        Evidence(name="over", value=round(storm.over_s, 3), unit="s"),
        Evidence(name="slots", value=storm.slots, unit="slots"),
        Evidence(name="shortest silence", value=round(storm.silent_s[0], 3), unit="s"),
        Evidence(name="longest silence", value=round(storm.silent_s[1], 3), unit="s"),
        Evidence(name="timeout", value=storm.timeout_s, unit="s"),
        *(Evidence(name=f"main thread {doing}", value=count, unit="timeouts") for doing, count in _told(storm.doings)),
    )


_ADVICE: Final[Mapping[Kind, str]] = {
    "client": "clients send or read too slowly for workers that serve one at a time: put a buffering proxy in front, "
    "or use worker_class = 'gthread'",
    "cpu": "requests compute longer than the timeout: move the work out of the request, or raise timeout above the "
    "longest; look at the container's CPU throttling first, which makes everything longer",
    "lock": "requests wait for a lock inside the application or a library (threads, fork after threads): take a Python "
    "stack (py-spy dump --nonblocking)",
    "child": "requests wait for a process that they started: give subprocess.run a timeout below the server's",
    "pipe": "requests wait for the other end of a pipe: a silent child process, or a log that nobody reads",
    "disk": "requests (or heartbeats) wait for a file system: look at the volume, at NFS, and at worker_tmp_dir",
    "sleep": "requests sleep: look for time.sleep and retry loops with back-off",
    "listener": "the workers looked idle and still beat too late: the machine starved them of CPU, or its disk stalled "
    "the heartbeat file",
    "events": "the event loop waited and still beat too late: the machine starved it of CPU, or its disk stalled the "
    "heartbeat file",
    "stopped": "the workers were stopped by a signal or frozen by their cgroup: look for a debugger or a pause",
}


def advise(storm: Storm) -> str:
    """What to do about the most frequent cause."""
    if storm.kind == "network":
        peer = storm.example.peer if storm.example else None
        service = storm.example.service if storm.example else None
        whom = f"{service} at {peer}" if service and peer else peer or "the other end"
        return (
            f"requests wait for {whom}: look there for locks, slow queries and full pools, and give its client a "
            f"timeout below {storm.timeout_s:g} s, so that the request fails with a traceback and the worker lives on"
        )
    return _ADVICE.get(storm.kind or "unknown", "take a Python stack of a late worker (py-spy dump --nonblocking)")


def _told(doings: tuple[tuple[str, int], ...], at_most: int = 4) -> tuple[tuple[str, int], ...]:
    rest = sum(count for _, count in doings[at_most:])
    return doings[:at_most] + ((("something else", rest),) if rest else ())
