"""What the sidecar costs: `make bench-sidecar`.

Out: CPU per scan and memory, with 16 gthread workers and 1,000 idle connections, beside (a) the same facts read by
psutil alone and (b) Debian's prometheus-process-exporter, scraped at the same pace; then what a request costs with
nothing, with us, and with a metrics library inside the app. Rule: all of them watch the same server, in turns, in one
run; CPU is the kernel's own count in nanoseconds (schedstat), all threads together.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.tables import keep, progress, show, spread
from demo.load import SilentClients
from tests.servers.server import Server, eventually, get
from tests.servers.watched import Beside

WORKERS, CONNECTIONS = 16, 1000
RELEASE = "27.0.1"
ROUNDS, SCANS = 5, 20
SCRAPE_S = 1.0
INSIDE = "WSGI_BENCHMARK_INSIDE"

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


def cpu_ns(pid: int) -> int:
    """CPU time of all living threads of a process, nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def pss_mib(pid: int) -> float:
    """Proportional set size, MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


@contextmanager
def exporter(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int] | None]:
    """Debian's prometheus-process-exporter, watching everything called gunicorn; None where it is not installed."""
    program = shutil.which("prometheus-process-exporter")
    if program is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
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
    cpu, done = cpu_ns(pid), turns()
    work()
    return (cpu_ns(pid) - cpu) / 1e6 / max(1.0, turns() - done)


def watching(rounds: int) -> dict[str, list[float]]:
    """CPU per scan and PSS of each way to watch, round after round."""
    figures: dict[str, list[float]] = {name: [] for name in ("ours", "ours scraped", "psutil", "exporter")}
    memory: dict[str, float] = {}
    arguments = ("-k", "gthread", "-w", str(WORKERS), "--threads", "4", "--timeout", "60")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(Server(RELEASE, *arguments))
        eventually("all workers are up", lambda: len(server.worker_pids()) == WORKERS)
        stack.enter_context(SilentClients("127.0.0.1", server.port, CONNECTIONS))
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
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: {SCANS} scans of each")

            def scans() -> float:
                return _scans(ours.sidecar_port)

            figures["ours"].append(per_turn(ours.pid, lambda: time.sleep(SCANS * SCRAPE_S), scans))
            figures["ours scraped"].append(per_turn(ours.pid, lambda: scrape(ours.sidecar_port, SCANS), scans))
            figures["psutil"].append(statistics.median(_psutil_ms(psutil) for _ in range(5)))
            if theirs is not None:
                process, port = theirs
                count = iter((0.0, float(SCANS)))
                figures["exporter"].append(per_turn(process.pid, lambda: scrape(port, SCANS), lambda: next(count)))  # noqa: B023
        memory = {"ours": pss_mib(ours.pid), "psutil": pss_mib(psutil.pid)}
        if theirs is not None:
            memory["exporter"] = pss_mib(theirs[0].pid)
        assert psutil.stdin is not None
        psutil.stdin.close()
    return figures | {f"pss {name}": [value] for name, value in memory.items()}


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


def tell_watching(figures: dict[str, list[float]]) -> None:
    ours = statistics.median(figures["ours"])
    rows = []
    for name, label in (
        ("ours", "wsgi-sidecar, scanning"),
        ("ours scraped", "wsgi-sidecar, scanning and scraped"),
        ("psutil", "(a) the same facts by psutil alone"),
        ("exporter", "(b) prometheus-process-exporter, scraped"),
    ):
        got = figures[name]
        ratio = f"{statistics.median(got) / ours:.1f} x" if got else ""
        rows.append([label, spread(got, "ms"), ratio, spread(figures.get(f"pss {name}", []), "MiB", 1)])
    title = f"CPU per scan: {WORKERS} gthread workers, {CONNECTIONS} idle connections, gunicorn {RELEASE}"
    show(title, ["", "CPU per scan", "of ours", "PSS"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    if os.geteuid() == 0 and os.environ.get(INSIDE) != "1":
        # As in a pod: nobody but the server, its watchers and us is in sight, whatever else this machine runs.
        command = (
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            sys.executable,
            "-m",
            "benchmarks.sidecar",
        )
        os.execvpe(command[0], [*command, *sys.argv[1:]], os.environ | {INSIDE: "1"})
    progress(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    figures = watching(rounds)
    tell_watching(figures)
    keep("sidecar", {"figures": figures})


if __name__ == "__main__":
    main()
