"""How long a fault hurts: `make bench-healing`.

Out: seconds from the fault to a request served again (frozen worker), to the last orphan gone, to a restart begun
(stuck arbiter), each over 20 runs and several releases; and requests lost. Rule: the sidecar runs as users run it, with
its default interval and policy; the fault's moment and the cure's are seen by this program itself, not by the sidecar.
"""

import argparse
import contextlib
import os
import signal
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.tables import keep, progress, show, spread
from demo.load import SilentClients
from tests.servers.processes import alive
from tests.servers.rooms import FREEZING, prepare
from tests.servers.server import eventually, get
from tests.servers.watched import Watched
from wsgi_sidecar.config import SCAN_INTERVAL_S

RUNS, QUICK_RUNS = 20, 3
AT_ONCE: Final = 5
"""Stories that mostly sleep; a frozen worker burns a core, so those are told one by one."""
CONNECTIONS: Final = 4
GTHREAD = ("-k", "gthread", "-w", "1", "--threads", "3", "--worker-connections", str(CONNECTIONS), "--timeout", "30")
ORPHANING: Final = (("fork", "20.1.0"), ("popen", "25.3.0"), ("session", "27.0.1"), ("spawn", "23.0.0"))
STICKING: Final = ("20.1.0", "21.2.0", "22.0.0", "23.0.0")
PATCHED: Final = {"gunicorn.conf.py": "import eventlet\neventlet.monkey_patch()\n"}
PACE_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """One run.

    Attributes:
        release: gunicorn's.
        seconds: from the fault to the cure.
        asked: requests begun meanwhile.
        lost: of those, how many got no answer.
    """

    release: str
    seconds: float
    asked: int = 0
    lost: int = 0


class Watching(ABC):
    """Work in a thread of its own, for as long as the block lasts."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Until `_stop` is set."""


class Prober(Watching):
    """Asks ten times a second, each request on a connection of its own and as patient as a browser."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._pool = ThreadPoolExecutor(200)
        self.results: list[tuple[float, bool]] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._pool.shutdown(wait=True)

    def served_after(self, at: float) -> float | None:
        """When the first request was answered after this moment."""
        return min((ended for ended, served in tuple(self.results) if served and ended > at), default=None)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self._pool.submit(self._ask)

    def _ask(self) -> None:
        try:
            served = get(self._port, "/", 30.0).status == 200
        except OSError:
            served = False
        self.results.append((time.monotonic(), served))


def frozen(number: int) -> Healed:
    """Silent clients fill a worker; until somebody is served again."""
    release = FREEZING[number % len(FREEZING)]
    with Watched(release, *GTHREAD, scan_interval_s=SCAN_INTERVAL_S) as server:
        # It is up right after a look. A fault comes at any moment between two looks, over the runs at each alike.
        time.sleep(SCAN_INTERVAL_S * (number * 7 % RUNS) / RUNS)
        with SilentClients("127.0.0.1", server.port, CONNECTIONS + 1):
            fault = time.monotonic()
            with Prober(server.port) as prober:
                healed = eventually("requests are served again", lambda: prober.served_after(fault))
        lost = sum(not served for _, served in prober.results)
        return Healed(release=release, seconds=healed - fault, asked=len(prober.results), lost=lost)


def orphans(number: int) -> Healed:
    """A request starts children and blocks; gunicorn ends its worker; until the last child is gone."""
    how, release = ORPHANING[number % len(ORPHANING)]
    arguments = ("-k", "sync", "-w", "1", "--timeout", "3")
    with Watched(release, *arguments, scan_interval_s=SCAN_INTERVAL_S) as server:
        (doomed,) = server.worker_pids()
        known = set(server.all_pids())
        # The arbiter's second and ours begin together: a signal that it wakes up from shifts its own, so that over the
        # runs a worker dies at each moment between two looks alike.
        time.sleep(SCAN_INTERVAL_S * (number * 7 % RUNS) / RUNS)
        os.kill(server.master_pid, signal.SIGUSR1)
        with contextlib.suppress(OSError):
            server.get(f"/children?how={how}&n=2&s=300&block=60", timeout_s=0.5)
        children = eventually("the children are there", lambda: _two(set(server.all_pids()) - known))
        fault = moment("its worker is dead", lambda: not alive([doomed]))
        return Healed(release=release, seconds=moment("they are gone", lambda: not alive(children)) - fault)


def stuck(number: int) -> Healed:
    """An arbiter that eventlet blocks in its own loop; until `run` ended, which restarts the container."""
    release = STICKING[number % len(STICKING)]
    arguments = ("-k", "eventlet", "-w", "1", "--max-requests", "10")
    with (
        Watched(release, *arguments, files=PATCHED, suffix="-eventlet", scan_interval_s=SCAN_INTERVAL_S) as server,
        Standstill(server.master_pid) as master,
    ):
        for _ in range(25):
            with contextlib.suppress(OSError):
                server.get(timeout_s=0.5)
            if not server.worker_pids():
                break
        server.wait()
        return Healed(release=release, seconds=time.monotonic() - master.since)


class Standstill(Watching):
    """Since when a process did not switch contexts any more, looked at all the time."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._status = Path(f"/proc/{pid}/status")
        self.since = time.monotonic()

    def _run(self) -> None:
        before: str | None = None
        while not self._stop.wait(PACE_S):
            try:
                text = self._status.read_text()
            except OSError:
                return
            now = text[text.find("voluntary_ctxt_switches") :]
            # Its end is no sign of life: a zombie, or one that is being killed, switches for the last time.
            if now != before and "State:\tS" in text:
                before, self.since = now, time.monotonic()


