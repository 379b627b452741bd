"""What the sidecar costs: `make bench-sidecar`.

Out: CPU per scan and memory, with 16 gthread workers and 1,000 connections, beside (a) the same facts read by psutil
alone and (b) Debian's prometheus-process-exporter, scraped at the same pace; then what a request costs (request_cost).
Rule: all of them watch the same server, in turns, in one run; CPU is the kernel's own count in nanoseconds (schedstat),
all threads together. As in a pod nobody but the server, its watchers and us is in sight, and the network is their own.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import request_cost
from benchmarks.costs import cpu_ns, pss_mib
from benchmarks.room import INSIDE, enter
from benchmarks.tables import keep, progress, show, spread
from tests.servers.packages import BENCHMARKS, prepare
from tests.servers.rooms import prepare as prepare_rooms
from tests.servers.server import Server, eventually, free_port, get
from tests.servers.watched import Beside

WORKERS, CONNECTIONS = 16, 1000
RELEASE = "27.0.1"
ROUNDS, QUICK_ROUNDS, SCANS = 3, 1, 15
REQUEST_ROUNDS = 5
QUIET_SCANS = 6
SCRAPE_S = 1.0
REQUESTS_PER_S = 20
MOST_MS, OF_PSUTIL, OF_EXPORTER, MOST_MIB = 2.5, 50.0, 2.0, 50.0
"""The promise: milliseconds a scan, how many times less than the others, memory."""

PSUTIL = """
import sys, time, psutil

def facts(master, port):
    # What one look of the sidecar tells, asked of psutil: who, tree, CPU, memory, threads, files, connections.
    everybody = [p.info for p in psutil.process_iter(["pid", "ppid", "name", "cmdline", "create_time", "status"])]
    root = psutil.Process(master)
    for process in [root, *root.children(recursive=True)]:
        with process.oneshot():
            process.cpu_times(), process.memory_info(), process.num_threads(), process.num_fds(), process.uids()
            [c for c in process.net_connections() if c.laddr and c.laddr.port == port]
    return everybody

facts(int(sys.argv[1]), int(sys.argv[2]))
for line in sys.stdin:
    before = time.process_time_ns()
    facts(int(sys.argv[1]), int(sys.argv[2]))
    print(time.process_time_ns() - before, flush=True)
"""


@contextmanager
def exporter(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int] | None]:
    """Debian's prometheus-process-exporter, watching everything called gunicorn; None where it is not installed."""
    program = shutil.which("prometheus-process-exporter")
    if program is None:
        yield None
        return
    port = free_port()
    config = folder / "exporter.yml"
    config.write_text("process_names:\n  - name: '{{.Comm}}'\n    comm: [gunicorn, python, python3, python3.11]\n")
    command = [program, f"--config.path={config}", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually("the exporter answers", lambda: _answers(port))
        yield process, port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        return get(port, "/metrics").status == 200
    except OSError:
        return False


def scrape(port: int, times: int) -> None:
    """Scrape so often, at the sidecar's pace."""
    for _ in range(times):
        began = time.monotonic()
        get(port, "/metrics")
        time.sleep(max(0.0, SCRAPE_S - (time.monotonic() - began)))


def per_turn(pid: int, work: Callable[[], object], turns: Callable[[], float]) -> float:
    """Milliseconds of CPU per scan or scrape while the work is done."""
    done = turns()
    cpu = cpu_ns(pid)
    work()
    spent = cpu_ns(pid) - cpu
    return spent / 1e6 / max(1.0, turns() - done)


def per_scan(pid: int, scans: Callable[[], float]) -> float:
    """Milliseconds of CPU per scan while nobody asks: how many there were is asked before and after, some looks apart.

    To ask moves something over TCP, and the next looks have to find out what.
    """
    began, done = time.monotonic(), scans()
    time.sleep(QUIET_SCANS * SCRAPE_S)
    cpu, from_s = cpu_ns(pid), time.monotonic()
    time.sleep(SCANS * SCRAPE_S)
    spent, until_s = cpu_ns(pid) - cpu, time.monotonic()
    pace = (scans() - done) / (time.monotonic() - began)
    return spent / 1e6 / (pace * (until_s - from_s))


@contextmanager
def kept_alive(port: int, count: int) -> Iterator[None]:
    """Clients that asked once and keep their connection, as a load balancer does."""
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=10)
            clients.append(client)
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
        yield
    finally:
        for client in clients:
            client.close()


