"""What gunicorn's control socket says, as values.

In: answers to `show config`, `show workers`, `show stats` (gunicorn >= 25.1). Out: `ControlAnswer`. Rule: an extra
source, never needed, and not believed where it is known to be wrong:

- `booted` is false for every worker, always: it is not read.
- `workers_killed` counts workers that were retired in good order, too: it is called `retired`.
- It is answered by a thread of the arbiter. An answer does not prove that the arbiter's loop turns.
- Two servers with one HOME share the path, and the later one owns it: `pid` tells whose answer it is.

What it alone knows: the number of workers wanted after TTIN and TTOU, and settings that the environment hides.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.report import Unknown
from wsgi_contract.servers.gunicorn_file import FILE_NAMES
from wsgi_contract.settings import SETTING_NAMES, Setting, SettingName, Value
from wsgi_sidecar.core.strangers import Members, NotAnObjectError, integer, number, objects, read_object, switch, text

COMMANDS: Final = ("show config", "show workers", "show stats")
"""Read-only, all of them. The socket would also stop the server; we never send anything else."""

SPEAKS_SINCE: Final = (25, 1)
"""The first release with a control socket."""
MAX_ANSWER_BYTES: Final = 1024 * 1024
"""1,000 workers take 100 KB."""
_MAX_WORKERS: Final = 4096
_LENGTH: Final = struct.Struct(">I")
_CLASSES: Final = {
    "gunicorn.workers.sync.SyncWorker": "sync",
    "gunicorn.workers.gthread.ThreadWorker": "gthread",
    "gunicorn.workers.ggevent.GeventWorker": "gevent",
    "gunicorn.workers.ggevent.GeventPyWSGIWorker": "gevent_pywsgi",
    "gunicorn.workers.geventlet.EventletWorker": "eventlet",
    "gunicorn.workers.gtornado.TornadoWorker": "tornado",
    "gunicorn.workers.gasgi.ASGIWorker": "asgi",
}


class ControlError(ValueError):
    """Not an answer of gunicorn's control socket, or one that says no; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlWorker:
    """A worker as the arbiter lists it.

    Attributes:
        pid: in the server's PID namespace.
        age: the arbiter's serial number: the n-th worker it spawned.
        heartbeat_age_s: as the arbiter computes it; None where it could not.
        aborted: whether the arbiter has sent it SIGABRT for a late heartbeat.
    """

    pid: int
    age: int | None
    heartbeat_age_s: float | None
    aborted: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlAnswer:
    """What the arbiter said; each part None where it was not understood.

    Attributes:
        pid: the arbiter's, in the server's PID namespace.
        settings: those among ours that it tells, with source `control-socket`. `workers` is the configured number.
        workers: by age.
        workers_wanted: how many it keeps now: TTIN and TTOU change this, not the setting.
        spawned: workers spawned since it started.
        retired: workers that it ended, in good order or not.
        reloads: SIGHUPs handled.
        uptime_s: since the arbiter started.
    """

    pid: int | None
    settings: tuple[Setting, ...]
    workers: tuple[ControlWorker, ...] | None
    workers_wanted: int | None
    spawned: int | None
    retired: int | None
    reloads: int | None
    uptime_s: float | None


def frame(command: str) -> bytes:
    """A request: four bytes of length, big-endian, and JSON."""
    payload = json.dumps({"id": 1, "command": command, "args": []}).encode()
    return _LENGTH.pack(len(payload)) + payload


def payload_length(header: bytes) -> int:
    """How long the answer behind these four bytes is.

    Raises:
        ControlError: longer than `MAX_ANSWER_BYTES`, so it is not gunicorn's.
    """
    (length,) = _LENGTH.unpack(header)
    if length > MAX_ANSWER_BYTES:
        raise ControlError(f"the answer would be {length} bytes long; this is not gunicorn's control socket")
    return int(length)


