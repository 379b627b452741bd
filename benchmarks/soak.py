"""Whether the sidecar grows with what it has seen: `make soak`; longer: `make soak BENCH_ARGS="--respawns 100000"`.

Out: 10,000 respawns under load, and the sidecar's memory, descriptors and series at each tenth of them. Rule: workers
end after a few requests and are replaced at once, so that every look finds other pids; growth is counted from the
second tenth on, when pools and caches are full.
"""

import argparse
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.tables import keep, progress, show
from demo.load import Load
from tests.servers.rooms import prepare
from tests.servers.server import Server, eventually
from tests.servers.watched import Beside

RESPAWNS, QUICK_RESPAWNS = 10_000, 600
RELEASE: Final = "27.0.1"
AT_ONCE: Final = "import random\nrandom.random = lambda: 0.0\n"
"""gunicorn rests for up to .1 s between two births; without it, it gives birth as fast as it can fork."""
ARGUMENTS: Final = ("-k", "sync", "-w", "6", "--preload", "--max-requests", "2")
SCAN_INTERVAL_S: Final = 0.2
GROWTH_MIB, GROWTH_FDS, GROWTH_SERIES = 4.0, 4, 12
PER_SECOND: Final = 1.0
"""Slower than this, the soak gives up instead of running for ever; a starved machine still does some four a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The sidecar at one moment."""

    respawns: int
    counted: int
    rss_mib: float
    fds: int
    series: int
    report_bytes: int


def measure(server: Server, sidecar: Beside) -> Size:
    process = Path(f"/proc/{sidecar.pid}")
    pages = int((process / "statm").read_text().split()[1])
    metrics = sidecar.ask("/metrics").body.splitlines()
    return Size(
        respawns=respawns(server),
        counted=sum(dict(sidecar.report().counts.restarts).values()),
        rss_mib=pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        fds=min(_fds(process) for _ in range(10)),
        series=sum(not line.startswith("#") for line in metrics),
        report_bytes=len(sidecar.ask("/report").body),
    )


def _fds(process: Path) -> int:
    """Now, after another look: how many are open depends on how many workers it finds, and a leak raises the least."""
    time.sleep(SCAN_INTERVAL_S)
    return len(list((process / "fd").iterdir()))


def respawns(server: Server) -> int:
    """How many workers were born, by the file that each of them lengthens by a byte."""
    return (server.folder / "births").stat().st_size


CONFIG: Final = AT_ONCE + (
    "def post_fork(server, worker):\n    with open('births', 'ab', buffering=0) as file:\n        file.write(b'.')\n"
)


def soak(wanted: int) -> list[Size]:
    """Respawn so often, and measure at each tenth."""
    sizes: list[Size] = []
    with ExitStack() as stack:
        server = stack.enter_context(Server(RELEASE, *ARGUMENTS, files={"gunicorn.conf.py": CONFIG}))
        sidecar = stack.enter_context(Beside("--pid", str(server.master_pid), scan_interval_s=SCAN_INTERVAL_S))
        load = stack.enter_context(
            Load("127.0.0.1", server.port, clients=6, pause_s=0.0, at_most=10 * wanted, for_at_most_s=86400)
        )
        end = time.monotonic() + wanted / PER_SECOND
        for tenths in range(1, 11):
            left_s = max(1.0, end - time.monotonic())
            eventually(f"{tenths} tenths are done", partial(_done, server, wanted * tenths / 10), left_s)
            sizes.append(measure(server, sidecar))
            progress(f"{sizes[-1]}; {load.tally().served} served, {load.tally().failed} failed")
        problems = sidecar.report().counts.scan_errors
        assert problems == 0, f"{problems} looks failed"
        assert not sidecar.events("kill"), "a healthy server was hurt"
    return sizes


def _done(server: Server, wanted: float) -> bool:
    return respawns(server) >= wanted


def growth(sizes: list[Size]) -> dict[str, float]:
    """From the second tenth on."""
    first, last = sizes[1], sizes[-1]
    return {
        "rss_mib": last.rss_mib - first.rss_mib,
        "fds": last.fds - first.fds,
        "series": last.series - first.series,
        "report_bytes": last.report_bytes - first.report_bytes,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--respawns", type=int, default=RESPAWNS)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RESPAWNS} respawns")
    given = parser.parse_args()
    wanted = QUICK_RESPAWNS if given.quick else given.respawns
    prepare([f"gunicorn-{RELEASE}"])
    load, began = os.getloadavg()[0], time.monotonic()
    sizes = soak(wanted)
    rows = [
        [str(s.respawns), str(s.counted), f"{s.rss_mib:.1f} MiB", str(s.fds), str(s.series), f"{s.report_bytes} B"]
        for s in sizes
    ]
    show("The sidecar over a soak", ["respawns", "seen", "RSS", "descriptors", "series", "report"], rows)
    grown = growth(sizes)
    pace = sizes[-1].respawns / (time.monotonic() - began)
    said = f"{grown['rss_mib']:+.1f} MiB, {grown['fds']:+.0f} descriptors, {grown['series']:+.0f} series"
    print(f"  grown since the second tenth: {said}, {grown['report_bytes']:+.0f} B; {pace:.0f} respawns a second")
    print(f"  load average: {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} CPUs")
    keep("soak", {"sizes": [asdict(size) for size in sizes], "grown": grown, "per_second": pace})
    fine = grown["rss_mib"] <= GROWTH_MIB and grown["fds"] <= GROWTH_FDS and grown["series"] <= GROWTH_SERIES
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
