"""Datagrams in, totals out: the format of gunicorn 20.0 to 27.0, and whatever else a socket may be sent."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from wsgi_sidecar.core.statsd_lines import (
    MAX_BYTES,
    MAX_LINES,
    Destination,
    DestinationError,
    Sample,
    parse_datagram,
    parse_destination,
)
from wsgi_sidecar.core.traffic import (
    BOUNDS_S,
    MAX_WORKERS,
    PUBLISHED_BOUNDS_S,
    Histogram,
    Traffic,
    WorkerTraffic,
    between,
    cumulative,
    quantile_s,
    take_in,
    without_workers,
)


def batch(*datagrams: bytes, pid: int | None = None) -> Counter[tuple[int | None, bytes]]:
    return Counter(reversed([(pid, data) for data in datagrams]))


def sample(metric: str, value: float, label: str = "", times: int = 1) -> Sample:
    return Sample(metric=metric, label=label, value=value, times=times)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"gunicorn.requests:1|c|@1.0", sample("requests", 1)),
        (b"gunicorn.request.duration:12.5|ms", sample("duration", 0.0125)),
        (b"gunicorn.request.duration:12.5|h", sample("duration", 0.0125)),
        (b"gunicorn.request.duration:0.0|ms", sample("duration", 0)),
        (b"gunicorn.request.duration:1e-05|ms", sample("duration", 1e-8)),
        (b"gunicorn.request.status.404:1|c|@1.0", sample("status", 1, "404")),
        (b"gunicorn.request.status.599:1|c", sample("status", 1, "599")),
        (b"gunicorn.request.status.600:1|c", sample("status", 1, "other")),
        (b"gunicorn.request.status.99:1|c", sample("status", 1, "other")),
        (b"gunicorn.request.status.0200:1|c", sample("status", 1, "other")),
        (b"gunicorn.log.critical:1|c|@1.0", sample("log", 1, "critical")),
        (b"gunicorn.log.exception:1|c|@1.0", sample("log", 1, "exception")),
        (b"gunicorn.workers:4|g", sample("workers", 4)),
        (b"gunicorn.backlog:17|h", sample("backlog", 17)),
        (b"myapp.gunicorn.requests:1|c|@1.0", sample("requests", 1)),
        (b"pgunicorn.requests:1|c|@1.0", sample("requests", 1)),
        (b"gunicorn.prod.gunicorn.requests:1|c|@1.0", sample("requests", 1)),
        (b"gunicorn.requests:1|c|@1.0|#env:prod,az:b", sample("requests", 1)),
        (b"gunicorn.requests:1|c|#env:prod|@0.5", sample("requests", 1, times=2)),
        (b"gunicorn.requests:2|c|@0.1|c:container-id|T1700000000", sample("requests", 2, times=10)),
    ],
)
def test_each_line_of_gunicorns_is_understood(line: bytes, expected: Sample) -> None:
    assert parse_datagram(line).samples == (expected,)


def test_a_datagram_may_hold_many_lines() -> None:
    said = parse_datagram(
        b"gunicorn.requests:1|c|@1.0\ngunicorn.request.status.200:1|c|@1.0\r\n\nother.thing:3|g\nbroken"
    )
    assert [s.metric for s in said.samples] == ["requests", "status"]
    assert (said.foreign, said.malformed) == (1, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"gunicorn.requests",
        b"gunicorn.requests:|c",
        b"gunicorn.requests:-1|c|@1.0",
        b"gunicorn.requests:nan|c",
        b"gunicorn.requests:inf|c",
        b"gunicorn.requests:1_000|c",
        b"gunicorn.requests: 1|c",
        b"gunicorn.requests:1|x",
        b"gunicorn.requests:1e99|c",
        b"gunicorn.requests:1|c|@0.00000001",
        b"gunicorn.requests:1|c|@0",
        b"\xff\xfe\x00",
        b"gunicorn.requests:1|c" + b"x" * MAX_BYTES,
        b"gunicorn.requests:1|c\n" * (MAX_BYTES // 22 + 1),
    ],
)
def test_what_is_not_statsd_is_counted_once_and_moves_no_total(data: bytes) -> None:
    said = parse_datagram(data)
    assert said.samples == ()
    assert said.malformed == 1


@pytest.mark.parametrize(
    "line", [b"requests:1|c", b"gunicorn.other:1|c", b"gunicorn.requests:1|g", b"gunicorn.log.info:1|c"]
)
def test_metrics_that_gunicorn_does_not_send_are_foreign(line: bytes) -> None:
    assert parse_datagram(line).foreign == 1


def test_a_flood_of_lines_is_cut() -> None:
    said = parse_datagram(b"\n" * (MAX_LINES + 5))
    assert (said.samples, said.malformed) == ((), 1)


def test_totals_grow_batch_by_batch() -> None:
    one_request = (
        b"gunicorn.request.duration:40.0|ms",
        b"gunicorn.requests:1|c|@1.0",
        b"gunicorn.request.status.200:1|c|@1.0",
    )
    failing = (
        b"gunicorn.request.duration:900|ms",
        b"gunicorn.requests:1|c|@1.0",
        b"gunicorn.request.status.500:1|c|@1.0",
        b"gunicorn.log.error:1|c|@1.0",
    )
    first = take_in(Traffic(), batch(*one_request, *one_request, *failing))
    total = take_in(first, batch(*one_request, b"gunicorn.workers:2|g", b"gunicorn.backlog:5|h"))
    assert total.requests == 4
    assert total.by_status == {"200": 3, "500": 1}
    assert total.log_lines == {"error": 1}
    assert (total.workers, total.backlog, total.datagrams) == (2, 5, 15)
    assert total.durations.count == 4
    assert total.durations.sum_s == pytest.approx(1.02)
    assert first.requests == 3


def test_the_last_word_of_a_gauge_stands_though_equal_datagrams_are_counted_together() -> None:
    words = (b"gunicorn.workers:2|g", b"gunicorn.workers:3|g", b"gunicorn.workers:2|g")
    assert take_in(Traffic(), batch(*words)).workers == 2


def test_before_the_first_datagram_gauges_are_unknown_and_quantiles_too() -> None:
    assert (Traffic().workers, Traffic().backlog, quantile_s(Histogram(), 0.5)) == (None, None, None)


def test_senders_are_told_apart_until_they_are_gone() -> None:
    total = take_in(
        Traffic(),
        batch(b"gunicorn.requests:1|c", b"gunicorn.request.status.502:1|c", b"gunicorn.request.duration:2000|ms", pid=7)
        + batch(b"gunicorn.requests:3|c", pid=8),
    )
    assert total.by_worker == {7: WorkerTraffic(requests=1, server_errors=1, busy_s=2.0), 8: WorkerTraffic(requests=3)}
    left = without_workers(total, [7, 99])
    assert set(left.by_worker) == {8}
    assert left.requests == 4


def test_senders_are_bounded_and_the_totals_still_right() -> None:
    flood = Counter({(pid, b"gunicorn.requests:1|c"): 1 for pid in range(1, MAX_WORKERS + 51)})
    total = take_in(Traffic(), flood)  # type: ignore[arg-type]
    assert len(total.by_worker) == MAX_WORKERS
    assert total.requests == MAX_WORKERS + 50


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_a_quantile_is_within_one_bucket_of_the_true_one(share: float) -> None:
    chance = random.Random(4)
    durations_s = sorted(chance.lognormvariate(-2.5, 1.2) for _ in range(5000))
    total = take_in(Traffic(), batch(*(f"gunicorn.request.duration:{s * 1000}|ms".encode() for s in durations_s)))
    true = durations_s[max(0, round(share * 5000) - 1)]
    assert quantile_s(total.durations, share) == pytest.approx(true, rel=0.28)


def test_beyond_the_last_bound_the_quantile_is_the_last_bound() -> None:
    total = take_in(Traffic(), batch(b"gunicorn.request.duration:5000000|ms"))
    assert quantile_s(total.durations, 0.5) == BOUNDS_S[-1]


def test_a_duration_on_a_bound_belongs_to_that_bucket_and_coarsening_loses_nothing() -> None:
    total = take_in(
        Traffic(), batch(*(f"gunicorn.request.duration:{s * 1000}|ms".encode() for s in PUBLISHED_BOUNDS_S))
    )
    assert cumulative(total.durations) == tuple((s, n) for n, s in enumerate(PUBLISHED_BOUNDS_S, 1))


def test_neighbouring_bounds_are_close() -> None:
    assert all(low < high <= low * 1.2801 for low, high in pairwise(BOUNDS_S))
    assert set(PUBLISHED_BOUNDS_S) <= set(BOUNDS_S)


def test_what_came_between_two_looks_is_their_difference() -> None:
    early = take_in(Traffic(), batch(b"gunicorn.request.duration:10000|ms"))
    late = take_in(early, batch(b"gunicorn.request.duration:20|ms"))
    assert quantile_s(between(early.durations, late.durations), 1.0) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("statsd:9125", Destination(host="statsd", port=9125)),
        ("10.0.0.1", Destination(host="10.0.0.1", port=8125)),
        ("[::1]:8125", Destination(host="::1", port=8125)),
        ("[fe80::1%eth0]", Destination(host="fe80::1%eth0", port=8125)),
        ("unix:///run/statsd.sock", Destination(path="/run/statsd.sock")),
        ("unix:/run/statsd.sock", Destination(path="/run/statsd.sock")),
    ],
)
def test_a_destination_is_written_as_gunicorn_writes_it(text: str, expected: Destination) -> None:
    assert parse_destination(text) == expected


@pytest.mark.parametrize("text", ["", ":8125", "host:0", "host:70000", "host:port", "::1", "unix://", "a b:1"])
def test_a_destination_that_is_none_is_refused_with_what_it_may_be(text: str) -> None:
    with pytest.raises(DestinationError, match="write host:port"):
        parse_destination(text)


def test_no_bytes_can_make_the_parser_fail_or_the_totals_grow_without_bound() -> None:
    chance = random.Random(20260101)
    seeds = [
        b"gunicorn.requests:1|c|@1.0",
        b"p.gunicorn.request.status.200:1|c|@1.0|#a:b",
        b"gunicorn.request.duration:1.5|ms",
        b"gunicorn.log.critical:1|c\ngunicorn.workers:2|g",
    ]
    total = Traffic()
    for _ in range(20_000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(6)):
            place = chance.randrange(len(data) + 1)
            data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        total = take_in(total, batch(bytes(data), pid=chance.randrange(1, 5000)))
    assert total.datagrams == 20_000
    assert len(total.by_status) <= 501
    assert len(total.by_worker) <= MAX_WORKERS
    assert len(total.log_lines) <= 4
    assert total.malformed > 1000
    assert total.requests > 500