def moment(what: str, true: Callable[[], bool]) -> float:
    """When it came true, looked at fifty times a second."""
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until, f"within 120 s it did not come true that {what}"
        time.sleep(PACE_S)
    return time.monotonic()


def _two(pids: set[int]) -> tuple[int, ...]:
    return tuple(pids) if len(pids) >= 2 else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One kind of fault, and how soon it is to be over."""

    tell: Callable[[int], Healed]
    until: str
    target_s: float
    at_once: int


STORIES: Final = {
    "frozen-worker": Story(tell=frozen, until="a request is served again", target_s=6.0, at_once=1),
    "orphan-processes": Story(tell=orphans, until="the last orphan is gone", target_s=3.0, at_once=AT_ONCE),
    "stuck-arbiter": Story(tell=stuck, until="a restart has begun", target_s=10.0, at_once=AT_ONCE),
}


def told(name: str, runs: int) -> list[Healed]:
    story = STORIES[name]
    found = []
    with ThreadPoolExecutor(story.at_once) as pool:
        for number, healed in enumerate(pool.map(story.tell, range(runs)), 1):
            progress(f"{name} {number} of {runs}: {healed.seconds:.2f} s on {healed.release}")
            found.append(healed)
    return found


def row(name: str, runs: list[Healed]) -> list[str]:
    story, asked = STORIES[name], sum(run.asked for run in runs)
    lost = f"{sum(run.lost for run in runs)} of {asked}" if asked else "does not apply"
    seconds = [run.seconds for run in runs]
    kept = "yes" if statistics.median(seconds) <= story.target_s else "no"
    return [name, story.until, str(len(runs)), spread(seconds, "s"), f"{story.target_s:g} s: {kept}", lost]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs of each")
    parser.add_argument("--only", choices=STORIES)
    given = parser.parse_args()
    runs = QUICK_RUNS if given.quick else given.runs
    prepare()
    loads, results = [os.getloadavg()[0]], {}
    for name in [given.only] if given.only else STORIES:
        results[name] = told(name, runs)
        loads.append(os.getloadavg()[0])
    header = ["fault", "until", "runs", "median (lowest to highest)", "target", "requests lost"]
    show("Healing", header, [row(name, found) for name, found in results.items()])
    print(f"  load average meanwhile: {', '.join(f'{load:.1f}' for load in loads)} on {os.cpu_count()} CPUs")
    figures: dict[str, Any] = {name: [asdict(run) for run in found] for name, found in results.items()}
    keep("healing", figures | {"load": loads})
    medians = {name: statistics.median(run.seconds for run in found) for name, found in results.items()}
    return 0 if all(median <= STORIES[name].target_s for name, median in medians.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
