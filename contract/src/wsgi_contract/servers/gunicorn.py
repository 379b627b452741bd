"""Gunicorn as both houses must know it: flags, precedence of settings, facts by release.

In: command lines, `GUNICORN_CMD_ARGS`, config file text. Out: `Setting` values, or text for `GUNICORN_CMD_ARGS`. Rule:
read with argparse as gunicorn itself does (`gunicorn/app/base.py`, `gunicorn/config.py`), so that `-w4`, `-w 4`,
`--workers=4` and abbreviations mean here what they mean there. A config file is Python: it is parsed, never executed.
"""

import argparse
import ast
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from wsgi_contract.settings import SETTING_NAMES, Setting, SettingName, Source, Value, Wanted

CMD_ARGS: Final = "GUNICORN_CMD_ARGS"
WEB_CONCURRENCY: Final = "WEB_CONCURRENCY"
DEFAULT_CONFIG: Final = "./gunicorn.conf.py"

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
FILE_NAMES: Final[Mapping[str, SettingName]] = {
    "workers": "workers",
    "threads": "threads",
    "timeout": "timeout_s",
    "graceful_timeout": "graceful_timeout_s",
    "keepalive": "keepalive_s",
    "worker_connections": "worker_connections",
    "worker_class": "worker_class",
    "max_requests": "max_requests",
    "max_requests_jitter": "max_requests_jitter",
    "backlog": "backlog",
    "preload_app": "preload_app",
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


class ArgumentsError(ValueError):
    """Arguments that gunicorn itself would refuse; the message says which."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ArgumentsError(message)


class _Remember(argparse.Action):
    """Keeps the value together with the flag that gave it; the last one wins, as in gunicorn."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        written = f"{option_string} {values}" if self.nargs != 0 else str(option_string)
        setattr(namespace, self.dest, (True if self.nargs == 0 else values, written))


def _parser() -> _Parser:
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
    """

    settings: tuple[tuple[SettingName, Value, str], ...] = ()
    config: str | None = None


def parse_arguments(tokens: Sequence[str]) -> Arguments:
    """Read gunicorn arguments, without the program's own name.

    Raises:
        ArgumentsError: a flag without its value, or a number that is not one.
    """
    found = vars(_parser().parse_known_args(list(tokens))[0])
    settings = tuple(
        (name, _typed(name, *found[name]), found[name][1]) for name in SETTING_NAMES if found[name] is not None
    )
    return Arguments(settings=settings, config=found["config"][0] if found["config"] else None)


def parse_cmd_args(text: str) -> Arguments:
    """Read the text of `GUNICORN_CMD_ARGS`.

    Raises:
        ArgumentsError: unbalanced quotes, or as `parse_arguments`.
    """
    try:
        tokens = shlex.split(text)
    except ValueError as error:
        raise ArgumentsError(f"{CMD_ARGS} cannot be split into words: {error}") from None
    return parse_arguments(tokens)


def _typed(name: SettingName, value: Any, written: str) -> Value:
    if name in ("worker_class", "preload_app"):
        return value  # type: ignore[no-any-return]
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ArgumentsError(f"{written!r}: {value!r} is not a whole number") from None


def merge_cmd_args(existing: str, wanted: Wanted) -> str:
    """The owner's `GUNICORN_CMD_ARGS` with the wanted settings behind it.

    The owner's text stays as it is, to the letter: in argparse the last of two equal flags wins, so appending is
    enough, and `$(VAR)` references that Kubernetes expands survive.

    >>> merge_cmd_args("--log-level=debug -w 2", Wanted(workers=4, timeout_s=60))
    '--log-level=debug -w 2 --workers=4 --timeout=60'

    Raises:
        ArgumentsError: the existing text cannot be read; gunicorn would not start with it either.
    """
    parse_cmd_args(existing)
    ours = " ".join(f"{FLAGS[name][-1]}={value}" for name, value in wanted.items())
    return f"{existing} {ours}" if existing.strip() and ours else existing or ours


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """What can be read from a config file without executing it.

    Attributes:
        settings: literals assigned at the top level.
        computed: names assigned from something that is not a literal: in force, but unknown to us.
    """

    settings: tuple[tuple[SettingName, Value], ...] = ()
    computed: tuple[SettingName, ...] = ()


def parse_config_file(source: str) -> ConfigFile:
    """Read a gunicorn config file's literal assignments.

    Raises:
        ArgumentsError: not Python.
    """
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentsError(f"the config file is not Python: {error}") from None
    values: dict[SettingName, Value] = {}
    computed: set[SettingName] = set()
    for target, value in _assignments(module):
        name = FILE_NAMES.get(target)
        if name is None:
            continue
        literal = _literal(value)
        values.pop(name, None)
        computed.discard(name)
        if literal is None:
            computed.add(name)
        else:
            values[name] = literal
    # What an if, a loop or a try binds depends on things that only running the file would tell.
    for name in _bound_conditionally(module):
        values.pop(name, None)
        computed.add(name)
    return ConfigFile(settings=tuple(values.items()), computed=tuple(sorted(computed)))


def _assignments(module: ast.Module) -> Iterable[tuple[str, ast.expr]]:
    for node in module.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value


def _bound_conditionally(module: ast.Module) -> Iterable[SettingName]:
    blocks = (node for node in module.body if isinstance(node, (ast.If, ast.For, ast.While, ast.Try, ast.With)))
    for block in blocks:
        for node in ast.walk(block):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in FILE_NAMES:
                yield FILE_NAMES[node.id]


def _literal(node: ast.expr) -> Value | None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, (int, float, str, bool)) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that decides a gunicorn's settings, each part None where it could not be read.

    Attributes:
        command_line: arguments behind the program's name; None where the title was overwritten (setproctitle).
        cmd_args: text of `GUNICORN_CMD_ARGS` at the start; empty if it was not set.
        web_concurrency: text of `WEB_CONCURRENCY`; empty if it was not set.
        config_file: text of the config file; empty if there is none.
    """

    command_line: tuple[str, ...] | None
    cmd_args: str | None
    web_concurrency: str | None
    config_file: str | None


def effective_settings(sources: Sources) -> tuple[Setting, ...]:
    """The settings in force, one per name, in gunicorn's order: file < `GUNICORN_CMD_ARGS` < command line.

    Where a stronger source is silent and a weaker one could not be read, the value is unknown. `-k sync` with more than
    one thread is what gunicorn makes of it: gthread.

    Raises:
        ArgumentsError: as `parse_arguments`; the server would not run with such arguments, so they were misread.
    """
    command = _said(parse_arguments(sources.command_line), None) if sources.command_line is not None else None
    env = _said(parse_cmd_args(sources.cmd_args), CMD_ARGS) if sources.cmd_args is not None else None
    file = parse_config_file(sources.config_file) if sources.config_file is not None else None
    settings = {name: _in_force(name, command, env, file, sources.web_concurrency) for name in SETTING_NAMES}
    return tuple((settings | {"worker_class": _real_class(settings)}).values())


def _said(arguments: Arguments, prefix: str | None) -> dict[SettingName, tuple[Value, str]]:
    return {name: (value, f"{prefix}: {by}" if prefix else by) for name, value, by in arguments.settings}


def _in_force(
    name: SettingName,
    command: Mapping[SettingName, tuple[Value, str]] | None,
    env: Mapping[SettingName, tuple[Value, str]] | None,
    file: ConfigFile | None,
    web_concurrency: str | None,
) -> Setting:
    layers: tuple[tuple[Source, Mapping[SettingName, tuple[Value, str]] | None], ...] = (
        ("command-line", command),
        ("environment", env),
    )
    for source, said in layers:
        if said is None:
            return Setting(name=name, value=None, source="unknown")
        if name in said:
            return Setting(name=name, value=said[name][0], source=source, said_by=said[name][1])
    if file is None or name in file.computed:
        return Setting(name=name, value=None, source="unknown", said_by="config file" if file else None)
    if name in dict(file.settings):
        return Setting(name=name, value=dict(file.settings)[name], source="config-file", said_by="config file")
    if name == "workers" and (web_concurrency is None or web_concurrency):
        count = int(web_concurrency) if web_concurrency and web_concurrency.strip().isdecimal() else None
        source = "environment" if count is not None else "unknown"
        return Setting(name=name, value=count, source=source, said_by=WEB_CONCURRENCY)
    return Setting(name=name, value=DEFAULTS[name], source="default")


def _real_class(settings: Mapping[SettingName, Setting]) -> Setting:
    worker_class, threads = settings["worker_class"], settings["threads"]
    if worker_class.value != "sync" or threads.value == 1:
        return worker_class
    if threads.value is None:
        return Setting(name="worker_class", value=None, source="unknown", said_by="sync or gthread: threads is unknown")
    return Setting(
        name="worker_class",
        value="gthread",
        source=threads.source,
        said_by=f"sync with threads > 1 ({threads.said_by})",
    )


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
    if worker_class == "sync":
        return 1
    counts = isinstance(worker_class, str) and worker_class.rpartition(".")[2] in (
        "gthread", "gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet",
        "ThreadWorker", "GeventWorker", "GeventPyWSGIWorker", "EventletWorker",
    )  # fmt: skip
    return limit if counts and isinstance(limit, int) else None
