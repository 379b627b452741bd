"""Ending a process gently: it is asked and gets time; its tree is killed only if it lets that time go by.

In: who was asked and when, and who lives now. Out: who still has time; a `Kill` for each that ended by itself. Rule: a
process is asked once; nobody waits for it: the looks go on, and one of them finds it ended, or its time over. A worker
that let go of its heartbeat has left the family and may live on for as long as its last request, or for ever: only the
end of the process is an end.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from wsgi_contract.report import Kill, ProcessId
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.remedy import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One process that was asked to end.

    Attributes:
        order: what would have ended it.
        at: wall clock.
        monotonic: the other one.
    """

    order: Order
    at: float
    monotonic: float


Asking = Mapping[ProcessId, Asked]


def still_asked(asking: Asking, fresh: Iterable[Asked], living: Collection[ProcessId]) -> Asking:
    """Those who were asked and live."""
    everybody = {**asking, **{asked.order.process: asked for asked in fresh}}
    return {who: asked for who, asked in everybody.items() if who in living}


def ended_gently(asking: Asking, living: Collection[ProcessId], family: Family, *, number: int) -> tuple[Kill, ...]:
    """A `Kill` for each who was asked and has ended; none where the master changed, for then all went with it.

    Args:
        asking: before this look.
        living: all processes of this look, zombies aside.
        family: of this look.
        number: of the first kill.
    """
    ended = [asked for who, asked in sorted(asking.items()) if who not in living]
    mine = [asked for asked in ended if family.master.id in asked.order.bystanders]
    return tuple(_kill(asked, family, number + place) for place, asked in enumerate(mine))


def _kill(asked: Asked, family: Family, number: int) -> Kill:
    return Kill(
        id=f"kill-{number}",
        at=asked.at,
        target=asked.order.target,
        slot=asked.order.slot,
        process=asked.order.process,
        reason=asked.order.reason,
        message=f"{asked.order.message} [it ended by itself when it was asked to]",
        outcome="killed",
        processes=1,
        survivors=(),
        duration_s=family.monotonic - asked.monotonic,
    )
