"""Gunicorn as both houses must know it: precedence of settings, facts by release.

In: what the sources of its settings say (`gunicorn_flags`, `gunicorn_file`). Out: the `Setting` values in force. Rule:
as gunicorn itself decides (`gunicorn/app/base.py`); where a source that would win could not be read, nothing is known.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wsgi_contract.servers.gunicorn_file import ConfigFile, parse_config_file
from wsgi_contract.servers.gunicorn_flags import (
    CMD_ARGS,
    FLAGS,
    Arguments,
    may_hold_secrets,
    merge_cmd_args,
    parse_arguments,
    parse_cmd_args,
)
from wsgi_contract.servers.gunicorn_values import ArgumentsError, from_word
from wsgi_contract.settings import SETTING_NAMES, Setting, SettingName, Source, Value, Wanted

__all__ = [
    "CMD_ARGS", "DEFAULTS", "DEFAULT_CONFIG", "FLAGS", "WEB_CONCURRENCY", "Arguments", "ArgumentsError", "ConfigFile",
    "Sources", "connection_limit", "effective_settings", "freezes_when_full", "may_hold_secrets", "merge_cmd_args",
    "parse_arguments", "parse_cmd_args", "parse_config_file", "parse_release",
]  # fmt: skip

WEB_CONCURRENCY: Final = "WEB_CONCURRENCY"
SYNC_WITH_THREADS: Final = "sync with threads > 1"
"""How `said_by` of worker_class begins where gunicorn turned sync into gthread."""

DEFAULT_CONFIG: Final = "./gunicorn.conf.py"
IN_PLACE: Final = "the sidecar, in place"
"""`said_by` of a setting that a running server was given."""

DEFAULTS: Final[Mapping[SettingName, Value]] = {
    "workers": 1,
    "threads": 1,
    "timeout_s": 30,
    "graceful_timeout_s": 30,
    "keepalive_s": 2,
    "worker_connections": 1000,
    "worker_class": "sync",
    "max_requests": 0,
    "max_requests_jitter": 0,
    "backlog": 2048,
    "preload_app": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that decides a gunicorn's settings, each part None where it could not be read.

    Attributes:
        command_line: arguments behind the program's name; None where the title was overwritten (setproctitle).
        cmd_args: text of `GUNICORN_CMD_ARGS` at the start; empty if it was not set.
        web_concurrency: text of `WEB_CONCURRENCY`; empty if it was not set.
        config_file: text of the owner's config file; empty if there is none.
        in_place: what a config file of ours says behind it (`gunicorn_in_place`); None where gunicorn reads none.
    """

    command_line: tuple[str, ...] | None
    cmd_args: str | None
    web_concurrency: str | None
    config_file: str | None
    in_place: Wanted | None = None


def effective_settings(sources: Sources) -> tuple[Setting, ...]:
    """The settings in force, one per name: file < ours, in place < `GUNICORN_CMD_ARGS` < command line.

    Where a stronger source is silent and a weaker one could not be read, the value is unknown. `-k sync` with more than
    one thread is what gunicorn makes of it: gthread.

    Raises:
        ArgumentsError: as `parse_arguments`; the server would not run with such arguments, so they were misread.
    """
    command = _said(parse_arguments(sources.command_line), None) if sources.command_line is not None else None
    env = _said(parse_cmd_args(sources.cmd_args), CMD_ARGS) if sources.cmd_args is not None else None
    file = parse_config_file(sources.config_file) if sources.config_file is not None else None
    ours = {name: (value, IN_PLACE) for name, value in sources.in_place.items()} if sources.in_place else {}
    layers: _Layers = (("command-line", command), ("environment", env), ("in-place", ours))
    settings = {name: _in_force(name, layers, file, sources.web_concurrency) for name in SETTING_NAMES}
    return tuple((settings | {"worker_class": _real_class(settings)}).values())


_Layers = Sequence[tuple[Source, Mapping[SettingName, tuple[Value, str]] | None]]


def _said(arguments: Arguments, prefix: str | None) -> dict[SettingName, tuple[Value, str]]:
    return {name: (value, f"{prefix}: {by}" if prefix else by) for name, value, by in arguments.settings}


def _in_force(name: SettingName, layers: _Layers, file: ConfigFile | None, web_concurrency: str | None) -> Setting:
    for source, said in layers:
        if said is None:
            return Setting(name=name, value=None, source="unknown")
        if name in said:
            return Setting(name=name, value=said[name][0], source=source, said_by=said[name][1])
    if file is None or name in file.computed:
        return Setting(name=name, value=None, source="unknown", said_by="config file" if file else None)
    if name in dict(file.settings):
        return Setting(name=name, value=dict(file.settings)[name], source="config-file", said_by="config file")
    if name == "workers" and web_concurrency is None:
        return Setting(name=name, value=None, source="unknown", said_by=WEB_CONCURRENCY)
    if name == "workers" and web_concurrency:
        value = from_word(name, web_concurrency, f"{WEB_CONCURRENCY}={web_concurrency}")
        return Setting(name=name, value=value, source="environment", said_by=WEB_CONCURRENCY)
    return Setting(name=name, value=DEFAULTS[name], source="default")


def _real_class(settings: Mapping[SettingName, Setting]) -> Setting:
    worker_class, threads = settings["worker_class"], settings["threads"]
    if not _is_sync(worker_class.value) or threads.value in (0, 1):
        return worker_class
    if threads.value is None:
        return Setting(name="worker_class", value=None, source="unknown", said_by="sync or gthread: threads is unknown")
    return Setting(
        name="worker_class",
        value="gthread",
        source=threads.source,
        said_by=f"{SYNC_WITH_THREADS} ({threads.said_by})",
    )


def _is_sync(worker_class: Value | None) -> bool:
    return isinstance(worker_class, str) and (worker_class == "sync" or worker_class.endswith("SyncWorker"))


def parse_release(release: str | None) -> tuple[int, ...] | None:
    """`"23.0.0"` as (23, 0, 0); None where there is no number to read."""
    match = re.match(r"\d+(?:\.\d+)*", release or "")
    return tuple(int(part) for part in match.group().split(".")) if match else None


def freezes_when_full(release: str | None) -> bool | None:
    """Whether a gthread worker of this release spins for ever when it holds worker_connections connections.

    True for 21.2.0 to 23.x (gunicorn #3146), False for others, None where the release is unknown.
    """
    parsed = parse_release(release)
    return None if parsed is None else (21, 2) <= parsed < (24,)


def connection_limit(settings: Iterable[Setting]) -> int | None:
    """Connections that one worker accepts at most; None where its class has no such limit or it is unknown.

    sync serves one at a time; gthread, gevent and eventlet stop accepting at worker_connections.
    """
    by_name = {setting.name: setting.value for setting in settings}
    worker_class, limit = by_name.get("worker_class"), by_name.get("worker_connections")
    if _is_sync(worker_class):
        return 1
    counts = isinstance(worker_class, str) and worker_class.rpartition(".")[2] in (
        "gthread", "gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet",
        "ThreadWorker", "GeventWorker", "GeventPyWSGIWorker", "EventletWorker",
    )  # fmt: skip
    return limit if counts and isinstance(limit, int) else None
