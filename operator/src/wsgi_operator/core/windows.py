"""Times of the week in which a change may begin.

In: windows, the time zones that they name, what time it is. Out: None (one is open), or when the next one opens. Rule:
a window is meant on the wall clock of its zone, as people read it: 22:00 stays 22:00 on both sides of a clock change.
A start that the clocks skip is the moment after the skip; one that comes twice is the first of the two.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from wsgi_operator.core.times import moment

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

_LOOK_AHEAD_DAYS: Final = 8
"""A window that starts once a week and has started today starts again within so many days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From when to when; one that ends before it starts goes over midnight.

    Attributes:
        days: on which it starts, as in DAYS; empty: on every day.
        start: as 22:00.
        end: as 06:00.
        zone: IANA name.
    """

    days: tuple[str, ...] = ()
    start: str
    end: str
    zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """When a window opens.

    Attributes:
        at: Unix seconds.
        words: for people, the same until then: `Sat 22:00 Europe/Berlin (2026-11-28T21:00:00Z)`.
    """

    at: float
    words: str


def next_opening(windows: Iterable[Window], zones: Mapping[str, tzinfo], now: float) -> Opening | None:
    """When the next window opens; None: one is open, or there are none at all.

    Args:
        windows: those of one WSGIServer; a window whose zone is not among the zones never opens.
        zones: by their names.
        now: Unix seconds.
    """
    known = [window for window in windows if window.zone in zones]
    spans = [(window, span) for window in known for span in _spans(window, zones[window.zone], now)]
    if not known or any(begins <= now < ends for _, (begins, ends) in spans):
        return None
    window, at = min(((window, begins) for window, (begins, _) in spans if begins > now), key=lambda pair: pair[1])
    day = DAYS[datetime.fromtimestamp(at, zones[window.zone]).weekday()]
    return Opening(at=at, words=f"{day} {window.start} {window.zone} ({moment(at)})")


def _spans(window: Window, zone: tzinfo, now: float) -> list[tuple[float, float]]:
    """Beginnings and ends, in Unix seconds, from yesterday's on."""
    today = datetime.fromtimestamp(now, zone).date()
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    spans = []
    for ahead in range(-1, _LOOK_AHEAD_DAYS + 1):
        day = today + timedelta(days=ahead)
        if not window.days or DAYS[day.weekday()] in window.days:
            last = day + timedelta(days=1) if end <= start else day
            spans.append((_at(day, start, zone), _at(last, end, zone)))
    return spans


def _at(day: date, clock: time, zone: tzinfo) -> float:
    # by way of UTC: only there is a difference of two times the time that passes between them
    return datetime.combine(day, clock, zone).astimezone(UTC).timestamp()
