"""Times of the week in which a change may begin, on real time zones."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from wsgi_operator.core.windows import Window, next_opening
from wsgi_operator.zones import zone_of

ZONES = {name: ZoneInfo(name) for name in ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")}
NIGHT = Window(start="22:00", end="06:00", zone="Europe/Berlin")
SATURDAY = Window(days=("Sat",), start="22:00", end="06:00", zone="Europe/Berlin")
NOON = Window(start="12:00", end="13:00")


def at(text: str) -> float:
    """As `2026-11-26T10:00 Europe/Berlin`; 2026-11-26 is a Thursday."""
    clock, _, zone = text.partition(" ")
    return datetime.fromisoformat(clock).replace(tzinfo=ZoneInfo(zone or "UTC")).timestamp()


def words(now: str, *windows: Window) -> str | None:
    opening = next_opening(windows, ZONES, at(now))
    return None if opening is None else opening.words


@pytest.mark.parametrize(
    ("now", "windows", "expected"),
    [
        ("2026-11-26T12:00", (), None),
        ("2026-11-26T12:00", (NOON,), None),
        ("2026-11-26T12:59", (NOON,), None),
        ("2026-11-26T13:00", (NOON,), "Fri 12:00 UTC (2026-11-27T12:00:00Z)"),
        ("2026-11-26T11:59", (NOON,), "Thu 12:00 UTC (2026-11-26T12:00:00Z)"),
        ("2026-11-26T21:59 Europe/Berlin", (NIGHT,), "Thu 22:00 Europe/Berlin (2026-11-26T21:00:00Z)"),
        ("2026-11-26T22:00 Europe/Berlin", (NIGHT,), None),
        ("2026-11-27T05:59 Europe/Berlin", (NIGHT,), None),
        ("2026-11-27T06:00 Europe/Berlin", (NIGHT,), "Fri 22:00 Europe/Berlin (2026-11-27T21:00:00Z)"),
        ("2026-11-26T12:00", (SATURDAY,), "Sat 22:00 Europe/Berlin (2026-11-28T21:00:00Z)"),
        ("2026-11-29T05:00 Europe/Berlin", (SATURDAY,), None),  # Sunday morning belongs to Saturday's night
        ("2026-11-30T05:00 Europe/Berlin", (SATURDAY,), "Sat 22:00 Europe/Berlin (2026-12-05T21:00:00Z)"),
        ("2026-11-28T21:30", (SATURDAY, NOON), None),
        ("2026-11-28T08:00", (SATURDAY, NOON), "Sat 12:00 UTC (2026-11-28T12:00:00Z)"),
    ],
)
def test_a_change_waits_for_the_next_window_and_says_which(now: str, windows: tuple[Window, ...], expected: str | None):
    assert words(now, *windows) == expected


def test_a_window_is_meant_on_the_wall_clock_on_both_sides_of_a_clock_change():
    # Berlin leaves summer time on Sunday 2026-10-25 at 03:00: the same 22:00 is another hour in UTC.
    assert words("2026-10-24T12:00", NIGHT) == "Sat 22:00 Europe/Berlin (2026-10-24T20:00:00Z)"
    assert words("2026-10-25T12:00", NIGHT) == "Sun 22:00 Europe/Berlin (2026-10-25T21:00:00Z)"


def test_a_night_with_a_clock_change_is_an_hour_longer_or_shorter():
    # 06:00 after the change, not eight hours after 22:00
    assert words("2026-10-25T04:59", NIGHT) is None
    assert words("2026-10-25T05:00", NIGHT) is not None
    assert words("2026-03-29T03:59", NIGHT) is None
    assert words("2026-03-29T04:00", NIGHT) is not None


def test_a_start_that_the_clocks_skip_is_the_moment_after_the_skip():
    skipped = Window(start="02:30", end="04:00", zone="Europe/Berlin")
    assert words("2026-03-29T00:59", skipped) == "Sun 02:30 Europe/Berlin (2026-03-29T01:30:00Z)"
    assert words("2026-03-29T01:45", skipped) is None


def test_zones_with_odd_hours_and_far_away_have_their_own_days():
    monday = Window(days=("Mon",), start="00:00", end="01:00", zone="Asia/Kolkata")
    assert words("2026-11-29T18:29", monday) == "Mon 00:00 Asia/Kolkata (2026-11-29T18:30:00Z)"
    assert words("2026-11-29T18:31", monday) is None
    evening = Window(days=("Sun",), start="20:00", end="23:59", zone="America/New_York")
    assert words("2026-11-30T02:00", evening) is None


def test_a_window_whose_zone_nobody_knows_never_opens_and_does_not_hide_the_others():
    lost = Window(start="00:00", end="23:59", zone="Mars/Olympus")
    assert words("2026-11-26T13:30", lost, NOON) == "Fri 12:00 UTC (2026-11-27T12:00:00Z)"


def test_the_words_stay_the_same_until_the_window_opens():
    told = {words(f"2026-11-26T{hour:02}:00", SATURDAY) for hour in range(24)}
    assert len(told) == 1


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "/etc/passwd", "../../etc/passwd", "Europe", "x" * 300, "a\0b"])
def test_what_is_no_zone_is_none(name: str):
    assert zone_of(name) is None


def test_zones_are_known_by_their_iana_names():
    assert zone_of("Europe/Berlin") is not None
    assert zone_of("UTC") is not None
