"""Real databases, each started for one test on loopback and gone with it.

In: Debian's packages. Out: a port. Rule: its own data in a temporary folder, an ephemeral port, never root. Where a
package is missing the test is skipped with its name; `python -m tests.servers.databases` installs them when it is root
on Debian, and otherwise says what is missing.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.servers.server import eventually

PACKAGES: Final = {"postgres": "postgresql", "redis-server": "redis-server"}
"""Debian's package by the program that it brings."""
_NOBODY: Final = "nobody"
_FORBID_START: Final = Path("/usr/sbin/policy-rc.d")


def program(name: str) -> str | None:
    """Its path; Debian keeps PostgreSQL's programs off the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


@contextmanager
def postgresql() -> Iterator[int]:
    """A cluster of its own; user `postgres`, trusted without a password. Gives its port."""
    server, initdb = _needed("postgres"), program("initdb") or "initdb"
    with _folder() as folder:
        data = folder / "data"
        init = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **_as_nobody())
        port = _free_port()
        options = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}")
        with _running([server, "-D", str(data), "-p", str(port), *options], folder):
            eventually("PostgreSQL answers", lambda: _answers(port, _POSTGRESQL_SSL_REQUEST, b"NS"))
            yield port


@contextmanager
def redis() -> Iterator[int]:
    """One that keeps nothing on disk. Gives its port."""
    server = _needed("redis-server")
    with _folder() as folder:
        port = _free_port()
        options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
        with _running([server, *options], folder):
            eventually("Redis answers", lambda: _answers(port, b"PING\r\n", b"+"))
            yield port


_POSTGRESQL_SSL_REQUEST: Final = bytes.fromhex("00000008 04d2162f")
"""Answered with one letter by whoever speaks PostgreSQL and is up."""


def _answers(port: int, question: bytes, first: bytes) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.sendall(question)
        letter = connection.recv(1)
        return bool(letter) and letter in first
    return False


def _needed(name: str) -> str:
    found = program(name)
    if found is None:
        pytest.skip(f"no {PACKAGES[name]} here: apt-get install {PACKAGES[name]}")
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wsgi-database-") as name:
        if os.geteuid() == 0:
            someone = pwd.getpwnam(_NOBODY)
            os.chown(name, someone.pw_uid, someone.pw_gid)
        yield Path(name)


def _as_nobody() -> dict[str, Any]:
    """For subprocess: databases refuse to run as root, or should."""
    if os.geteuid() != 0:
        return {}
    someone = pwd.getpwnam(_NOBODY)
    return {"user": someone.pw_uid, "group": someone.pw_gid, "extra_groups": []}


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **_as_nobody()
        )
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)  # PostgreSQL waits for its clients; those that are still there have had their time
        process.kill() if process.poll() is None else None
        process.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


DATABASES: Final[dict[str, Callable[[], Any]]] = {"PostgreSQL": postgresql, "Redis": redis}


def prepare() -> str | None:
    """Install what is missing; the reason where that cannot be done."""
    missing = sorted(package for name, package in PACKAGES.items() if program(name) is None)
    if not missing:
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"tests with a real database will be skipped: install {' and '.join(missing)} (Debian's names)"
    own = not _FORBID_START.exists()
    if own:  # a package must not start its service on this machine
        _FORBID_START.write_text("#!/bin/sh\nexit 101\n")
        _FORBID_START.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        return done.stderr.strip()[-300:] if done.returncode else None
    finally:
        if own:
            _FORBID_START.unlink()


if __name__ == "__main__":
    if (trouble := prepare()) is not None:
        sys.stderr.write(f"  {trouble}\n")