@contextmanager
def visitors(port: int) -> Iterator[None]:
    """Some requests a second, each on a connection of its own."""
    stop = threading.Event()

    def visit() -> None:
        while not stop.wait(1 / REQUESTS_PER_S):
            with suppress(OSError):
                get(port)

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def watching(rounds: int) -> dict[str, list[float]]:
    """CPU per scan and PSS of each way to watch, round after round."""
    figures: dict[str, list[float]] = {name: [] for name in LABELS}
    arguments = ("-k", "gthread", "-w", str(WORKERS), "--threads", "4", "--timeout", "60", "--keep-alive", "3600")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(Server(RELEASE, *arguments))
        eventually("all workers are up", lambda: len(server.worker_pids()) == WORKERS)
        stack.enter_context(kept_alive(server.port, CONNECTIONS))
        ours = stack.enter_context(Beside("--pid", str(server.master_pid), scan_interval_s=SCRAPE_S))
        theirs = stack.enter_context(exporter(folder))
        psutil = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", PSUTIL, str(server.master_pid), str(server.port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        eventually("all connections are counted", lambda: _counted(ours) == CONNECTIONS)

        def scans() -> float:
            return _scans(ours.sidecar_port)

        def scraping() -> None:
            scrape(ours.sidecar_port, SCANS)

        for number in range(rounds):
            progress(f"watching: round {number + 1} of {rounds}, {SCANS} scans of each")
            figures["ours"].append(per_scan(ours.pid, scans))
            figures["ours scraped"].append(per_turn(ours.pid, scraping, scans))
            with visitors(server.port):
                figures["ours visited"].append(per_turn(ours.pid, scraping, scans))
            figures["psutil"].append(statistics.median(_psutil_ms(psutil) for _ in range(5)))
            if theirs is not None:
                process, port = theirs
                count = iter((0.0, float(SCANS)))
                figures["exporter"].append(per_turn(process.pid, lambda: scrape(port, SCANS), lambda: next(count)))  # noqa: B023
        figures |= {"pss ours": [pss_mib(ours.pid)], "pss psutil": [pss_mib(psutil.pid)]}
        if theirs is not None:
            figures["pss exporter"] = [pss_mib(theirs[0].pid)]
        assert psutil.stdin is not None
        psutil.stdin.close()
    return figures


def _counted(ours: Beside) -> int:
    return sum(worker.connections or 0 for worker in ours.workers())


def _scans(port: int) -> float:
    lines = get(port, "/metrics").body.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("wsgi_scan_duration_seconds_count"))


def _psutil_ms(process: "subprocess.Popen[str]") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline()) / 1e6


LABELS = {
    "ours": "wsgi-sidecar, scanning",
    "ours scraped": "wsgi-sidecar, scanning and scraped each second",
    "ours visited": f"likewise, with {REQUESTS_PER_S} new connections a second",
    "psutil": "(a) the same facts by psutil alone",
    "exporter": "(b) prometheus-process-exporter, scraped each second",
}


def tell_watching(figures: dict[str, list[float]]) -> None:
    ours = statistics.median(figures["ours"])
    rows = []
    for name, label in LABELS.items():
        got = figures[name]
        ratio = f"{statistics.median(got) / ours:.1f} x" if got else ""
        rows.append([label, spread(got, "ms"), ratio, _memory(figures, name)])
    title = f"CPU per scan: {WORKERS} gthread workers, {CONNECTIONS} kept connections, gunicorn {RELEASE}"
    show(title, ["", "CPU per scan", "of ours", "PSS"], rows)


def _memory(figures: dict[str, list[float]], name: str) -> str:
    told = figures.get(f"pss {name}")
    return f"{told[0]:.1f} MiB" if told else ""


def broken(figures: dict[str, list[float]]) -> list[str]:
    """Which parts of the promise are not kept; what was not measured breaks none."""
    ours = statistics.median(figures["ours"])
    times = {name: statistics.median(figures[name]) / ours for name in ("psutil", "exporter") if figures[name]}
    checks = {
        f"{ours:.2f} ms a scan, not {MOST_MS:g}": ours <= MOST_MS,
        f"1/{times['psutil']:.0f} of psutil, not 1/{OF_PSUTIL:g}": times["psutil"] >= OF_PSUTIL,
        "more than half of prometheus-process-exporter": times.get("exporter", OF_EXPORTER) >= OF_EXPORTER,
        f"{figures['pss ours'][0]:.1f} MiB, not {MOST_MIB:g}": figures["pss ours"][0] <= MOST_MIB,
    }
    return [what for what, kept in checks.items() if not kept]


def measure(rounds: int, request_rounds: int, only: str | None) -> int:
    loads = [os.getloadavg()[0]]
    kept, missed = {}, []
    if only != "requests":
        figures = watching(rounds)
        tell_watching(figures)
        missed = broken(figures)
        kept["figures"] = figures
    if only != "watching":
        requests = request_cost.measure(request_rounds)
        request_cost.tell(requests)
        kept["requests"] = {
            release: {way.name: [asdict(turn) for turn in way.turns] or way.trouble for way in ways}
            for release, ways in requests.items()
        }
    loads.append(os.getloadavg()[0])
    print(f"\n  load average before and after: {loads[0]:.1f}, {loads[1]:.1f} on {os.cpu_count()} CPUs")
    keep("sidecar", kept | {"load": loads})
    for what in missed:
        print(f"  promise broken: {what}")
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of scans")
    parser.add_argument("--quick", action="store_true", help="one round of everything")
    parser.add_argument("--only", choices=("watching", "requests"))
    given = parser.parse_args()
    if os.environ.get(INSIDE) != "1":
        if (trouble := prepare(BENCHMARKS)) is not None:
            progress(trouble)
        prepare_rooms([f"gunicorn-{RELEASE}", *request_cost.rooms()])
    rounds, request_rounds = (QUICK_ROUNDS, QUICK_ROUNDS) if given.quick else (given.rounds, REQUEST_ROUNDS)

    def run() -> int:
        return measure(rounds, request_rounds, given.only)

    if os.geteuid() != 0:
        progress("not root: whatever else runs on this machine is in sight, and counts")
        return run()
    return enter("benchmarks.sidecar", run, network=True)


if __name__ == "__main__":
    sys.exit(main())
