"""What a request costs with a watcher beside the server, and with a metrics library inside it: `make bench-sidecar`.

In: gunicorn releases. Out: requests a second and latency of an empty app on two sync workers, with nothing, with us,
with us and statsd, and with gunicorn-prometheus-exporter in its workers. Rule: all of them run at the same time and are
asked in turns, round after round; whoever is not in turn stands still. Server and sidecar share one CPU, as in a pod;
the load comes from another one. A ratio is between figures of the same round.
"""

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from benchmarks.costs import cpu_ns
from benchmarks.tables import progress, show, spread
from tests.servers.rooms import COMPARED
from tests.servers.server import Server, eventually, free_port, get
from tests.servers.watched import Watched

LOAD_S: Final = 3
SETTLE_S: Final = 0.3
STEADY_S: Final = 2.0
"""What starts may still fall: the hooks of a library for another release."""
CLIENTS: Final = 8
WORKERS: Final = ("-k", "sync", "-w", "2", "--timeout", "120")
EMPTY: Final = {
    "empty.py": 'def app(environ, start_response):\n    start_response("200 OK", [("Content-Length", "2")])\n'
    '    return [b"ok"]\n'
}
HOOKS: Final = {
    "gunicorn.conf.py": "".join(
        f"from gunicorn_prometheus_exporter.hooks import default_{name} as {name}\n"
        for name in ("on_exit", "on_starting", "post_fork", "when_ready", "worker_int")
    )
    + 'worker_class = "gunicorn_prometheus_exporter.PrometheusWorker"\n'
}
"""The set-up of its README."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One turn.

    Attributes:
        per_s: requests a second.
        cpu_us: CPU of the server and what watches it, per request; another load on the machine changes it little.
        half_ms: how long half of the requests took at most.
        most_ms: likewise, all but one of a hundred.
        failed: requests without a good answer.
    """

    per_s: float
    cpu_us: float
    half_ms: float
    most_ms: float
    failed: int


@dataclass(slots=True, kw_only=True)
class Way:
    """One way to run the server.

    Attributes:
        name: as the table tells it.
        server: None where it did not start.
        trouble: why not.
        turns: what was measured so far.
    """

    name: str
    server: Server | None = None
    trouble: str = ""
    turns: list[Answered] = field(default_factory=list)


def ways(release: str, folder: Path) -> dict[str, Callable[[], Server]]:
    """All ways to run a release."""
    given = {"application": "empty:app", "files": EMPTY}

    def watched(*options: str) -> Watched:
        return Watched(release, *WORKERS, options=options, scan_interval_s=1.0, **given)

    def inside() -> Server:
        environment = {
            "PROMETHEUS_METRICS_PORT": str(free_port()),
            "PROMETHEUS_BIND_ADDRESS": "127.0.0.1",
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
            "GUNICORN_WORKERS": "2",
        }
        files = EMPTY | HOOKS
        return Server(
            release,
            "-w",
            "2",
            "--timeout",
            "120",
            application="empty:app",
            files=files,
            environment=environment,
            suffix="+exporter",
        )

    return {
        "nothing": lambda: Server(release, *WORKERS, **given),
        "us": watched,
        "us, statsd over UDP": lambda: watched("--statsd-port", "0"),
        "us, statsd over a unix socket": lambda: watched("--statsd-socket", str(folder / "statsd.sock")),
        "gunicorn-prometheus-exporter inside": inside,
    }


def rooms() -> tuple[str, ...]:
    """Names of the virtualenvs that it needs."""
    return tuple(f"gunicorn-{release}{suffix}" for release in COMPARED for suffix in ("", "+exporter"))


def measure(rounds: int) -> dict[str, list[Way]]:
    """Every way of every release; empty where there is no load generator."""
    if shutil.which("wrk") is None:
        progress("what a request costs is not measured: there is no wrk here (apt-get install wrk)")
        return {}
    return {release: _compare(release, rounds) for release in COMPARED}


def _compare(release: str, rounds: int) -> list[Way]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        found = [_started(name, start, stack) for name, start in ways(release, folder).items()]
        for number in range(rounds):
            progress(f"gunicorn {release}, requests: round {number + 1} of {rounds}")
            for way in found:
                if way.server is not None:
                    with _alone(way, found):
                        way.turns.append(load(way.server))
        return found


