"""Which conditions turned, for the log.

In: the status before and after a round. Out: the conditions whose status or reason is another one now. Rule: a sentence
that only counts differently (3 of 5 pods, 4 of 5 pods) is no turn; whoever reads the log wants to know what began and
what ended.
"""

from collections.abc import Mapping
from typing import Any

Condition = Mapping[str, Any]


def turned(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Condition, ...]:
    """The conditions that turned; of a new WSGIServer only those that say something."""
    old = {condition["type"]: _told(condition) for condition in before.get("conditions") or ()}
    return tuple(
        condition
        for condition in after.get("conditions") or ()
        if _told(condition) != old.get(condition["type"], ("False", condition["reason"]))
    )


def _told(condition: Condition) -> tuple[str, str]:
    return condition["status"], condition["reason"]
