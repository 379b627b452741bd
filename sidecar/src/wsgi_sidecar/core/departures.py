"""Which workers ended between two looks, and why, told from outside.

In: two looks at the same master, the settings in force, how the kernel says each ended, and what this sidecar or the
kernel's OOM killer ended. Out: `Departure`s. Rule: the first cause in `CAUSES` whose marks are there is the cause;
where no mark is left the cause is `unknown`, never a guess.

The marks, beside the ages that the looks saw: a pidfd tells when its process ended, and on Linux 6.15 and later its
wait status, too (see `ends`). When tells a reload, which forks a whole generation before it ends the old one, from what
replaces a worker after its end; the status tells an exit from a signal. Without it a worker that simply vanished is
`unknown`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from wsgi_contract.report import ProcessId, RestartReason
from wsgi_sidecar.core.family import Family, Worker

BEAT_SHARE: Final = 0.6
"""A sync worker at rest beats every timeout/2. A last seen age above .6 of the timeout is therefore no rest: with a
timeout of 2 s and looks every second this keeps an idle worker that somebody killed (age <= 1 s) from being called a
timeout, and still calls one that stopped beating (age >= 2 - 1 s at the last look, and soon 1.2 s)."""
GENERATION_S: Final = 0.5
GENERATION_PER_WORKER_S: Final = 0.1
"""A reload forks its workers one right after the other: 4 within .9 s, 16 within 2.1 s, on a busy machine. Workers that
max_requests replaces are further apart, or there are fewer of them beside their predecessor."""
NOTED_LATE_TICKS: Final = 15
"""Where max_requests replaces workers, too, a successor is born some .05 s after the end, and on a busy machine the end
is noted later than that: a birth less than .15 s before the noted end may have come after it. A tick is .01 s."""
SIGNAL_BITS: Final = 0x7F
"""Of a wait status: the signal that ended the process; the exit code stands above the lowest byte."""
SIGTERM: Final = 15
BOOT_ERRORS: Final = (3, 4)
"""gunicorn's own exit codes: the worker could not boot; the application could not be loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a process ended.

    Attributes:
        status: its wait status; None where the kernel does not tell.
        ticks: when, in clock ticks since boot like `ProcessId.started`; never too early, and late by some milliseconds.
        final: whether no more will be known; False: its parent has not reaped it, so the kernel has no status yet.
    """

    status: int | None
    ticks: int
    final: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """One worker that is no more, and the cause.

    Attributes:
        slot: the worker's.
        process: it.
        reason: the cause.
        silent_s: age of its heartbeat when it was last seen; None where that was not known.
    """

    slot: int
    process: ProcessId
    reason: RestartReason
    silent_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What is known beyond the two looks.

    Attributes:
        timeout_s: in force; 0 switched off; None unknown.
        workers: how many the server is set to run; None unknown.
        max_requests: in force; 0 switched off; None unknown.
        struck: workers that this sidecar killed.
        oom: workers that the kernel's OOM killer ended.
        timed_out: workers that the server itself says it ended for a request that took too long (uWSGI's harakiri).
        ends: how workers ended, as far as the kernel tells.
        reloaded_ticks: when this sidecar itself last had the server reload; None: it never did.
    """

    timeout_s: float | None = None
    workers: int | None = None
    max_requests: int | None = None
    struck: frozenset[ProcessId] = frozenset()
    oom: frozenset[ProcessId] = frozenset()
    timed_out: frozenset[ProcessId] = frozenset()
    ends: Mapping[ProcessId, End] = field(default_factory=dict)
    reloaded_ticks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """What is known about a worker that has gone.

    Attributes:
        worker: as the look before saw it.
        before: that look.
        now: the last look, at which it was gone.
        marks: see there.
        waited: looks for which its cause has been waited for.
    """

    worker: Worker
    before: Family
    now: Family
    marks: Marks
    waited: int = 0

    @property
    def end(self) -> End | None:
        """How it ended; None where the kernel does not tell."""
        return self.marks.ends.get(self.worker.process.id)

    @property
    def status(self) -> int | None:
        """Its wait status; None likewise."""
        return self.end.status if self.end else None

    @property
    def exit_code(self) -> int | None:
        """With which code it exited; None where a signal ended it, or the kernel does not tell."""
        return None if self.status is None or self.signal else self.status >> 8

    @property
    def signal(self) -> int | None:
        """Which signal ended it; None where it exited by itself, or the kernel does not tell."""
        return ((self.status or 0) & SIGNAL_BITS) or None

    @property
    def in_good_order(self) -> bool:
        """Whether it left by itself or when asked to; a TERM that comes late ends a worker that is nearly through."""
        return self.exit_code == 0 or self.signal == SIGTERM


def _by_us(last: Last) -> bool:
    return last.worker.process.id in last.marks.struck


def _out_of_memory(last: Last) -> bool:
    return last.worker.process.id in last.marks.oom


