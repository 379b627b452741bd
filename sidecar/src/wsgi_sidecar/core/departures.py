"""Which workers ended between two looks, and why, told from outside.

In: two looks at the same master, the timeout in force, and what this sidecar killed. Out: `Departure`s. Rule: the first
cause in `CAUSES` whose marks are there is the cause; where no mark is left the cause is `unknown`, never a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from wsgi_contract.report import ProcessId, RestartReason
from wsgi_sidecar.core.family import Family, Worker

BEAT_SHARE: Final = 0.6
"""A sync worker at rest beats every timeout/2. A last seen age above .6 of the timeout is therefore no rest: with a
timeout of 2 s and looks every second this keeps an idle worker that somebody killed (age <= 1 s) from being called a
timeout, and still calls one that stopped beating (age >= 2 - 1 s at the last look, and soon 1.2 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """One worker that is no more, and the cause."""

    slot: int
    process: ProcessId
    reason: RestartReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """What is known about a worker that has gone.

    Attributes:
        worker: as the look before saw it.
        unseen_s: seconds between that look and this one: it ended somewhere in between.
        timeout_s: in force; 0 switched off; None unknown.
        struck: this sidecar killed it.
    """

    worker: Worker
    unseen_s: float
    timeout_s: float | None
    struck: bool


def _by_us(last: Last) -> bool:
    return last.struck


def _timed_out(last: Last) -> bool:
    age = last.worker.heartbeat_age_s
    if age is None or not last.timeout_s or last.worker.state == "draining":
        return False
    return age > last.timeout_s * BEAT_SHARE and age + last.unseen_s > last.timeout_s


CAUSES: Final[tuple[tuple[RestartReason, Callable[[Last], bool]], ...]] = (
    ("watchdog", _by_us),
    ("timeout", _timed_out),
)


def departures(
    before: Family | None, now: Family, *, timeout_s: float | None, struck: frozenset[ProcessId]
) -> tuple[Departure, ...]:
    """The workers of the look before that are no more; none where the master changed, for then all went with it."""
    if before is None or before.master.id != now.master.id:
        return ()
    unseen_s = now.monotonic - before.monotonic
    gone = [worker for worker in before.workers if now.worker(worker.process.id) is None]
    lasts = [
        Last(worker=worker, unseen_s=unseen_s, timeout_s=timeout_s, struck=worker.process.id in struck)
        for worker in gone
    ]
    return tuple(
        Departure(slot=last.worker.slot, process=last.worker.process.id, reason=_cause(last)) for last in lasts
    )


def _cause(last: Last) -> RestartReason:
    return next((reason for reason, fits in CAUSES if fits(last)), "unknown")
