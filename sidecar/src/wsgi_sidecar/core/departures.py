"""Which workers ended between two looks, and why, told from outside.

In: two looks at the same master, the settings in force, how the kernel says each ended, and what this sidecar or the
kernel's OOM killer ended. Out: `Departure`s. Rule: the first cause in `CAUSES` whose marks are there is the cause;
where no mark is left the cause is `unknown`, never a guess.

The marks, beside the ages that the looks saw: on Linux 6.15 and later the kernel keeps a process's wait status for
whoever holds its pidfd (see `ends`), so that an exit tells itself from a signal. On older kernels a worker that simply
vanished is `unknown`, whatever its siblings do, unless a whole generation was replaced: that is a reload.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from wsgi_contract.report import ProcessId, RestartReason
from wsgi_sidecar.core.family import Family, Worker

BEAT_SHARE: Final = 0.6
"""A sync worker at rest beats every timeout/2. A last seen age above .6 of the timeout is therefore no rest: with a
timeout of 2 s and looks every second this keeps an idle worker that somebody killed (age <= 1 s) from being called a
timeout, and still calls one that stopped beating (age >= 2 - 1 s at the last look, and soon 1.2 s)."""
GENERATION_S: Final = 2.0
GENERATION_PER_WORKER_S: Final = 0.3
"""A reload forks its workers one after the other, each after a random pause of up to .1 s: 4 within 3.2 s, 16 within
6.8 s. Workers that max_requests replaces are further apart, or there are fewer of them beside their predecessor."""
BOOT_ERRORS: Final = (3, 4)
"""gunicorn's own exit codes: the worker could not boot; the application could not be loaded."""


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
        statuses: wait statuses of ended workers, as far as the kernel tells them.
    """

    timeout_s: float | None = None
    workers: int | None = None
    max_requests: int | None = None
    struck: frozenset[ProcessId] = frozenset()
    oom: frozenset[ProcessId] = frozenset()
    statuses: Mapping[ProcessId, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """What is known about a worker that has gone.

    Attributes:
        worker: as the look before saw it.
        before: that look.
        now: this look: it ended somewhere in between.
        marks: see there.
    """

    worker: Worker
    before: Family
    now: Family
    marks: Marks

    @property
    def status(self) -> int | None:
        """Its wait status; None where the kernel does not tell."""
        return self.marks.statuses.get(self.worker.process.id)

    @property
    def exit_code(self) -> int | None:
        """With which code it exited; None where a signal ended it, or the kernel does not tell."""
        return None if self.status is None or not os.WIFEXITED(self.status) else os.WEXITSTATUS(self.status)


def _by_us(last: Last) -> bool:
    return last.worker.process.id in last.marks.struck


def _out_of_memory(last: Last) -> bool:
    return last.worker.process.id in last.marks.oom


def _timed_out(last: Last) -> bool:
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
    """A whole new generation was born, beside it or while nobody looked."""
    wanted = last.marks.workers
    if not wanted or last.exit_code not in (None, 0) or (last.status is not None and last.exit_code is None):
        return False
    born = last.worker.process.started_at
    beside = [each for each in last.before.workers if each.state != "draining" and each.process.started_at > born]
    if len(beside) >= wanted:
        return _one_generation(beside, wanted)
    # Workers with the same max_requests and an even load may all go at once, too.
    return last.marks.max_requests == 0 and _all_replaced(last, wanted)


def _all_replaced(last: Last, wanted: int) -> bool:
    """All of several went and came between two looks. Of one worker that says nothing: any restart looks like it."""
    survivors = {w.process.id for w in last.before.workers} & {w.process.id for w in last.now.workers}
    young = list(last.now.workers)
    return len(last.before.workers) > 1 and not survivors and len(young) >= wanted and _one_generation(young, wanted)


def _one_generation(workers: list[Worker], wanted: int) -> bool:
    births = sorted((worker.process.started_at for worker in workers), reverse=True)[:wanted]
    return births[0] - births[-1] <= GENERATION_S + GENERATION_PER_WORKER_S * wanted


def _had_its_requests(last: Last) -> bool:
    """It left by itself, and the server lets its workers do that."""
    if not last.marks.max_requests or _all_replaced(last, last.marks.workers or 1):
        return False
    return last.exit_code == 0 or (last.status is None and last.worker.state == "draining")


def _signalled(last: Last) -> bool:
    """A signal ended it, or it ended in good order with nothing that asked for that but a signal (TERM, TTOU)."""
    if last.status is not None and os.WIFSIGNALED(last.status):
        return True
    if last.marks.max_requests != 0 or last.marks.workers is None:
        return False
    # A lone worker that ended in good order may have been reloaded: both looks show just one.
    return last.exit_code == 0 and (last.marks.workers > 1 or not last.now.workers)


CAUSES: Final[tuple[tuple[RestartReason, Callable[[Last], bool]], ...]] = (
    ("watchdog", _by_us),
    ("oom", _out_of_memory),
    ("timeout", _timed_out),
    ("boot-error", _boot_error),
    ("reload", _reloaded),
    ("max_requests", _had_its_requests),
    ("signal", _signalled),
)


def departures(before: Family | None, now: Family, marks: Marks) -> tuple[Departure, ...]:
    """The workers of the look before that are no more; none where the master changed, for then all went with it."""
    if before is None or before.master.id != now.master.id:
        return ()
    gone = [worker for worker in before.workers if now.worker(worker.process.id) is None]
    return tuple(
        Departure(
            slot=worker.slot,
            process=worker.process.id,
            reason=_cause(Last(worker=worker, before=before, now=now, marks=marks)),
            silent_s=worker.heartbeat_age_s,
        )
        for worker in gone
    )


def _cause(last: Last) -> RestartReason:
    return next((reason for reason, fits in CAUSES if fits(last)), "unknown")
