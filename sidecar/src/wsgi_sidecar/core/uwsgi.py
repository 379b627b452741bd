"""What uWSGI's stats server says, as values.

In: its JSON, of which every release and every build writes another part. Out: `UwsgiStats`. Rule: what is missing is
None; what we do not need is not kept: `vars` holds the headers of running requests, cookies and tokens among them.

Known not to mean what they seem to (2.0.31): `rss` and `vsz` are 0 without `memory-report`; `max_queue` is 0 until the
master has looked for the first time, a second after its start, and for unix sockets on some kernels for ever; a worker
that `cheaper` has put to sleep is listed with pid 0, and one that was never awake with id 0, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from wsgi_sidecar.core.strangers import Members, NotAnObjectError, integer, number, objects, read_object, text

WorkerStatus = Literal["idle", "busy", "cheap", "pause", "signal", "unknown"]

MAX_STATS_BYTES: Final = 8 * 1024 * 1024
"""64 workers with 100 cores take 1.5 MB, and more where the requests have long headers."""
_MAX_WORKERS: Final = 1024
_MAX_CORES: Final = 4096
_MICROSECONDS: Final = 1e6
_STATUSES: Final[dict[str, WorkerStatus]] = {"idle": "idle", "busy": "busy", "cheap": "cheap", "pause": "pause"}


class StatsError(ValueError):
    """Not the JSON of uWSGI's stats server; the message says what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UwsgiCore:
    """One thread (or greenlet) of a worker.

    Attributes:
        number: from 0 on.
        in_request: whether it serves one now; None where it is not said.
        request_started_at: when that request began, whole Unix seconds; None if there is none, or it is not said.
        requests: served since the worker's slot exists.
    """

    number: int
    in_request: bool | None
    request_started_at: float | None
    requests: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UwsgiWorker:
    """One worker's place; it keeps its number through respawns.

    Attributes:
        number: uWSGI's own, from 1 on.
        pid: in the server's PID namespace; None while nobody is there (cheap, or between two lives).
        status: what it does; `signal` while a uWSGI signal handler runs.
        requests: served in this place.
        exceptions: that the application raised.
        harakiris: times it was killed for a request longer than `harakiri`.
        respawns: lives, the first one included.
        busy_s: time spent in requests.
        mean_s: running mean of a request's time.
        spawned_at: when this life began, whole Unix seconds.
        rss_bytes: only with `memory-report`, else None.
        cores: empty where the server was told not to list them (`stats-no-cores`).
    """

    number: int
    pid: int | None
    status: WorkerStatus
    requests: int | None
    exceptions: int | None
    harakiris: int | None
    respawns: int | None
    busy_s: float | None
    mean_s: float | None
    spawned_at: float | None
    rss_bytes: int | None
    cores: tuple[UwsgiCore, ...]

    @property
    def busy_cores(self) -> int | None:
        """Requests that run in it now; None where its cores are not listed."""
        return sum(core.in_request is True for core in self.cores) if self.cores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class UwsgiSocket:
    """A listening socket of the workers.

    Attributes:
        name: as bound: `127.0.0.1:8000` or a path.
        queue: connections that nobody has accepted yet; None where it is not said.
        limit: of the queue; None where it is not known (yet).
    """

    name: str
    queue: int | None
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UwsgiStats:
    """What the stats server said.

    Attributes:
        release: for example `2.0.31`.
        pid: the master's (without a master, the first worker's).
        listen_queue: over all sockets.
        listen_queue_errors: of the master's own looks at the queue.
        load: connections in the queue plus busy workers, as uWSGI reckons it.
        sockets: of the workers.
        workers: by number.
    """

    release: str | None
    pid: int | None
    listen_queue: int | None
    listen_queue_errors: int | None
    load: int | None
    sockets: tuple[UwsgiSocket, ...]
    workers: tuple[UwsgiWorker, ...]


def parse_stats(data: bytes) -> UwsgiStats:
    """Read the JSON, with or without the HTTP header that `stats-http` puts before it.

    Raises:
        StatsError: it is no JSON object with workers in it.
    """
    body = data.partition(b"\r\n\r\n")[2] if data.startswith(b"HTTP/") else data
    try:
        stats = read_object(body)
    except NotAnObjectError as error:
        raise StatsError(str(error)) from None
    if not isinstance(stats.get("workers"), list):
        raise StatsError("the answer lists no workers; this is not uWSGI's stats server")
    return UwsgiStats(
        release=text(stats, "version", 32),
        pid=integer(stats, "pid") or None,
        listen_queue=integer(stats, "listen_queue"),
        listen_queue_errors=integer(stats, "listen_queue_errors"),
        load=integer(stats, "load"),
        sockets=tuple(_sockets(stats)),
        workers=tuple(_workers(stats)),
    )


def _sockets(stats: Members) -> Iterable[UwsgiSocket]:
    for one in objects(stats, "sockets", _MAX_CORES):
        name = text(one, "name")
        if name:
            yield UwsgiSocket(name=name, queue=integer(one, "queue"), limit=integer(one, "max_queue") or None)


def _workers(stats: Members) -> Iterable[UwsgiWorker]:
    for place, one in enumerate(objects(stats, "workers", _MAX_WORKERS), 1):
        yield UwsgiWorker(
            number=integer(one, "id") or place,
            pid=integer(one, "pid") or None,
            status=_status(text(one, "status") or ""),
            requests=integer(one, "requests"),
            exceptions=integer(one, "exceptions"),
            harakiris=integer(one, "harakiri_count"),
            respawns=integer(one, "respawn_count"),
            busy_s=_seconds(one, "running_time"),
            mean_s=_seconds(one, "avg_rt"),
            spawned_at=number(one, "last_spawn") or None,
            rss_bytes=integer(one, "rss") or None,
            cores=tuple(_cores(one)),
        )


def _cores(worker: Members) -> Iterable[UwsgiCore]:
    for one in objects(worker, "cores", _MAX_CORES):
        core_number, in_request = integer(one, "id"), integer(one, "in_request")
        request = one.get("req_info")
        started = number(request, "request_start") if isinstance(request, dict) else None
        if core_number is not None:
            yield UwsgiCore(
                number=core_number,
                in_request=None if in_request is None else in_request > 0,
                request_started_at=started if in_request and started else None,
                requests=integer(one, "requests"),
            )


def _status(word: str) -> WorkerStatus:
    return "signal" if word.startswith("sig") else _STATUSES.get(word, "unknown")


def _seconds(members: Members, name: str) -> float | None:
    microseconds = number(members, name)
    return None if microseconds is None else microseconds / _MICROSECONDS
