"""A gthread worker that spins for ever and serves nobody, behind a heartbeat that stays fresh (gunicorn #3146).

In: closeups of a suspect, look after look. Out: a fault once the whole window looked frozen. Rule: over
`frozen_window_s`, in every step of it: the main thread wants more than `frozen_cpu` cores, the other threads want none,
the accepted connections are the very same ones and at least one, and the heartbeat is fresh. CPU alone misfires.

Wanted, not used: on a busy machine, or under a cgroup's limit of .15 cores, a spinning thread gets .15 and waits .85
(measured). What counts is that it never sleeps; the time it waited for a CPU is added to what it used.

Why: releases 21.2 to 23 stop polling once a worker holds worker_connections connections, and wait for running requests
instead. With none running that wait returns at once: a loop that reads nothing, accepts nothing and beats. Clients
that give up do not help: their sockets stay in CLOSE_WAIT, still held, still the same inodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_contract.servers.gunicorn import freezes_when_full
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict, cores
from wsgi_sidecar.core.snapshot import Closeup, Thread

SUSPECT_SHARE: Final = 0.5
"""A worker that froze half way between two looks shows half of its CPU: at .3 cores wanted, .15 over one look is enough
for a closeup. A wrong suspicion costs one closeup (some 0.1 ms), a missed one a whole look of healing time."""

IDLE_CORES: Final = 0.01
"""CPU of all other threads together that still counts as nothing: one clock tick of 10 ms within a second."""

MIN_STEP_S: Final = 0.09
"""CPU time comes in ticks of 10 ms: over .1 s ten ticks tell .3 cores from .2; over less they tell nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One suspect's run of closeups that all looked frozen.

    Attributes:
        first: where the window begins.
        judged: the last one that ended a step long enough to judge its CPU.
        seen: the last one.
    """

    first: Closeup
    judged: Closeup
    seen: Closeup


Tracks = Mapping[ProcessId, Track]


def suspects(sight: Sight, memory: Tracks) -> frozenset[ProcessId]:
    """Living gthread workers that hold connections and either are full or use the CPU of a frozen one."""
    if not _gthread(sight.terms):
        return frozenset()
    return frozenset(worker.process.id for worker in sight.family.workers if _suspicious(worker, sight))


def _gthread(terms: Terms) -> bool:
    return (terms.worker_class or "").rpartition(".")[2] in ("gthread", "ThreadWorker")


def _suspicious(worker: Worker, sight: Sight) -> bool:
    if not _beats(worker) or not worker.connections:
        return False
    full = sight.terms.connection_limit is not None and worker.connections >= sight.terms.connection_limit
    used = cores(worker.process.id, sight.family, sight.before)
    return full or (used is not None and used >= sight.policy.frozen_cpu * SUSPECT_SHARE)


def _beats(worker: Worker) -> bool:
    return worker.state == "alive" and worker.heartbeat_age_s is not None


def judge(sight: Sight, memory: Tracks) -> Verdict:
    """Carry each suspect's track on, or begin it anew; a track as long as the window is a fault."""
    wanted = suspects(sight, memory)
    tracks = {who: _followed(memory.get(who), now, sight) for who, now in sight.closeups.items() if who in wanted}
    workers = [(worker, tracks[worker.process.id]) for worker in sight.family.workers if worker.process.id in tracks]
    window_s = sight.policy.frozen_window_s
    faults = tuple(_fault(worker, track, sight) for worker, track in workers if _span_s(track) >= window_s)
    ends = [track.first.monotonic + window_s for _, track in workers if _span_s(track) < window_s]
    return Verdict(faults=faults, memory=tracks, again_at=min(ends, default=None))


def _followed(track: Track | None, now: Closeup, sight: Sight) -> Track:
    anew = Track(first=now, judged=now, seen=now)
    if track is None or not _full(now, sight.terms):
        return anew
    if now.monotonic - track.judged.monotonic < MIN_STEP_S:
        return anew if _moved(track.judged, now) else replace(track, seen=now)
    return anew if doubt(track.judged, now, sight.policy) else replace(track, judged=now, seen=now)


def _full(now: Closeup, terms: Terms) -> bool:
    return terms.connection_limit is None or len(now.connections or ()) >= terms.connection_limit


def _span_s(track: Track) -> float:
    return track.seen.monotonic - track.first.monotonic


def doubt(earlier: Closeup, later: Closeup, policy: Policy) -> str | None:
    """Why the worker does not look frozen between two closeups; None where it does."""
    elapsed = later.monotonic - earlier.monotonic
    if elapsed < MIN_STEP_S:
        return f"only {elapsed:.2f} s lie between two looks"
    if (moved := _moved(earlier, later)) is not None:
        return moved
    main, others = _main_wanted_s(earlier, later) / elapsed, _others_wanted_s(earlier, later) / elapsed
    if main <= policy.frozen_cpu:
        return f"its main thread wanted {main:.2f} cores, not more than {policy.frozen_cpu:g}"
    return f"its other threads wanted {others:.2f} cores" if others > IDLE_CORES else None


