"""Changing a running server's settings without a new pod: what is ordered, and what came of it.

In: JSON text written by the operator or a user. Out: `InPlaceOrder`; `InPlace`, a part of the Report. Rule: an order
names all settings that it is about; one that it leaves out goes back to the server's owner. An order that cannot be
read raises `OrderError` with a sentence; the caller keeps the last good one.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from wsgi_contract.settings import SettingName, Wanted

Means = Literal["config-file", "signals", "none"]
"""How this server's settings can be changed: `config-file`: all of them, by a file that it reads again when told to
(HUP; uWSGI: its own reload); `signals`: the number of workers alone (TTIN, TTOU); `none`: not at all."""
State = Literal["Idle", "Verifying", "Applied", "RolledBack", "Refused", "Failed"]
Named = tuple[tuple[SettingName, int], ...]

MEANS: Final[tuple[Means, ...]] = ("config-file", "signals", "none")
STATES: Final[tuple[State, ...]] = ("Idle", "Verifying", "Applied", "RolledBack", "Refused", "Failed")
BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "workers": (1, 512),
    "threads": (1, 1024),
    "timeout_s": (0, 86_400),
    "graceful_timeout_s": (1, 86_400),
    "keepalive_s": (0, 3_600),
    "worker_connections": (1, 1_000_000),
    "max_requests": (0, 1_000_000_000),
    "max_requests_jitter": (0, 1_000_000_000),
}
WITHIN_S: Final = 60.0
_WITHIN_BOUNDS: Final = (5.0, 3600.0)
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class OrderError(ValueError):
    """The text is no order; the message names the field and what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlaceOrder:
    """Settings that a running server shall get.

    Attributes:
        id: names the order; the same id is never carried out twice, also where it failed.
        settings: all that the order is about; None leaves a setting to the server's owner.
        within_s: how long the server may take until all its workers are up with them; then the sidecar goes back.
    """

    id: str
    settings: Wanted
    within_s: float = WITHIN_S


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlace:
    """What the sidecar says of changes in place.

    Attributes:
        means: how this server's settings can be changed.
        obstacle: why not all of them can; None where all can.
        order: id of the last order that was read; None where there was none.
        ordered: its settings.
        state: `Idle` nothing was ordered; `Verifying` it is written and the server was told; `Applied` all workers run
            with it; `RolledBack` they did not come up, and run with the last good settings again; `Refused` nothing
            was touched; `Failed` they did not come up, and did not with the last good settings either.
        reason: the state in a sentence.
        before: settings of those names before the order; one that nobody could read is left out.
        after: the same now.
        since: wall clock at which the state began; None while idle.
    """

    means: Means
    obstacle: str | None = None
    order: str | None = None
    ordered: Named = ()
    state: State = "Idle"
    reason: str = "nothing was ordered"
    before: Named = ()
    after: Named = ()
    since: float | None = None


def dump_order(order: InPlaceOrder) -> str:
    """The order as JSON with stable key order."""
    told = {"id": order.id, "settings": dict(order.settings.items()), "within_s": order.within_s}
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def parse_order(text: str) -> InPlaceOrder:
    """Read an order.

    Raises:
        OrderError: not JSON, not an object, an unknown field, or a value out of its bounds.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OrderError(f"the order is not JSON ({error})") from None
    if not isinstance(raw, dict) or not {"id", "settings"} <= raw.keys() <= {"id", "settings", "within_s"}:
        raise OrderError(f"the order is {_short(raw)}; it may be an object with id, settings and within_s")
    if not isinstance(raw["id"], str) or not _ID.fullmatch(raw["id"]):
        raise OrderError(f"the order's id is {_short(raw['id'])}; it may be up to 63 letters, digits, dots and dashes")
    return InPlaceOrder(id=raw["id"], settings=parse_settings(raw["settings"]), within_s=_within(raw))


def parse_settings(raw: Any) -> Wanted:
    """Settings as an order names them.

    Raises:
        OrderError: not an object, an unknown setting, or a value out of its bounds.
    """
    if not isinstance(raw, dict):
        raise OrderError(f"the order's settings are {_short(raw)}; they may be an object such as {{'workers': 4}}")
    known = [field.name for field in fields(Wanted)]
    for name, value in raw.items():
        if name not in known:
            raise OrderError(f"the order has no setting {_short(name)}; it may have {', '.join(known)}")
        low, high = BOUNDS[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise OrderError(f"{name} is {_short(value)}; it may be a whole number from {low} to {high}")
    return Wanted(**raw)


def _within(raw: Mapping[str, Any]) -> float:
    value, (low, high) = raw.get("within_s", WITHIN_S), _WITHIN_BOUNDS
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise OrderError(f"within_s is {_short(value)}; it may be a number from {low:g} to {high:g}")
    return float(value)


def _short(value: Any) -> str:
    """The value as a message may quote it: a stranger's text can be a megabyte long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