def parse_payload(payload: bytes) -> Members:
    """The data of one answer.

    Raises:
        ControlError: not JSON, or an error that gunicorn reports.
    """
    try:
        answer = read_object(payload)
    except NotAnObjectError as error:
        raise ControlError(str(error)) from None
    data = answer.get("data")
    if answer.get("status") != "ok" or not isinstance(data, dict):
        raise ControlError(f"gunicorn's control socket says {text(answer, 'error') or 'nothing that we understand'!r}")
    return data


def parse_answer(config: Members, workers: Members, stats: Members) -> ControlAnswer:
    """The three answers as one value."""
    listed = tuple(_workers(workers)) if isinstance(workers.get("workers"), list) else None
    return ControlAnswer(
        pid=integer(stats, "pid"),
        settings=tuple(_settings(config)),
        workers=listed,
        workers_wanted=integer(stats, "workers_target"),
        spawned=integer(stats, "workers_spawned"),
        retired=integer(stats, "workers_killed"),
        reloads=integer(stats, "reloads"),
        uptime_s=number(stats, "uptime"),
    )


def _settings(config: Members) -> Iterable[Setting]:
    for their_name, name in sorted(FILE_NAMES.items(), key=lambda pair: SETTING_NAMES.index(pair[1])):
        value = _value(config, their_name, name)
        if value is not None:
            yield Setting(name=name, value=value, source="control-socket", said_by=f"show config: {their_name}")


def _value(config: Members, their_name: str, name: SettingName) -> Value | None:
    if name == "preload_app":
        return switch(config, their_name)
    if name == "worker_class":
        written = (text(config, their_name) or "").removeprefix("<class '").removesuffix("'>")
        return _CLASSES.get(written, written) or None
    return integer(config, their_name)


def _workers(answer: Members) -> Iterable[ControlWorker]:
    for one in objects(answer, "workers", _MAX_WORKERS):
        pid = integer(one, "pid")
        if pid:
            yield ControlWorker(
                pid=pid,
                age=integer(one, "age"),
                heartbeat_age_s=number(one, "last_heartbeat"),
                aborted=switch(one, "aborted"),
            )


def filled(settings: Iterable[Setting], answered: Iterable[Setting]) -> tuple[Setting, ...]:
    """The settings, those nobody could read as the arbiter tells them."""
    told = {setting.name: setting for setting in answered}
    return tuple(each if each.value is not None else told.get(each.name, each) for each in settings)


def without_answered(
    unknowns: tuple[Unknown, ...], before: tuple[Setting, ...], after: tuple[Setting, ...]
) -> tuple[Unknown, ...]:
    """What is unknown once the arbiter has answered: of settings only those that it does not tell."""
    if before == after:
        return unknowns
    left = ", ".join(setting.name for setting in after if setting.value is None)
    kept = (each for each in unknowns if left or not each.what.startswith("settings"))
    return tuple(replace(each, what=f"settings: {left}") if each.what.startswith("settings") else each for each in kept)


def socket_paths(
    arguments: Sequence[str], *, runtime_folder: str | None, home: str | None, cwd: str
) -> tuple[str, ...]:
    """Where the control socket may be, inside the server's container, the likeliest first; empty where it is off.

    Args:
        arguments: of `GUNICORN_CMD_ARGS` and then of the command line, so that the last one wins.
        runtime_folder: XDG_RUNTIME_DIR of the server; None if it has none, or unknown.
        home: HOME of the server; None likewise.
        cwd: its working directory, for relative paths.
    """
    if "--no-control-socket" in arguments:
        return ()
    named = _named(arguments)
    if named is not None:
        return (named if named.startswith("/") else f"{cwd.rstrip('/')}/{named}",)
    folders = (runtime_folder, f"{home.rstrip('/')}/.gunicorn" if home else None)
    return tuple(f"{folder.rstrip('/')}/gunicorn.ctl" for folder in folders if folder)


def _named(arguments: Sequence[str]) -> str | None:
    named = None
    for place, word in enumerate(arguments):
        flag, equals, value = word.partition("=")
        if flag == "--control-socket":
            named = value if equals else (arguments[place + 1] if place + 1 < len(arguments) else None)
    return named or None
