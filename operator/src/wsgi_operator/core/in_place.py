"""Settings changed in running pods: one canary first, then the rest, and back if one of them went back.

In: the wanted settings, those of the template, what was done so far, what each pod says. Out: the next `Standing`, and
orders for pods. Rule: everything is told from what stands on the workload, on the pods and in their reports, so a
restarted operator goes on where the last one was. No pod is ordered while another is the canary; a pod that goes back
stops the change, and those that had it already are ordered back. What a pod refuses cannot be had in place: then the
settings come by a roll, and the reason is told.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.in_place import InPlace, InPlaceOrder
from wsgi_contract.settings import Wanted
from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Answer, Heard
from wsgi_operator.core.standing import Standing

AT_ONCE: Final = 0.25
"""Share of the pods that reload at a time, one at least: as many as a Deployment's rolling update takes away."""
SAID: Final = 400
ENDED_BADLY: Final = ("RolledBack", "Refused", "Failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One pod.

    Attributes:
        name: its own.
        uid: tells it from an earlier one of the same name.
        order: id of the order that it was given; None: none.
        told: what its sidecar says; None where it is silent, sees no server, or takes no orders.
    """

    name: str
    uid: str
    order: str | None
    told: InPlace | None

    def ended(self, order: str) -> bool:
        """Whether it is through with this order."""
        return self.told is not None and self.told.order == order and self.told.state != "Verifying"


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What to do now.

    Attributes:
        standing: to be written to the workload if it is new; None: nothing was ever changed in place.
        orders: pods and what each gets.
        message: what is waited for.
    """

    standing: Standing | None
    orders: tuple[tuple[Seat, InPlaceOrder], ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for.

    Attributes:
        server: uid of the WSGIServer.
        generation: of its spec.
        settings: wanted.
        template: those that a pod has from its creation.
        within_s: how long a pod's workers may take.
    """

    server: str
    generation: int
    settings: Mapping[str, int]
    template: Mapping[str, int]
    within_s: float = 60.0


def seats_of(answers: Iterable[Answer]) -> tuple[Seat, ...]:
    """The pods, by name."""
    seats = (
        Seat(
            name=answer.pod.name,
            uid=answer.pod.uid,
            order=answer.pod.order,
            told=answer.report.in_place if isinstance(answer, Heard) and answer.report.server is not None else None,
        )
        for answer in answers
    )
    return tuple(sorted(seats, key=lambda seat: seat.name))


def follow(wish: Wish, standing: Standing | None, seats: Sequence[Seat], now: float) -> Next:
    """The next step."""
    if standing is not None and standing.phase == "Unable":
        return Next(standing=standing)
    current = _current(wish, standing, now)
    if current is None:
        return Next(standing=None)
    if current.phase == "Stopped":
        return Next(standing=current, orders=_back(wish, current, seats), message=current.reason)
    if (stopped := _stopped(current, seats, now)) is not None:
        return Next(standing=stopped, orders=_back(wish, stopped, seats), message=stopped.reason)
    return _onward(wish, current, seats, now)


def begins(before: Standing | None, after: Standing | None) -> bool:
    """Whether what comes next is the beginning of a change that was not under way."""
    return after is not None and after.phase == "Changing" and (before is None or before.order != after.order)


def _current(wish: Wish, standing: Standing | None, now: float) -> Standing | None:
    """The change that is asked for now: the one under way, or a new one; None where the template has it already."""
    if standing is not None and standing.settings == wish.settings:
        again = standing.phase == "Stopped" and standing.generation != wish.generation
        return _begun(wish, standing.before, now) if again else standing
    if standing is None:
        return _begun(wish, wish.template, now) if wish.settings != wish.template else None
    return _begun(wish, standing.settings if standing.phase == "Applied" else standing.before, now)


def _begun(wish: Wish, before: Mapping[str, int], now: float) -> Standing:
    asked = json.dumps([wish.server, dict(wish.settings)], sort_keys=True)
    return Standing(
        order=f"g{wish.generation}-{hashlib.sha256(asked.encode()).hexdigest()[:12]}",
        generation=wish.generation,
        settings=dict(wish.settings),
        before=dict(before),
        phase="Changing",
        reason="one pod gets the settings first",
        at=now,
    )


def _has(wish: Wish, standing: Standing, seat: Seat) -> bool:
    """Whether a pod runs with the settings: ordered and proven, or made with them and never ordered."""
    if seat.order is None:
        return wish.template == standing.settings
    return seat.ended(standing.order) and seat.told is not None and seat.told.state == "Applied"


def _stopped(standing: Standing, seats: Sequence[Seat], now: float) -> Standing | None:
    """The change after a pod went back; once all had it, a new pod that goes back is told and stops nobody."""
    if standing.phase != "Changing":
        return None
    bad = [seat for seat in seats if seat.ended(standing.order) and seat.told and seat.told.state in ENDED_BADLY]
    if not bad or bad[0].told is None:
        return None
    seat, told = bad[0], bad[0].told
    others = any(each.ended(standing.order) and each not in bad for each in seats)
    if told.state == "Refused" and not others:
        return replace(standing, phase="Unable", reason=f"pod {seat.name} refuses: {_said(told.reason)}", at=now)
    reason = f"pod {seat.name}: {told.state}: {_said(told.reason)}; change spec.settings to try again"
    return replace(standing, phase="Stopped", reason=reason, at=now)


def _back(wish: Wish, standing: Standing, seats: Sequence[Seat]) -> tuple[tuple[Seat, InPlaceOrder], ...]:
    """Those that had taken it get what they had before."""
    if standing.phase != "Stopped":
        return ()
    back = InPlaceOrder(id=f"{standing.order}-back", settings=Wanted(**standing.before), within_s=wish.within_s)
    theirs = [seat for seat in seats if seat.order == standing.order and seat.told and seat.told.state == "Applied"]
    under_way = sum(seat.order == back.id and not seat.ended(back.id) for seat in seats)
    return tuple((seat, back) for seat in theirs[: max(0, _limit(seats) - under_way)])


def _limit(seats: Sequence[Seat]) -> int:
    return max(1, int(len(seats) * AT_ONCE))


def _onward(wish: Wish, standing: Standing, seats: Sequence[Seat], now: float) -> Next:
    missing = [seat for seat in seats if not _has(wish, standing, seat)]
    if not missing:
        if standing.phase == "Applied" or not seats:
            return Next(standing=standing)
        reason = (
            f"all {len(seats)} pods run with them; new ones get them after their start, the template at its next roll"
        )
        return Next(standing=replace(standing, phase="Applied", reason=reason, at=now))
    able = [seat for seat in missing if seat.order != standing.order and seat.told is not None]
    under_way = [seat for seat in missing if seat.order == standing.order and not seat.ended(standing.order)]
    proven = standing.phase == "Applied" or len(missing) < len(seats)
    if not proven and not under_way and able and (why := _unable(able[0])) is not None:
        return Next(standing=replace(standing, phase="Unable", reason=why, at=now))
    order = InPlaceOrder(id=standing.order, settings=Wanted(**standing.settings), within_s=wish.within_s)
    room = (_limit(seats) if proven else 1) - len(under_way)
    return Next(
        standing=standing,
        orders=tuple((seat, order) for seat in able[: max(0, room)]),
        message=_waiting(missing, under_way, seats, proven=proven) + _went_back(standing, missing),
    )


def _went_back(standing: Standing, missing: Sequence[Seat]) -> str:
    bad = [seat for seat in missing if seat.ended(standing.order)]
    told = bad[0].told if bad else None
    return f"; pod {bad[0].name}: {told.state}: {_said(told.reason)}" if told else ""


def _unable(seat: Seat) -> str | None:
    if seat.told is None or seat.told.means == "config-file":
        return None
    return f"pod {seat.name} cannot be changed in place: {_said(seat.told.obstacle or '')}"


def _said(text: str) -> str:
    """What a pod says, as far as it may stand on its workload."""
    return clip(text, SAID)


def _waiting(missing: Sequence[Seat], under_way: Sequence[Seat], seats: Sequence[Seat], *, proven: bool) -> str:
    if not proven:
        who = under_way[0].name if under_way else "one pod"
        return f"{who} gets the settings first; the other {len(seats) - 1} follow when its workers are up with them"
    done = len(seats) - len(missing)
    return f"{done} of {len(seats)} pods run with the new settings, {len(under_way)} change now"
