"""Gunicorn as both houses must know it: flags, precedence of settings, facts by release.

In: command lines, `GUNICORN_CMD_ARGS`, config file text. Out: `Setting` values, or text for `GUNICORN_CMD_ARGS`. Rule:
read with argparse as gunicorn itself does (`gunicorn/app/base.py`, `gunicorn/config.py`), so that `-w4`, `-w 4`,
`--workers=4` and abbreviations mean here what they mean there. A config file is Python: it is parsed, never executed.
"""

import argparse
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, NoReturn

from wsgi_contract.servers.gunicorn_file import ConfigFile, parse_config_file
from wsgi_contract.servers.gunicorn_values import ArgumentsError, from_word
from wsgi_contract.settings import SETTING_NAMES, Setting, SettingName, Source, Value, Wanted

__all__ = [
    "CMD_ARGS", "DEFAULTS", "DEFAULT_CONFIG", "FLAGS", "WEB_CONCURRENCY", "Arguments", "ArgumentsError", "ConfigFile",
    "Sources", "connection_limit", "effective_settings", "freezes_when_full", "merge_cmd_args", "parse_arguments",
    "parse_cmd_args", "parse_config_file", "parse_release",
]  # fmt: skip

CMD_ARGS: Final = "GUNICORN_CMD_ARGS"
WEB_CONCURRENCY: Final = "WEB_CONCURRENCY"
SYNC_WITH_THREADS: Final = "sync with threads > 1"
"""How `said_by` of worker_class begins where gunicorn turned sync into gthread."""

DEFAULT_CONFIG: Final = "./gunicorn.conf.py"
IN_PLACE: Final = "the sidecar, in place"
"""`said_by` of a setting that a running server was given."""

FLAGS: Final[Mapping[SettingName, tuple[str, ...]]] = {
    "workers": ("-w", "--workers"),
    "threads": ("--threads",),
    "timeout_s": ("-t", "--timeout"),
    "graceful_timeout_s": ("--graceful-timeout",),
    "keepalive_s": ("--keep-alive",),
    "worker_connections": ("--worker-connections",),
    "worker_class": ("-k", "--worker-class"),
    "max_requests": ("--max-requests",),
    "max_requests_jitter": ("--max-requests-jitter",),
    "backlog": ("--backlog",),
    "preload_app": ("--preload",),
}
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

# Flags whose value must not be mistaken for one of ours; the short ones matter because they may be bundled (-Dw4).
_OTHER_WITH_VALUE: Final = (
    ("-c", "--config"), ("-b", "--bind"), ("-p", "--pid"), ("-u", "--user"), ("-g", "--group"), ("-m", "--umask"),
    ("-n", "--name"), ("-e", "--env"), ("--access-logfile",), ("--access-logformat",),
    ("--error-logfile", "--log-file"), ("--log-level",), ("--worker-tmp-dir",), ("--chdir",), ("--pythonpath",),
    ("--paste", "--paster"), ("--statsd-host",), ("--statsd-prefix",), ("--forwarded-allow-ips",), ("--certfile",),
    ("--keyfile",),
)  # fmt: skip
_OTHER_WITHOUT_VALUE: Final = (("-D", "--daemon"), ("-R", "--enable-stdio-inheritance"), ("--reload",), ("--spew",))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentsError(message)


class _Remember(argparse.Action):
    """Keeps the value together with the flag that gave it; the last one wins, as in gunicorn."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if self.nargs != 0 and not isinstance(values, str):
            # Up to Python 3.12 argparse takes the `--` out of `--workers=--`, and hands over an empty list.
            parser.error(f"argument {option_string}: expected one argument")
        written = f"{option_string} {values}" if self.nargs != 0 else str(option_string)
        setattr(namespace, self.dest, (True if self.nargs == 0 else values, written))


@cache
def _parser() -> _Parser:
    """Made once: making it takes longer than anything else in a round of the operator."""
    parser = _Parser(add_help=False)
    for name, flags in FLAGS.items():
        parser.add_argument(*flags, dest=name, action=_Remember, nargs=0 if name == "preload_app" else None)
    for flags in _OTHER_WITH_VALUE:
        parser.add_argument(*flags, action=_Remember)
    for flags in _OTHER_WITHOUT_VALUE:
        parser.add_argument(*flags, action=_Remember, nargs=0)
    return parser


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What one list of arguments says.

    Attributes:
        settings: (name, value, the words that said it).
        config: the `-c` value, if given.
        chdir: the `--chdir` value, if given; gunicorn goes there after it found its config file.
    """

    settings: tuple[tuple[SettingName, Value, str], ...] = ()
    config: str | None = None
    chdir: str | None = None


def parse_arguments(tokens: Sequence[str]) -> Arguments:
    """Read gunicorn arguments, without the program's own name.

    Raises:
        ArgumentsError: a flag without its value, an ambiguous one, or a number that is not one.
    """
    found = _said_by_flags(tokens)
    settings = tuple((name, _value(name, *found[name]), found[name][1]) for name in SETTING_NAMES if name in found)
    other = {name: found[name][0] for name in ("config", "chdir") if name in found}
    return Arguments(settings=settings, config=other.get("config"), chdir=other.get("chdir"))


def parse_cmd_args(text: str) -> Arguments:
    """Read the text of `GUNICORN_CMD_ARGS`.

    Raises:
        ArgumentsError: unbalanced quotes, or as `parse_arguments`.
    """
    return parse_arguments(_words(text))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ArgumentsError(f"{CMD_ARGS} cannot be split into words: {error}") from None


def _said_by_flags(tokens: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Per flag its last value, still as written, and the words that gave it."""
    found = vars(_parser().parse_known_args(list(tokens))[0])
    return {name: said for name, said in found.items() if said is not None}


def _value(name: SettingName, value: Any, written: str) -> Value:
    return True if value is True else from_word(name, value, written)


@lru_cache(maxsize=4)
def may_hold_secrets(cmd_args: str) -> bool:
    """Whether a `GUNICORN_CMD_ARGS` may hold something that must not leave the pod.

    Remembered, for it is asked at every look of the sidecar, and argparse takes half a millisecond to answer.

    `--env NAME=value` sets variables of the app, and an address may carry a password. A text that cannot be read may
    hold anything.
    """
    try:
        found = _said_by_flags(shlex.split(cmd_args))
    except ValueError:
        return True
    return "env" in found or re.search(r"://[^\s/]*@", cmd_args) is not None


def merge_cmd_args(existing: str, wanted: Wanted) -> str:
    """The owner's `GUNICORN_CMD_ARGS` with the wanted settings behind it.

    The owner's text stays as it is, to the letter: in argparse the last of two equal flags wins, so appending is
    enough, and `$(VAR)` references that Kubernetes expands survive.

    >>> merge_cmd_args("--log-level=debug -w $(N)", Wanted(workers=4, timeout_s=60))
    '--log-level=debug -w $(N) --workers=4 --timeout=60'

    Raises:
        ArgumentsError: the existing text cannot be read (gunicorn would not start with it either), or it ends the
            flags with `--`, so that nothing behind it would count.
    """
    _said_by_flags(_words(existing))
    ours = " ".join(f"{FLAGS[name][-1]}={value}" for name, value in wanted.items())
    merged = " ".join(part for part in (existing, ours) if part.strip())
    said = _said_by_flags(_words(merged))
    if any(name not in said or said[name][0] != str(value) for name, value in wanted.items()):
        raise ArgumentsError(f"{CMD_ARGS} {existing!r} hides what is written behind it from gunicorn; remove the `--`")
    return merged


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