def _started(name: str, start: Callable[[], Server], stack: ExitStack) -> Way:
    try:
        server = stack.enter_context(start())
        eventually("it answers", lambda: _serves(server), within_s=10)
        time.sleep(STEADY_S)
        assert _lives(server), server.log
    except AssertionError as error:
        return Way(name=name, trouble=_last_error(error))
    pin(server.pid, min(os.sched_getaffinity(0)))
    return Way(name=name, server=server)


def _serves(server: Server) -> bool:
    try:
        return get(server.port, timeout_s=2.0).status == 200
    except OSError:
        return False


def _lives(server: Server) -> bool:
    """Whether its arbiter does: workers may go on for a while without one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(server.pid).status() != psutil.STATUS_ZOMBIE and _serves(server)
    return False


def _last_error(error: AssertionError) -> str:
    told = "\n".join((str(error), *getattr(error, "__notes__", ())))
    said = re.findall(r"^\w*(?:Error|Exception): .*$", told, re.MULTILINE)
    return said[-1] if said else str(error).splitlines()[0]


def pin(pid: int, cpu: int) -> None:
    """Keep a process, all below it, and all their threads on one CPU."""
    above = psutil.Process(pid)
    for process in (above, *above.children(recursive=True)):
        for thread in process.threads():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread.id, {cpu})


@contextlib.contextmanager
def _alone(way: Way, everybody: list[Way]) -> Iterator[None]:
    others = [other.server for other in everybody if other is not way and other.server is not None]
    stopped = [process for server in others for process in _tree(server.pid)]
    _signal(stopped, signal.SIGSTOP)
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        _signal(stopped, signal.SIGCONT)


def _tree(pid: int) -> list[psutil.Process]:
    above = psutil.Process(pid)
    return [above, *above.children(recursive=True)]


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def load(server: Server) -> Answered:
    """Ask as fast as it answers, from the other CPU."""
    cpu = max(os.sched_getaffinity(0))
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{LOAD_S}s", "--latency", f"http://127.0.0.1:{server.port}/"]
    before = _cpu_ns(server)
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {cpu})
    )
    return parse(done.stdout, _cpu_ns(server) - before)


def _cpu_ns(server: Server) -> int:
    return sum(cpu_ns(process.pid) for process in _tree(server.pid))


def parse(said: str, spent_ns: int) -> Answered:
    """What wrk printed, and what it cost."""
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return Answered(
        per_s=float(_one(r"Requests/sec:\s+([\d.]+)", said)),
        cpu_us=spent_ns / 1000 / max(1, int(_one(r"(\d+) requests in", said))),
        half_ms=_ms(_one(r"^ +50% +(\S+)$", said)),
        most_ms=_ms(_one(r"^ +99% +(\S+)$", said)),
        failed=sum(map(int, errors.groups() if errors else ())) + int(refused[1] if refused else 0),
    )


def _one(pattern: str, said: str) -> str:
    found = re.search(pattern, said, re.MULTILINE)
    assert found is not None, f"wrk said something else: {said}"
    return found[1]


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}[unit]


def tell(figures: Mapping[str, list[Way]]) -> None:
    """One table for each release."""
    for release, found in figures.items():
        nothing = found[0].turns
        rows = [_row(way, nothing) for way in found]
        title = f"Requests: an empty app on 2 sync workers, gunicorn {release}, {CLIENTS} clients, all on one CPU"
        show(
            title,
            ["", "requests/s", "of nothing's", "CPU a request", "of nothing's", "half within", "99 % within", "failed"],
            rows,
        )


def _row(way: Way, nothing: list[Answered]) -> list[str]:
    if not way.turns:
        return [way.name, f"does not run: {way.trouble}", "", "", "", "", "", ""]
    pairs = list(zip(way.turns, nothing, strict=True))
    return [
        way.name,
        spread([turn.per_s for turn in way.turns], digits=0),
        f"{statistics.median(turn.per_s / alone.per_s for turn, alone in pairs):.0%}",
        spread([turn.cpu_us for turn in way.turns], "us", 0),
        f"{statistics.median(turn.cpu_us / alone.cpu_us for turn, alone in pairs):.0%}",
        spread([turn.half_ms for turn in way.turns], "ms"),
        spread([turn.most_ms for turn in way.turns], "ms"),
        str(sum(turn.failed for turn in way.turns)),
    ]