def _timed_out(last: Last) -> bool:
    if last.worker.process.id in last.marks.timed_out:
        return True
    age_s, timeout_s = last.worker.heartbeat_age_s, last.marks.timeout_s
    if age_s is None or not timeout_s or last.worker.state == "draining":
        return False
    unseen_s = last.now.monotonic - last.before.monotonic
    return age_s > timeout_s * BEAT_SHARE and age_s + unseen_s > timeout_s


def _boot_error(last: Last) -> bool:
    if last.exit_code is not None:
        return last.exit_code in BOOT_ERRORS
    return last.status is None and last.worker.state == "booting"


def _reloaded(last: Last) -> bool:
    """A whole new generation was born while it lived; what replaces an ended worker is born after its end."""
    if last.marks.reloaded_ticks is not None and last.worker.process.id.started < last.marks.reloaded_ticks:
        return last.signal in (None, SIGTERM)  # uWSGI's leave with an exit code of their own
    if last.status is not None and not last.in_good_order:
        return False
    return _beside(last, last.before) or (last.end is not None and _beside(last, last.now))


def _beside(last: Last, look: Family) -> bool:
    """Whether one look shows as many workers as there should be, born together, after it, and before its end."""
    wanted, born, end = last.marks.workers or 0, last.worker.process.started_at, last.end
    # A birth is known to a whole clock tick, rounded down.
    late_ticks = NOTED_LATE_TICKS if last.marks.max_requests else 0
    living = [worker.process for worker in look.workers if worker.state != "draining"]
    seen = [process for process in living if end is None or process.id.started < end.ticks - late_ticks]
    births = sorted((process.started_at for process in seen), reverse=True)
    span_s = GENERATION_S + GENERATION_PER_WORKER_S * wanted
    young = [birth for birth in births[:wanted] if birth - born > span_s]
    return 0 < wanted == len(young) and young[0] - young[-1] <= span_s


def _had_its_requests(last: Last) -> bool:
    """It left by itself, and the server lets its workers do that."""
    if not last.marks.max_requests:
        return False
    return last.exit_code == 0 or (last.status is None and last.worker.state == "draining")


def _signalled(last: Last) -> bool:
    """A signal ended it, or it ended in good order with nothing that asked for that but a signal (TERM, TTOU)."""
    if last.signal is not None:
        return True
    return last.marks.max_requests == 0 and last.exit_code == 0


CAUSES: Final[tuple[tuple[RestartReason, Callable[[Last], bool]], ...]] = (
    ("watchdog", _by_us),
    ("oom", _out_of_memory),
    ("timeout", _timed_out),
    ("boot-error", _boot_error),
    ("reload", _reloaded),
    ("max_requests", _had_its_requests),
    ("signal", _signalled),
)


MOST_WAITED: Final = 5
"""Looks. A worker that has let go of its heartbeat is gone for the arbiter, and may take a second to end."""
CERTAIN: Final = ("watchdog", "oom", "timeout", "boot-error", "reload")
CERTAIN_WITHOUT_STATUS: Final = ("watchdog", "oom", "timeout")
"""Of these no wait status makes another cause."""


def departures(
    before: Family | None, now: Family, marks: Marks, waiting: tuple[Last, ...] = ()
) -> tuple[tuple[Departure, ...], tuple[Last, ...]]:
    """The workers of the look before that are no more; none where the master changed, for then all went with it.

    Args:
        before: the look before.
        now: this one.
        marks: see there.
        waiting: what the look before left.

    Returns:
        Those whose cause is told now; and those that wait for one more look, for a reload may be half done.
    """
    master = now.master.id
    if before is None or before.master.id != master:
        return tuple(_departure(last) for last in waiting), ()
    gone = [
        worker for worker in before.workers if now.worker(worker.process.id) is None and worker.process.id != master
    ]
    lasts = [_longer(last, now, marks) for last in waiting]
    lasts += [Last(worker=worker, before=before, now=now, marks=marks) for worker in gone]
    told = tuple(_departure(last) for last in lasts if _is_certain(last))
    return told, tuple(last for last in lasts if not _is_certain(last))


def _longer(last: Last, now: Family, marks: Marks) -> Last:
    ends = {**last.marks.ends, **marks.ends}
    return replace(last, now=now, marks=replace(last.marks, ends=ends), waited=last.waited + 1)


def _is_certain(last: Last) -> bool:
    if last.end is not None and not last.end.final:
        return _cause(last) in CERTAIN_WITHOUT_STATUS or last.waited >= MOST_WAITED
    if _cause(last) in CERTAIN or (last.status is not None and not last.in_good_order):
        return True
    return last.waited >= (1 if last.end is not None else MOST_WAITED)


def _departure(last: Last) -> Departure:
    worker = last.worker
    return Departure(slot=worker.slot, process=worker.process.id, reason=_cause(last), silent_s=worker.heartbeat_age_s)


def _cause(last: Last) -> RestartReason:
    return next((reason for reason, fits in CAUSES if fits(last)), "unknown")
