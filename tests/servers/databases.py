"""Real databases, each started for one test on loopback and gone with it.

In: Debian's packages. Out: a port. Rule: its own data in a temporary folder, an ephemeral port, never root. Where a
package is missing the test is skipped with its name; `make ground` installs it (tests/servers/packages.py).
"""

import os
import pwd
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.servers.packages import needed, program
from tests.servers.server import eventually, free_port

_NOBODY: Final = "nobody"


@contextmanager
def postgresql() -> Iterator[int]:
    """A cluster of its own; user `postgres`, trusted without a password. Gives its port."""
    server, initdb = needed("postgres"), program("initdb") or "initdb"
    with _folder() as folder:
        data = folder / "data"
        init = [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **_as_nobody())
        port = free_port()
        options = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}")
        with _running([server, "-D", str(data), "-p", str(port), *options], folder):
            eventually("PostgreSQL answers", lambda: _answers(port, _POSTGRESQL_SSL_REQUEST, b"NS"))
            yield port


@contextmanager
def redis() -> Iterator[int]:
    """One that keeps nothing on disk. Gives its port."""
    server = needed("redis-server")
    with _folder() as folder:
        port = free_port()
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


DATABASES: Final[dict[str, Callable[[], Any]]] = {"PostgreSQL": postgresql, "Redis": redis}
