"""Gunicorn's command line, and `GUNICORN_CMD_ARGS`, which is read the same way.

In: words, or the variable's text. Out: the settings that they say, or text for the variable. Rule: read with argparse
as gunicorn itself does (`gunicorn/app/base.py`, `gunicorn/config.py`), so that `-w4`, `-w 4`, `--workers=4` and
abbreviations mean here what they mean there.
"""

import argparse
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, NoReturn

from wsgi_contract.servers.gunicorn_values import ArgumentsError, from_word
from wsgi_contract.settings import SETTING_NAMES, SettingName, Value, Wanted

CMD_ARGS: Final = "GUNICORN_CMD_ARGS"

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
