"""Which Events to post of changes: that one begins, that one was taken back, that rolls lose requests.

In: what a round found, and what time it is. Out: `Notice` values. Rule: as everywhere, a notice's key is made from what
it tells of, so whoever tells it again makes the same name, and the API server refuses the second.
"""

from typing import Final

from wsgi_operator.core.facts import Facts
from wsgi_operator.core.notices import HORIZON_S, Notice
from wsgi_operator.core.record import all_told
from wsgi_operator.core.server import Server
from wsgi_operator.core.words import undone_words

_LATEST: Final = 3
"""Hazards that one Event tells; the condition tells all."""


def roll_notices(server: Server, facts: Facts, now: float) -> tuple[Notice, ...]:
    """All that are worth telling now."""
    found = (_change(server, facts, now), _undone(server, facts, now), _hazards(server, facts))
    return tuple(notice for notice in found if notice is not None)


def _change(server: Server, facts: Facts, now: float) -> Notice | None:
    """What the last apply changed; nothing where it changed nothing that the user asked for, or took something back."""
    at, changes = facts.changes or (0.0, ())
    if not changes or now - at >= HORIZON_S or (facts.undone is not None and facts.undone.at <= at):
        return None
    first = any(change.name == "sidecar" for change in changes)
    words = all_told(changes)
    return Notice(
        key=f"{server.uid}/change/{at:.3f}/{words}",
        pod=None,
        kind="Normal",
        reason="Injected" if first else "SettingsChanged",
        note=f"{server.kind} {server.workload} rolls: {words}",
        at=at,
    )


def _undone(server: Server, facts: Facts, now: float) -> Notice | None:
    undone, roll = facts.undone, facts.roll
    if undone is None or roll is None or now - roll.began >= HORIZON_S:
        return None
    return Notice(
        key=f"{server.uid}/undone/{undone.at:.3f}",
        pod=None,
        kind="Warning",
        reason="RolledBack",
        note=f"{server.kind} {server.workload}: {undone_words(undone)}",
        at=roll.began,
    )


def _hazards(server: Server, facts: Facts) -> Notice | None:
    """Once per roll that we begin; what is told in the condition all the time is news only then."""
    roll = facts.roll
    if not facts.hazards or roll is None or not roll.open:
        return None
    words = "; ".join(hazard.message for hazard in facts.hazards[:_LATEST])
    return Notice(
        key=f"{server.uid}/hazards/{roll.began:.3f}",
        pod=None,
        kind="Warning",
        reason="RollLosesRequests",
        note=f"{server.kind} {server.workload} rolls, and requests will be lost: {words}",
        at=roll.began,
    )
