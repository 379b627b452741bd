"""Whether healthy servers are ever taken for ill ones: `make false-alarms`.

Out: a matrix of healthy but nasty behaviour (see `behaviours`) over releases and worker classes; in each cell the
incidents that were told and the kills. Rule: no kill anywhere, no incident but those a row allows because they are
true; each cell is a server of its own under the sidecar as users run it, watched for longer than two frozen windows.

What this cannot judge: kinds whose patience is longer than a cell (a stuck request is told after 300 s, a hanging boot
after 60 s). The wall clock jumps at the sidecar's door, because no namespace has a wall clock of its own.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.behaviours import BEHAVIOURS
from benchmarks.tables import keep, progress, show
from tests.servers.rooms import FREEZING, prepare
from tests.servers.server import eventually
from tests.servers.watched import Watched
from wsgi_sidecar.config import SCAN_INTERVAL_S

RELEASES: Final = ("20.1.0", "21.2.0", "22.0.0", "23.0.0", "25.3.0", "27.0.1")
LOOPING: Final = ("20.1.0", "23.0.0", "27.0.1")
SUFFIXES: Final = {"eventlet": "-eventlet", "gevent": "+loops"}
"""Of the rooms in which a worker class is installed."""
AT_ONCE: Final = 6
"""Cells that mostly wait share the machine; that they starve one another now and then is part of the trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One server and one behaviour."""

    behaviour: str
    release: str
    worker_class: str

    @property
    def column(self) -> str:
        return f"{self.release} {self.worker_class}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was told in a cell; `error` where it could not be watched."""

    incidents: tuple[str, ...] = ()
    kills: int = 0
    scans: int = 0
    error: str = ""


def cells(*, quick: bool, only: str | None) -> list[Cell]:
    releases = (*FREEZING, "27.0.1") if quick else RELEASES
    columns = [(release, "gthread") for release in releases]
    columns += [(release, "sync") for release in (("27.0.1",) if quick else RELEASES)]
    columns += [] if quick else [("23.0.0", "eventlet"), *((release, "gevent") for release in LOOPING)]
    return [
        Cell(behaviour=name, release=release, worker_class=worker_class)
        for name, behaviour in BEHAVIOURS.items()
        for release, worker_class in columns
        if only in (None, name) and (worker_class == "gthread" or not behaviour.threaded)
    ]


def watch(cell: Cell) -> Seen:
    """The cell's server under its behaviour, for as long as the row says."""
    behaviour = BEHAVIOURS[cell.behaviour]
    threads = ("--threads", "3") if cell.worker_class == "gthread" else ()
    arguments = ("-k", cell.worker_class, "-w", "1", *threads, *behaviour.arguments)
    server = Watched(
        cell.release,
        *arguments,
        suffix=SUFFIXES.get(cell.worker_class, ""),
        scan_interval_s=SCAN_INTERVAL_S,
        files=behaviour.files,
        environment=behaviour.environment,
        application=behaviour.application,
    )
    try:
        with server, ExitStack() as stack:
            behaviour.drive(server, stack)
            until = time.monotonic() + behaviour.seconds
            scans = server.report().counts.scans + behaviour.seconds / SCAN_INTERVAL_S / 2
            eventually("it was watched", lambda: time.monotonic() > until and server.report().counts.scans > scans)
            report = server.report()
    except Exception as error:
        return Seen(error=f"{type(error).__name__}: {error}"[:300])
    told = tuple(kind for kind, count in dict(report.counts.incidents).items() if count)
    return Seen(incidents=told, kills=len(report.kills), scans=report.counts.scans)


def wrong(cell: Cell, seen: Seen) -> bool:
    return bool(seen.error or seen.kills or set(seen.incidents) - BEHAVIOURS[cell.behaviour].allowed)


def shown(cell: Cell, seen: Seen | None) -> str:
    if seen is None:
        return "-"
    if seen.error:
        return "no verdict"
    said = ", ".join((*seen.incidents, *([f"{seen.kills} KILLS"] if seen.kills else []))) or "silent"
    return f"FALSE: {said}" if wrong(cell, seen) else {"connection-saturation": "saturated"}.get(said, said)


def tell(found: dict[Cell, Seen]) -> None:
    columns = list(dict.fromkeys(cell.column for cell in found))
    for half in (columns[: len(columns) // 2 + 1], columns[len(columns) // 2 + 1 :]):
        rows = []
        for name, behaviour in BEHAVIOURS.items():
            row = {cell.column: shown(cell, seen) for cell, seen in found.items() if cell.behaviour == name}
            if row:
                allowed = "saturation" if behaviour.allowed else "nothing"
                rows.append([name, allowed, *(row.get(column, "-") for column in half)])
        if half:
            show("What was told of healthy servers", ["behaviour", "allowed", *half], rows)
    for cell, seen in found.items():
        if wrong(cell, seen):
            print(f"  {cell.behaviour}, {cell.column}: {seen}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four releases with gthread, one with sync")
    parser.add_argument("--only", choices=BEHAVIOURS, help="one row")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="cells at the same time")
    given = parser.parse_args()
    prepare()
    progress(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    found: dict[Cell, Seen] = {}
    wanted = cells(quick=given.quick, only=given.only)
    with ThreadPoolExecutor(given.at_once) as pool:
        for number, (cell, seen) in enumerate(zip(wanted, pool.map(watch, wanted), strict=True), 1):
            found[cell] = seen
            progress(f"{number} of {len(wanted)}: {cell.behaviour}, {cell.column}: {shown(cell, seen)}")
    tell(found)
    kills, alarms = sum(seen.kills for seen in found.values()), sum(wrong(*pair) for pair in found.items())
    scans = sum(seen.scans for seen in found.values())
    print(f"  {len(found)} cells, {scans} looks: {kills} kills, {alarms} cells with a false alarm or without a verdict")
    print(f"  load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
    keep(
        "false-alarms",
        {"cells": [[c.behaviour, c.column, list(s.incidents), s.kills, s.error] for c, s in found.items()]},
    )
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
