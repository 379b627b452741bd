"""How many Events one WSGIServer may post, however many kills its pods tell of."""

from wsgi_operator.core.ration import AT_ONCE, EVERY_S, Ration, grant
from wsgi_operator.testing import NOW


def test_what_happens_in_ordinary_days_is_told_at_once():
    granted, _ = grant(Ration(), 40, NOW)
    assert granted == 40


def test_a_pod_that_invents_kills_in_every_report_gets_ten_events_a_minute():
    ration, told = Ration(), 0
    for second in range(0, 600, 10):
        granted, ration = grant(ration, 8000, NOW + second)
        told += granted
    assert told == AT_ONCE + int(590 / EVERY_S)


def test_what_was_saved_does_not_grow_without_end_and_a_clock_set_back_gives_nothing():
    _, ration = grant(Ration(), AT_ONCE, NOW)
    assert grant(ration, 1000, NOW + 1_000_000)[0] == AT_ONCE
    assert grant(ration, 1000, NOW - 1_000_000)[0] == 0
