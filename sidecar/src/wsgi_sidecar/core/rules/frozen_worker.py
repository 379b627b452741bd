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
from wsgi_sidecar.core.activity import main_cpu_s, main_wanted_s, others_cpu_s, others_switches, others_wanted_s
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict, cores
from wsgi_sidecar.core.snapshot import Closeup

SUSPECT_SHARE: Final = 0.5
"""A worker that froze half way between two looks shows half of its CPU: at .3 cores wanted, .15 over one look is enough
for a closeup. A wrong suspicion costs one closeup (some 0.1 ms), a missed one a whole look of healing time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """What all other threads together may do over a step and still count as serving nobody.

    Attributes:
        cores: CPU; never less than `cpu_s` in all, for CPU time comes in ticks.
        cpu_s: see there.
        waits_count: whether waiting for a CPU counts like using one.
        switches_per_s: context switches; never less than `switches` in all, for they come in bursts.
        switches: see there.
        births: whether threads may come and go.
    """

    cores: float
    cpu_s: float
    waits_count: bool
    switches_per_s: float
    switches: float
    births: bool


SILENCE: Final = Quiet(cores=0.01, cpu_s=0.0, waits_count=True, switches_per_s=0.0, switches=0.0, births=False)
"""Nothing at all, but for one clock tick of 10 ms within a second."""
BACKGROUND: Final = Quiet(cores=0.1, cpu_s=0.02, waits_count=False, switches_per_s=200.0, switches=50.0, births=True)
"""An app's own threads at rest. A worker of 23.0.0 that serves 4,660 requests a second over keep-alive connections uses
.21 cores in its main thread and .86 in the pool, which switches 33,000 times: far from these. Besides, the main thread
of such a release sleeps while any request runs in a full worker: that it wants a CPU all the time says that none does.
"""

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
    wanted = suspects(sight, memory) if sight.closeups else frozenset[ProcessId]()
    tracks = {who: _followed(memory.get(who), now, sight) for who, now in sight.closeups.items() if who in wanted}
    workers = [(worker, tracks[worker.process.id]) for worker in sight.family.workers if worker.process.id in tracks]
    window_s = sight.policy.frozen_window_s
    faults = tuple(_fault(worker, track, sight) for worker, track in workers if _span_s(track) >= window_s)
    ends = [track.first.monotonic + window_s for _, track in workers if _span_s(track) < window_s]
    return Verdict(faults=faults, memory=tracks, again_at=min(ends, default=None))


def _followed(track: Track | None, now: Closeup, sight: Sight) -> Track:
    anew = Track(first=now, judged=now, seen=now)
    if track is None:
        return anew
    if now.monotonic - track.judged.monotonic < MIN_STEP_S:
        return anew if _moved(track.judged, now, sight.terms) else replace(track, seen=now)
    return anew if doubt(track.judged, now, sight.terms, sight.policy) else replace(track, judged=now, seen=now)


def _span_s(track: Track) -> float:
    return track.seen.monotonic - track.first.monotonic


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Why the worker does not look frozen between two closeups; None where it does."""
    elapsed = later.monotonic - earlier.monotonic
    if elapsed < MIN_STEP_S:
        return f"only {elapsed:.2f} s lie between two looks"
    if (moved := _moved(earlier, later, terms)) is not None:
        return moved
    main = main_wanted_s(earlier, later) / elapsed
    if main <= policy.frozen_cpu:
        return f"its main thread wanted {main:.2f} cores, not more than {policy.frozen_cpu:g}"
    quiet = _quiet(terms)
    others = others_wanted_s(earlier, later) if quiet.waits_count else others_cpu_s(earlier, later)
    busy = others > max(quiet.cpu_s, quiet.cores * elapsed)
    return f"its other threads wanted {others / elapsed:.2f} cores" if busy else None


def _quiet(terms: Terms) -> Quiet:
    sure = terms.connection_limit is not None and freezes_when_full(terms.release)
    return BACKGROUND if sure else SILENCE


def _moved(earlier: Closeup, later: Closeup, terms: Terms) -> str | None:
    """What of that which has no clock ticks has moved; None where nothing has."""
    limit, quiet, held = terms.connection_limit, _quiet(terms), later.connections
    if not earlier.connections or not held:
        return "it holds no connection that could be seen"
    if earlier.connections != held:
        return "its connections changed"
    if limit is not None and len(held) < limit:
        return f"it holds {len(held)} connections and may accept {limit}"
    if not quiet.births and [t.tid for t in earlier.threads] != [t.tid for t in later.threads]:
        return "its threads changed"
    switches = others_switches(earlier, later)
    if switches is None:
        return "the context switches of its threads could not be read"
    busy = switches > max(quiet.switches, quiet.switches_per_s * (later.monotonic - earlier.monotonic))
    return f"its other threads switched {switches} times" if busy else None


def _fault(worker: Worker, track: Track, sight: Sight) -> Fault:
    first, last, span = track.first, track.seen, _span_s(track)
    main, others, held = main_cpu_s(first, last) / span, len(last.threads) - 1, len(last.connections or ())
    wanted = main_wanted_s(first, last) / span
    limit, switches = sight.terms.connection_limit, others_switches(first, last) or 0
    return Fault(
        kind="frozen-worker",
        process=worker.process.id,
        slot=worker.slot,
        since=sight.family.at - (sight.family.monotonic - first.monotonic),
        summary=(
            f"worker in slot {worker.slot} (pid {worker.process.id.pid}) serves nobody and would not stop by itself: "
            f"for {span:.1f} s its main thread spun on {main:.2f} cores{_starved(main, wanted)}, "
            f"its other threads ({others}) did {'nothing' if not switches else f'little ({switches} switches)'} and "
            f"its connections stayed the same ({held}{f' of at most {limit}' if limit else ''}), "
            f"while its heartbeat stayed fresh, so gunicorn's timeout never fires (gunicorn #3146)"
        ),
        evidence=(
            Evidence(name="window", value=round(span, 3), unit="s"),
            Evidence(name="main thread CPU", value=round(main, 3), unit="cores"),
            Evidence(name="main thread wanted CPU", value=round(wanted, 3), unit="cores"),
            Evidence(name="other threads", value=others, unit="threads"),
            Evidence(name="other threads CPU", value=round(others_cpu_s(first, last) / span, 3), unit="cores"),
            Evidence(name="other threads context switches", value=switches),
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
