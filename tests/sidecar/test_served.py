"""Requests by slot, and the totals in the Report's words, from plain values."""

from wsgi_sidecar.core.served import BySlot, by_slot, totals, undercounted
from wsgi_sidecar.core.traffic import Traffic, WorkerTraffic, take_in
from wsgi_sidecar.testing import family, process, worker


def traffic(**requests: int) -> Traffic:
    return Traffic(by_worker={int(pid[1:]): WorkerTraffic(requests=count) for pid, count in requests.items()})


def test_a_slot_keeps_what_its_dead_worker_served_and_counts_its_successor_on_top() -> None:
    slots = by_slot(BySlot(), traffic(p101=5), family(worker(1, process=process(101))))
    slots = by_slot(slots, traffic(p101=7, p102=1), family(worker(1, process=process(102))))
    assert slots.served == {1: 8}
    assert slots.gone == ()
    slots = by_slot(slots, traffic(p101=7, p102=3), family(worker(1, process=process(102))))
    assert slots.served == {1: 10}
    assert slots.gone == (101,)


def test_a_pid_that_was_forgotten_and_comes_again_is_counted_from_nothing() -> None:
    slots = by_slot(BySlot(), traffic(p101=50), family(worker(1, process=process(101))))
    slots = by_slot(slots, traffic(p101=2), family(worker(1, process=process(101))))
    assert slots.served == {1: 52}


def test_a_sender_that_is_no_worker_has_no_slot() -> None:
    slots = by_slot(BySlot(), traffic(p999=9), family(worker(1, process=process(101))))
    assert (slots.served, slots.gone) == ({}, (999,))


def test_totals_name_every_bucket_that_is_not_empty_and_what_can_happen_stands_at_zero() -> None:
    heard = take_in(Traffic(), {(None, b"gunicorn.request.duration:2|ms"): 3, (None, b"gunicorn.requests:1|c"): 3})
    told = totals(heard, BySlot(), dropped=0)
    assert told.durations == ((0.002, 3),)
    assert told.by_status == (("200", 0), ("500", 0))
    assert dict(told.log_lines or ()) == {"critical": 0, "error": 0, "warning": 0, "exception": 0}
    assert (told.count, told.forwarded, undercounted(told)) == (3, None, ())


def test_dropped_datagrams_are_told_as_unknown_requests() -> None:
    assert [unknown.what for unknown in undercounted(totals(Traffic(), BySlot(), dropped=4))] == ["requests"]