def _moved(earlier: Closeup, later: Closeup) -> str | None:
    if not earlier.connections or not later.connections:
        return "it holds no connection that could be seen"
    if earlier.connections != later.connections:
        return "its connections changed"
    if [t.tid for t in earlier.threads] != [t.tid for t in later.threads]:
        return "its threads changed"
    switches = _others_switches(earlier, later)
    if switches is None:
        return "the context switches of its threads could not be read"
    return f"its other threads switched {switches} times" if switches else None


def _main_cpu_s(earlier: Closeup, later: Closeup) -> float:
    return later.threads[0].cpu_s - earlier.threads[0].cpu_s


def _main_wanted_s(earlier: Closeup, later: Closeup) -> float:
    """Seconds in which the main thread ran or waited for a CPU.

    A wait is counted when it ends, which a cgroup's limit may put off beyond the later look: a thread that is runnable
    at both looks and never slept in between wanted all of the time.
    """
    then, now = earlier.threads[0], later.threads[0]
    if then.sleeps is not None and then.sleeps == now.sleeps and then.state == now.state == "R":
        return later.monotonic - earlier.monotonic
    return _wanted_s(now) - _wanted_s(then)


def _others_wanted_s(earlier: Closeup, later: Closeup) -> float:
    return sum(_wanted_s(t) for t in later.threads[1:]) - sum(_wanted_s(t) for t in earlier.threads[1:])


def _wanted_s(thread: Thread) -> float:
    return thread.cpu_s + (thread.waited_s or 0.0)


def _others_cpu_s(earlier: Closeup, later: Closeup) -> float:
    return sum(t.cpu_s for t in later.threads[1:]) - sum(t.cpu_s for t in earlier.threads[1:])


def _others_switches(earlier: Closeup, later: Closeup) -> int | None:
    counts = [t.switches for closeup in (earlier, later) for t in closeup.threads[1:]]
    if None in counts:
        return None
    then, now = (sum(t.switches or 0 for t in closeup.threads[1:]) for closeup in (earlier, later))
    return now - then


def _fault(worker: Worker, track: Track, sight: Sight) -> Fault:
    first, last, span = track.first, track.seen, _span_s(track)
    main, others, held = _main_cpu_s(first, last) / span, len(last.threads) - 1, len(last.connections or ())
    wanted = _main_wanted_s(first, last) / span
    limit = sight.terms.connection_limit
    return Fault(
        kind="frozen-worker",
        process=worker.process.id,
        slot=worker.slot,
        since=sight.family.at - (sight.family.monotonic - first.monotonic),
        summary=(
            f"worker in slot {worker.slot} (pid {worker.process.id.pid}) serves nobody and would not stop by itself: "
            f"for {span:.1f} s its main thread spun on {main:.2f} cores{_starved(main, wanted)}, "
            f"its other threads ({others}) did nothing and "
            f"its connections stayed the same ({held}{f' of at most {limit}' if limit else ''}), "
            f"while its heartbeat stayed fresh, so gunicorn's timeout never fires (gunicorn #3146)"
        ),
        evidence=(
            Evidence(name="window", value=round(span, 3), unit="s"),
            Evidence(name="main thread CPU", value=round(main, 3), unit="cores"),
            Evidence(name="main thread wanted CPU", value=round(wanted, 3), unit="cores"),
            Evidence(name="other threads", value=others, unit="threads"),
            Evidence(name="other threads CPU", value=round(_others_cpu_s(first, last) / span, 3), unit="cores"),
            Evidence(name="other threads context switches", value=_others_switches(first, last) or 0),
            Evidence(name="unchanged connections", value=held, unit="connections"),
            Evidence(name="connection limit", value="unknown" if limit is None else limit, unit="connections"),
            Evidence(name="heartbeat age", value=round(worker.heartbeat_age_s or 0.0, 3), unit="s"),
            Evidence(name="release", value=sight.terms.release or "unknown"),
        ),
        target="worker",
        spare=_why_spared(sight.terms),
    )


def _starved(used: float, wanted: float) -> str:
    """Said only where it explains why a spinning thread shows little CPU."""
    return f" (and would have used {wanted:.2f} if it had got them)" if wanted - used > 0.1 else ""


def _why_spared(terms: Terms) -> str | None:
    freezes = freezes_when_full(terms.release)
    if freezes is False:
        return (
            f"gunicorn {terms.release} is not known to freeze like this (21.2 to 23 are), so it is not killed; look at "
            "what the main thread does: py-spy dump --nonblocking --pid <pid>"
        )
    if freezes is None and terms.connection_limit is None:
        return "neither the release nor worker_connections could be read, so this stays a suspicion"
    return None


RULE: Final = Rule(kind="frozen-worker", target="worker", blank={}, suspects=suspects, judge=judge, doubt=doubt)
