"""Whether a change may begin now.

In: what would change and why, the workload's roll, its record, windows, time zones, disruption budgets, turns. Out:
None (begin, and it has its turn), or why not yet. Rule: waiting is a value with a reason, and the reason stays the same
until something happens: nothing in it ticks.

What nobody chose waits for no window: taking a workload in (the owner has just asked for it), what had to wait at the
adoption until the pods could tell more, putting back what somebody else changed, and undoing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final, Literal

from wsgi_operator.core.budgets import Budgets, exhausted
from wsgi_operator.core.record import Record
from wsgi_operator.core.roll import Kind
from wsgi_operator.core.rollout import Rollout
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.standing import Standing
from wsgi_operator.core.times import moment
from wsgi_operator.core.turns import Turns
from wsgi_operator.core.windows import next_opening

_WHAT: Final = {
    "adoption": "the adoption",
    "staged": "what spec.settings asks for",
    "settings": "what this spec asks for",
    "identity": "the sidecar's own user",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The surroundings of one decision.

    Attributes:
        now: Unix seconds.
        zones: the time zones that the windows name, as far as they are known.
        rollout: how far the workload's roll is.
        budgets: disruption budgets over the workload's pods.
        takes: pods that its own strategy may take away at once.
        mending: whether our own roll failed, and this takes its place.
        unnoted: whether our own roll has ended, or is about to, and the record does not say so yet.
        standing: of the last change in place; None: there was none.
    """

    now: float
    zones: Mapping[str, tzinfo]
    rollout: Rollout
    budgets: Budgets = ()
    takes: int = 0
    mending: bool = False
    unnoted: bool = False
    standing: Standing | None = None


def why_not_yet(
    kind: Kind | Literal["repair"], server: Server, before: Record | None, at: Moment, turns: Turns
) -> str | None:
    """Why this change does not begin now; None: it does, and has its turn."""
    if kind in ("undo", "repair") or at.mending:
        return None
    if kind == "upgrade" and (why := _policy(server)) is not None:
        return why
    # The template of an app is the spec's: as with a Deployment, a newer one takes the place of one that still rolls.
    why = None if kind == "adoption" or (kind == "settings" and server.app is not None) else _busy(kind, at)
    if why is None and kind in ("settings", "upgrade"):
        why = _out_of_time(server, _ended(before, at.standing), at.zones, at.now)
    if why is None and kind != "adoption":
        why = exhausted(at.budgets, at.takes)
    if why is None and at.rollout.by_hand is None:
        why = turns.take(server, at.now, upgrade=kind == "upgrade")
    what = f"the sidecar {server.sidecar.image}" if kind == "upgrade" else _WHAT[kind]
    return None if why is None else f"{what} {why}"


def why_not_in_place(
    server: Server, record: Record, standing: Standing | None, zones: Mapping[str, tzinfo], now: float
) -> str | None:
    """Why a change in running pods does not begin now. One that goes wrong is corrected at once, as a roll would be."""
    if standing is not None and standing.phase != "Applied":
        return None
    why = _out_of_time(server, _ended(record, standing), zones, now)
    return None if why is None else f"{_WHAT['settings']} {why}"


def unknown_zones(server: Server, zones: Mapping[str, tzinfo]) -> Obstacle | None:
    """A window whose time zone nobody knows never opens: that is for a person to mend."""
    unknown = sorted({window.zone for window in server.terms.windows} - set(zones))
    if not unknown:
        return None
    return Obstacle(
        reason="TimeZoneUnknown",
        message=f"spec.tuning.windows names the time zone {unknown[0]!r}, which nobody knows, so that window never "
        "opens and no change begins in it: write an IANA name such as Europe/Berlin, or UTC",
    )


def left_behind(server: Server, record: Record) -> str | None:
    """Why the workload has another image than it would get if it were new; None: it has not, or that changes now."""
    manual = server.sidecar.upgrade == "Manual" and record.image != server.sidecar.image
    return _by_hand(server) if manual else None


def _policy(server: Server) -> str | None:
    if server.sidecar.upgrade == "Manual":
        return _by_hand(server)
    if server.sidecar.upgrade == "OnNextChange":
        return (
            f"the sidecar {server.sidecar.image} comes with the next change of this WSGIServer's spec "
            "(spec.sidecar.upgrade is OnNextChange)"
        )
    return None


def _by_hand(server: Server) -> str:
    return (
        f"the sidecar {server.sidecar.image} waits for spec.sidecar.image to name it (spec.sidecar.upgrade is Manual)"
    )


def _busy(kind: str, at: Moment) -> str | None:
    """Somebody's roll is under way. An upgrade, which nobody asked for, also leaves alone what is not available."""
    if at.rollout.by_hand is not None and not at.rollout.done:
        return f"waits because {at.rollout.by_hand}, and not all pods carry the template that is there already"
    if at.rollout.under_way or at.unnoted or (kind == "upgrade" and not at.rollout.done):
        return f"waits until the roll that is under way has ended: {at.rollout.message}"
    return None


def _ended(record: Record | None, standing: Standing | None) -> float | None:
    """When the last change ended, be it a roll or one in running pods; None: nobody knows of one."""
    roll = record.roll.ended if record is not None and record.roll is not None else None
    in_place = standing.at if standing is not None and standing.phase == "Applied" else None
    return max((at for at in (roll, in_place) if at is not None), default=None)


def _out_of_time(server: Server, ended: float | None, zones: Mapping[str, tzinfo], now: float) -> str | None:
    if unknown_zones(server, zones) is not None and not any(w.zone in zones for w in server.terms.windows):
        return "waits because the time zones of spec.tuning.windows are not known"
    if ended is not None and now < ended + server.terms.cooldown_s:
        return (
            f"waits for the cooldown of {server.terms.cooldown_s:g} s after the last change, which ends at "
            f"{moment(ended + server.terms.cooldown_s)}"
        )
    opening = next_opening(server.terms.windows, zones, now)
    return None if opening is None else f"waits for the window that opens {opening.words}"
