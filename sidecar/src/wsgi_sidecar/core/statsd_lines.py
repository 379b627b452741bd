"""What gunicorn says over statsd, as values.

In: the bytes of one datagram, from anybody who can reach the socket. Out: `Datagram`. Rule: never raises and never
grows with what it is sent: what is not understood is counted, either as malformed (not statsd) or as foreign (statsd,
but none of gunicorn's own names).

The names are those of `gunicorn/instrument/statsd.py`, 20.0 to 27.0: `PREFIX.gunicorn.requests:1|c|@1.0|#tag:x`. From
`--statsd-prefix` gunicorn makes `PREFIX.` (or `P` without a dot, if it is one letter), so the prefix is whatever stands
before the last `gunicorn.`. One datagram holds one line; relays on the way may pack several.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Metric = Literal["requests", "status", "duration", "log", "workers", "backlog"]
LogLevel = Literal["critical", "error", "warning", "exception"]

LOG_LEVELS: Final[tuple[LogLevel, ...]] = ("critical", "error", "warning", "exception")
OTHER_STATUS: Final = "other"
MAX_BYTES: Final = 8192
"""Longer datagrams are malformed; statsd clients keep below 1,432 on networks and 8,192 on one machine."""
DEFAULT_PORT: Final = 8125
MAX_LINES: Final = 256
MAX_COUNT: Final = 1_000_000_000.0
"""Larger numbers are malformed: nobody counts to a thousand million between two lines."""
MAX_TIMES: Final = 10_000
"""Smaller sample rates are malformed; gunicorn's own is always 1."""

_NUMBER: Final = rb"[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,2})?"
_LINE: Final = re.compile(
    rb"(?P<name>[^:|\n]{1,512}):(?P<value>%b)\|(?P<type>c|g|ms|h|d)(?:\|(?:@(?P<rate>%b)|[^|@\n][^|\n]*)?)*"
    % (_NUMBER, _NUMBER)
)
_OURS: Final = b"gunicorn."
_STATUS: Final = b"request.status."
_LOG: Final = b"log."
_LEVEL_OF: Final = {level.encode(): level for level in LOG_LEVELS}
_TIMERS: Final = (b"ms", b"h", b"d")
_GAUGES: Final[dict[bytes, Metric]] = {b"workers": "workers", b"backlog": "backlog"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured value.

    Attributes:
        metric: which of gunicorn's.
        label: the status code (`100` to `599`, else `other`) or the log level; empty for the rest.
        value: how many, for counters; seconds, for `duration`; the level itself for `workers` and `backlog`.
        times: how many events it stands for: 1 over the sample rate, for counters and durations.
    """

    metric: Metric
    label: str
    value: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """What one datagram said.

    Attributes:
        samples: of gunicorn's own metrics.
        foreign: lines in statsd's format that gunicorn does not send.
        malformed: lines that are not statsd's.
    """

    samples: tuple[Sample, ...] = ()
    foreign: int = 0
    malformed: int = 0


def parse_datagram(data: bytes) -> Datagram:
    """Read one datagram, whatever it holds."""
    if len(data) > MAX_BYTES:
        return Datagram(malformed=1)
    samples: list[Sample] = []
    foreign = malformed = 0
    lines = data.split(b"\n", MAX_LINES)
    for line in lines[:MAX_LINES]:
        match = _LINE.fullmatch(line.rstrip(b"\r"))
        if match is None:
            malformed += line.strip() != b""
            continue
        sample = _sample(match)
        if sample is None:
            foreign += 1
        elif sample.value > MAX_COUNT or sample.times > MAX_TIMES:
            malformed += 1
        else:
            samples.append(sample)
    malformed += len(lines) > MAX_LINES or not data
    return Datagram(samples=tuple(samples), foreign=foreign, malformed=malformed)


def _sample(match: re.Match[bytes]) -> Sample | None:
    _, ours, tail = match["name"].rpartition(_OURS)
    if not ours:
        return None
    value, rate, kind = float(match["value"]), float(match["rate"] or 1), match["type"]
    times = round(1 / rate) if rate > 1 / MAX_TIMES else MAX_TIMES + 1
    if kind == b"c":
        return _counter(tail, value, times)
    if tail == b"request.duration" and kind in _TIMERS:
        return Sample(metric="duration", label="", value=value / 1000, times=times)
    gauge = _GAUGES.get(tail)
    return Sample(metric=gauge, label="", value=value, times=1) if gauge else None


def _counter(tail: bytes, value: float, times: int) -> Sample | None:
    if tail == b"requests":
        return Sample(metric="requests", label="", value=value, times=times)
    if tail.startswith(_STATUS):
        return Sample(metric="status", label=_status(tail[len(_STATUS) :]), value=value, times=times)
    level = _LEVEL_OF.get(tail[len(_LOG) :]) if tail.startswith(_LOG) else None
    return Sample(metric="log", label=level, value=value, times=times) if level else None


def _status(text: bytes) -> str:
    known = len(text) == 3 and text.isdigit() and b"100" <= text <= b"599"
    return text.decode("ascii") if known else OTHER_STATUS


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where statsd is sent, as `--statsd-host` writes it.

    Attributes:
        host: name or address; empty for a unix socket.
        port: UDP port; 0 for a unix socket.
        path: of a unix socket; empty for UDP.
    """

    host: str = ""
    port: int = 0
    path: str = ""


class DestinationError(ValueError):
    """Not an address that gunicorn's `--statsd-host` takes; the message says what it may be."""


def parse_destination(text: str) -> Destination:
    """Read what stands behind `--statsd-host`: `host:port`, `[v6]:port`, `host` (port 8125), `unix:///path`.

    Raises:
        DestinationError: none of these.
    """
    if path := re.fullmatch(r"unix:(?://)?(/[^/].*)", text):
        return Destination(path=path[1])
    address = re.fullmatch(
        r"(?:udp://)?(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:/\[\]\s]+))(?::(?P<port>\d{1,5}))?", text
    )
    port = int(address["port"] or DEFAULT_PORT) if address else 0
    if not address or not 0 < port < 65_536:
        raise DestinationError(f"{text!r} is no statsd address; write host:port, [v6 address]:port or unix:///path")
    return Destination(host=address["six"] or address["host"], port=port)
