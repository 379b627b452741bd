"""The last changes, and what became of each.

In: what the status tells so far, what this round found. Out: the lines of `status.lastChanges`, newest first. Rule: a
line is told once and then only learns its outcome; nothing in it ticks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from wsgi_operator.core.changes import setting_changes
from wsgi_operator.core.clip import clip
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.record import Change
from wsgi_operator.core.roll import Outcome
from wsgi_operator.core.times import moment

_LINES: Final = 10
_TOLD: Final = ("UnderWay", *get_args(Outcome))


def history(before: Sequence[Mapping[str, Any]], facts: Facts) -> list[dict[str, Any]]:
    """The lines told so far, and those of the last apply, each with its outcome as far as it is known."""
    told = [dict(line) for line in before]
    new = _new(*facts.changes) if facts.changes is not None else []
    standing = facts.standing
    if standing is not None and standing.phase == "Applied":
        new = _new(standing.at, setting_changes(standing.before, standing.settings)) + new
    known = {_key(line) for line in told}
    lines = ([line for line in new if _key(line) not in known] + told)[:_LINES]
    return [_with_outcome(line, facts) for line in lines]


def _new(at: float, changes: Sequence[Change]) -> list[dict[str, Any]]:
    """A line for each; none of a time that is none: somebody wrote it who is not we."""
    told = moment(at)
    return [] if told is None else [_line(told, change) for change in changes]


def _line(at: str, change: Change) -> dict[str, Any]:
    line = {"at": at, "what": change.name, "before": change.before, "after": change.after}
    return {key: clip(value) for key, value in line.items() if value is not None}


def _key(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line.get(key) for key in ("at", "what", "before", "after"))


def _with_outcome(line: dict[str, Any], facts: Facts) -> dict[str, Any]:
    roll, undone = facts.roll, facts.undone
    if undone is not None and line["at"] == moment(undone.at):
        return line | {"outcome": "Undone", "why": clip(undone.why)}
    if roll is not None and line["at"] == moment(roll.began):
        outcome = roll.outcome or "UnderWay"
        line = line | ({"outcome": outcome} if outcome in _TOLD else {})
        return line | ({"why": clip(roll.why)} if roll.why else {})
    return line
