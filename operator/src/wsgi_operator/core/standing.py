"""How far a change in place is, so that a restart forgets nothing.

In: the workload's annotation. Out: `Standing`, and its JSON. Rule: it stands on the workload itself, beside the
template and never in it: to write it rolls nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from wsgi_contract import names
from wsgi_contract.in_place import OrderError, parse_settings
from wsgi_operator.core.workload import Object, annotations

ANNOTATION_STANDING: Final = f"{names.GROUP}/changed-in-place"

Phase = Literal["Changing", "Applied", "Stopped", "Unable"]
PHASES: Final[tuple[Phase, ...]] = ("Changing", "Applied", "Stopped", "Unable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The last change in place.

    Attributes:
        order: its id; a pod carries it out once.
        generation: of the spec that asked for it.
        settings: that it brings.
        before: that pods had before, and get again if it goes wrong.
        phase: `Changing` a canary, then the others; `Applied` by all, new pods get it after their start; `Stopped` a
            pod went back, and those that had it are taken back; `Unable` this server cannot be changed in place, so
            that the settings come by a roll.
        reason: the phase in a sentence.
        at: when the phase began, Unix seconds.
    """

    order: str
    generation: int
    settings: Mapping[str, int]
    before: Mapping[str, int]
    phase: Phase
    reason: str
    at: float


def dump_standing(standing: Standing) -> str:
    """As stable JSON."""
    return json.dumps(asdict(standing), sort_keys=True, separators=(",", ":"))


def standing_of(workload: Object) -> Standing | None:
    """The last change in place; None if there was none, or if the annotation was spoilt."""
    try:
        raw: Any = json.loads(annotations(workload).get(ANNOTATION_STANDING) or "null")
        return Standing(
            order=str(raw["order"]),
            generation=int(raw["generation"]),
            settings=dict(parse_settings(raw["settings"]).items()),
            before=dict(parse_settings(raw["before"]).items()),
            phase=PHASES[PHASES.index(raw["phase"])],
            reason=str(raw["reason"]),
            at=float(raw["at"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, OrderError):
        return None
