"""How far a change in place is, so that a restart forgets nothing.

In: the workload's annotation. Out: `Standing`, and its JSON. Rule: it stands on the workload itself, beside the
template and never in it: to write it rolls nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final, Literal

from wsgi_contract import names
from wsgi_contract.in_place import OrderError, parse_settings
from wsgi_operator.core.noted import noted
from wsgi_operator.core.roll import wanted_of
from wsgi_operator.core.workload import Object, annotations

ANNOTATION_STANDING: Final = f"{names.GROUP}/changed-in-place"

Phase = Literal["Changing", "Applied", "Stopped", "Unable"]


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
    found = noted(Standing, annotations(workload).get(ANNOTATION_STANDING))
    try:
        return found and replace(found, settings=_settings(found.settings), before=_settings(found.before))
    except OrderError:
        return None


def _settings(told: Mapping[str, int]) -> Mapping[str, int]:
    """Those that this release knows.

    Raises:
        OrderError: one is out of its bounds.
    """
    return dict(parse_settings(dict(wanted_of(told).items())).items())
