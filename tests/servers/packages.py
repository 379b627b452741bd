"""Programs of Debian's packages that tests and benchmarks use: databases, Prometheus, a load generator.

In: the name of a program. Out: its path. Rule: where it is missing the test is skipped with the package's name;
`python -m tests.servers.packages` (part of `make ground`) installs them when it is root on Debian, says so while it
does, and otherwise says what is missing. No service is started: tests start what they need, and end it.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

PACKAGES: Final = {
    "postgres": "postgresql",
    "redis-server": "redis-server",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
"""Debian's package by the program that it brings; for tests."""
BENCHMARKS: Final = {"wrk": "wrk", "prometheus-process-exporter": "prometheus-process-exporter"}
"""Likewise, for benchmarks, which install theirs themselves."""
BEAT_S: Final = 15.0
_FORBID_START: Final = Path("/usr/sbin/policy-rc.d")


def program(name: str) -> str | None:
    """Its path; Debian keeps PostgreSQL's programs off the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


def needed(name: str) -> str:
    """Its path; the test is skipped where there is none."""
    found = program(name)
    if found is None:
        pytest.skip(f"no {PACKAGES[name]} here: apt-get install {PACKAGES[name]}")
    return found


def prepare(wanted: Mapping[str, str] = PACKAGES) -> str | None:
    """Install what is missing; the reason where that cannot be done."""
    missing = sorted({package for name, package in wanted.items() if program(name) is None})
    if not missing:
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"what needs {', '.join(missing)} will be left out: install these packages (Debian's names)"
    own = not _FORBID_START.exists()
    if own:  # a package must not start its service on this machine
        _FORBID_START.write_text("#!/bin/sh\nexit 101\n")
        _FORBID_START.chmod(0o755)
    try:
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            trouble = _apt_get(command, f"installing Debian packages ({', '.join(missing)})")
        return trouble
    finally:
        if own:
            _FORBID_START.unlink()


def _apt_get(words: Sequence[str], what: str) -> str | None:
    """Run it, and say every some seconds that it still runs; its last words if it failed."""
    _say(f"{what}: apt-get {words[0]} …")
    began = time.monotonic()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    process = subprocess.Popen(
        ["apt-get", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while True:
        with suppress(subprocess.TimeoutExpired):
            _, said = process.communicate(timeout=BEAT_S)
            return said.strip()[-300:] if process.returncode else None
        _say(f"… {what}, {time.monotonic() - began:.0f} s so far")


def _say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    if (trouble := prepare()) is not None:
        _say(trouble)
