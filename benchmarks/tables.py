"""What a benchmark prints and keeps.

In: rows of figures. Out: an aligned table on stdout, and the same as JSON in the cache folder. Rule: a figure is the
median of several rounds with its lowest and highest beside it; every ratio is between figures of the same run.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

VARIABLE = "WSGI_BENCHMARKS"
"""Names the folder of the figures to a benchmark in a machine inside the machine, which has a cache of its own."""
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER = Path(os.environ.get(VARIABLE) or _CACHE / "wsgi-operator" / "benchmarks")


def spread(figures: Sequence[float], unit: str = "", digits: int = 2) -> str:
    """`1.23 (1.10 to 1.40) ms`: median, lowest, highest."""
    if not figures:
        return "not measured"
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}) {unit}".rstrip()


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned table."""
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    print(f"\n{title}")
    for number, row in enumerate(table):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))
    sys.stdout.flush()


def keep(name: str, figures: Mapping[str, Any]) -> Path:
    """Write the figures as JSON, with what machine they are from; returns the file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
    path.write_text(json.dumps({"at": time.time(), "machine": machine, **figures}, indent=1))
    print(f"\n  kept in {path}")
    return path


def progress(text: str) -> None:
    """One line for whoever waits."""
    print(f"  … {text}", file=sys.stderr, flush=True)
