"""Real server releases, each in its own virtualenv in the cache.

In: a name of the table `ROOMS`. Out: the path of a virtualenv that holds it. Rule: a room is made once, under a lock,
and its marker is written last: an interrupted or outdated one is made anew, and two test runs never make the same one
at the same time. `python -m tests.servers.rooms` makes all of them.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARKER: Final = ".room"


class RoomError(RuntimeError):
    """A room could not be made; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One release and what it needs.

    Attributes:
        name: also the folder's.
        requirements: as pip takes them.
        python: version the release needs; None for the one that runs the tests.
    """

    name: str
    requirements: tuple[str, ...]
    python: str | None = None

    @property
    def release(self) -> str:
        """The server's release: `23.0.0`."""
        return self.requirements[0].partition("==")[2]

    def recipe(self) -> str:
        """What the room is made of, as one hash: when it changes, the room is made anew."""
        python = self.python or ".".join(map(str, sys.version_info[:3]))
        return hashlib.sha256("\n".join((python, *self.requirements)).encode()).hexdigest()


def _gunicorn(release: str, *more: str, suffix: str = "", python: str | None = None) -> Room:
    return Room(name=f"gunicorn-{release}{suffix}", requirements=(f"gunicorn=={release}", *more), python=python)


_LOOPS: Final = (
    "gevent==26.9.0",
    "packaging",
    "tornado==6.6.1",
)  # its gevent worker imports packaging and does not say so
_UVICORN: Final = ("uvicorn==0.54.0", "uvicorn-worker==0.4.0")

COMPARED: Final = ("27.0.1", "23.0.0")
"""Those that are compared with and without something in them."""

ROOMS: Final[dict[str, Room]] = {
    room.name: room
    for room in (
        _gunicorn("20.1.0", "setuptools<81"),  # it imports pkg_resources, which setuptools 81 no longer has
        _gunicorn("21.2.0"),
        _gunicorn("22.0.0"),
        _gunicorn("23.0.0"),
        _gunicorn("24.1.1"),
        _gunicorn("25.3.0"),
        _gunicorn("26.2.0"),
        _gunicorn("27.0.1"),
        _gunicorn("27.0.1", "setproctitle==1.3.7", suffix="+setproctitle"),
        # every worker class that installs beside sync and gthread; eventlet left gunicorn with 26
        _gunicorn("20.1.0", "setuptools<81", *_LOOPS, suffix="+loops"),
        *(
            _gunicorn(release, *_LOOPS, *_UVICORN, suffix="+loops")
            for release in ("22.0.0", "23.0.0", "26.2.0", "27.0.1")
        ),
        *(_gunicorn(release, *_LOOPS, "eventlet==0.41.3", suffix="+loops") for release in ("24.1.1", "25.3.0")),
        _gunicorn("23.0.0", "flask>=3.1,<4", suffix="+flask"),  # the shop of the demos
        # drivers of the databases that a fork shares
        _gunicorn("23.0.0", "psycopg2-binary==2.9.10", "redis==5.2.1", suffix="+databases"),
        _gunicorn("27.0.1", "psycopg2-binary==2.9.10", "redis==5.2.1", suffix="+databases"),
        # the metrics library inside the application that bench-sidecar compares with
        *(_gunicorn(release, "gunicorn-prometheus-exporter==0.2.4", suffix="+exporter") for release in COMPARED),
        # eventlet patched into the arbiter blocks it on these (gunicorn #3299); 0.30.2 knows no Python above 3.9
        _gunicorn("20.1.0", "setuptools<81", "eventlet==0.30.2", suffix="-eventlet", python="3.9"),
        _gunicorn("21.2.0", "eventlet==0.33.3", suffix="-eventlet"),
        _gunicorn("22.0.0", "eventlet==0.33.3", suffix="-eventlet"),
        _gunicorn("23.0.0", "eventlet==0.36.1", suffix="-eventlet"),
        Room(name="others", requirements=("granian==2.8.7", "hypercorn==0.18.0")),  # watched only
        Room(name="uwsgi-2.0.31", requirements=("uWSGI==2.0.31",)),  # compiled on installation: needs gcc
    )
}

RELEASES: Final = tuple(room.release for room in ROOMS.values() if room.name == f"gunicorn-{room.release}")
"""Plain gunicorn releases, oldest first."""

FREEZING: Final = ("21.2.0", "22.0.0", "23.0.0")
"""Those whose gthread workers freeze when they hold worker_connections connections (gunicorn #3146)."""


def cache_folder() -> Path:
    """Where the rooms are: `${XDG_CACHE_HOME:-~/.cache}/wsgi-operator/servers`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wsgi-operator" / "servers"


def room_of(release: str, suffix: str = "") -> Path:
    """The virtualenv of a gunicorn release, made if it is not there yet.

    Raises:
        RoomError: unknown release, or it could not be made.
    """
    return _made(f"gunicorn-{release}{suffix}", cache_folder())


def room_named(name: str) -> Path:
    """The virtualenv of that name in the table, made if it is not there yet.

    Raises:
        RoomError: unknown name, or it could not be made.
    """
    return _made(name, cache_folder())


def prepare(names: Iterable[str] = ROOMS) -> None:
    """Make the rooms that are not there yet, some at a time."""
    folder = cache_folder()
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda name: _made(name, folder), names))


@functools.cache
def _made(name: str, folder: Path) -> Path:
    room = ROOMS.get(name)
    if room is None:
        raise RoomError(f"no room is called {name!r}; add it to ROOMS, which has {', '.join(ROOMS)}")
    path = folder / name
    with _locked(folder / f"{name}.lock"):
        if not _is_made(path, room):
            began = time.monotonic()
            _make(room, path)
            print(f"made {path} in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)  # noqa: T201
    return path


def _is_made(path: Path, room: Room) -> bool:
    try:
        return (path / MARKER).read_text() == room.recipe() and (path / "bin" / "python").exists()
    except OSError:
        return False


def _make(room: Room, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    for command in _commands(room, path):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise RoomError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr.strip()[-3000:]}")
    (path / MARKER).write_text(room.recipe())


def _commands(room: Room, path: Path) -> Iterator[list[str]]:
    uv, python = find_uv(), _interpreter(room.python)
    if uv is not None:
        yield [uv, "venv", "--quiet", "--no-project", "--python", python, str(path)]
        yield [uv, "pip", "install", "--quiet", "--python", str(path / "bin" / "python"), *room.requirements]
    elif not Path(python).exists():
        raise RoomError(f"Python {python} was not found; install uv (https://docs.astral.sh/uv/), which can fetch it")
    else:
        yield [python, "-m", "venv", str(path)]
        yield [str(path / "bin" / "python"), "-m", "pip", "install", "--quiet", *room.requirements]


def find_uv() -> str | None:
    """The one on PATH, or the one that the Makefile fetched."""
    fetched = sorted(cache_folder().parent.glob("uv-*/bin/uv"))
    return os.environ.get("UV") or shutil.which("uv") or (str(fetched[-1]) if fetched else None)


def _interpreter(version: str | None) -> str:
    """An interpreter's path; the bare version where none is installed: uv knows where to fetch it.

    pyenv's shims on PATH fail for versions that are not switched on, so its own folder is looked at first.
    """
    if version is None:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = sorted(pyenv.glob(f"{version}.*/bin/python{version}"))
    return str(found[-1]) if found else version


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    prepare()
