"""The config file that lets a running gunicorn's settings change: the owner's own file, then the sidecar's words.

In: where the sidecar writes, the settings that the pod was made with. Out: the text of a config file, and from such a
text the same again. Rule: what decides is data: the file is the same program always, with its data in the first line,
so that it can be read without being executed.

Measured on 20.1.0, 23.0.0 and 27.0.1 (`tests/incidents/test_in_place.py`): of several `-c` in `GUNICORN_CMD_ARGS` the
last one counts, so ours hides the owner's, and runs it first; a `-c` on the command line hides ours. And a reload (HUP)
that finds a broken config file *ends the server*, with all requests in it: so what this file cannot read at a reload it
leaves as it was loaded last.
"""

import json
import shlex
from dataclasses import dataclass
from typing import Final

from wsgi_contract.in_place import OrderError, parse_settings
from wsgi_contract.servers.gunicorn_values import ArgumentsError
from wsgi_contract.settings import Wanted

FLAG: Final = "--config"
_MARK: Final = "# wsgi-operator in place 1: "
_PROGRAM: Final = """\
# The owner's own config file first, then what the sidecar wrote last, or else what the pod was made with. A reload that
# finds something broken keeps what was loaded last: plain gunicorn would end, and all requests with it.


def _load():
    import importlib, json, os, shlex, sys, traceback, types
    from gunicorn.config import Config

    with open(__file__) as file:
        data = json.loads(file.readline().partition(": ")[2])
    words = [w for w in shlex.split(os.environ.get("GUNICORN_CMD_ARGS", "")) if w != "--config=" + __file__]
    owners = Config().parser().parse_args(words).config
    if owners is None and os.path.exists("gunicorn.conf.py"):
        owners = os.path.abspath("gunicorn.conf.py")

    def read():
        found = {}
        if owners and owners.startswith("python:"):
            found.update(vars(importlib.import_module(owners[len("python:"):])))
        elif owners:
            path = owners[len("file:"):] if owners.startswith("file:") else owners
            module = sys.modules["__config__"] = types.ModuleType("__config__")
            module.__file__ = path
            with open(path, "rb") as file:
                exec(compile(file.read(), path, "exec"), vars(module))
            found.update(vars(module))
        settings = data["settings"]
        try:
            with open(data["live"]) as file:
                settings = json.load(file)["settings"]
        except (OSError, ValueError, KeyError):
            pass
        found.update({n[:-2] if n.endswith("_s") else n: value for n, value in settings.items()})
        trial = Config()
        for name, value in found.items():
            if name in trial.settings:
                trial.set(name.lower(), value)
        return {name: value for name, value in found.items() if name in trial.settings}

    kept = sys.modules.setdefault("_wsgi_in_place", types.ModuleType("_wsgi_in_place"))
    try:
        kept.found = read()
    except BaseException:
        if not hasattr(kept, "found"):
            raise
        traceback.print_exc()
        print("wsgi-operator: the settings stay what they were before this reload", file=sys.stderr, flush=True)
    return kept.found


globals().update(_load())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What such a config file says.

    Attributes:
        live: path of the file that the sidecar writes, as the server sees it.
        settings: in force until the sidecar wrote any.
    """

    live: str
    settings: Wanted


def render_boot(boot: Boot) -> str:
    """The text of the config file."""
    data = {"live": boot.live, "settings": dict(boot.settings.items())}
    return f"{_MARK}{json.dumps(data, sort_keys=True)}\n{_PROGRAM}"


def parse_boot(text: str) -> Boot | None:
    """What a config file of ours says; None if it is none, or another program than ours follows its first line."""
    first, _, program = text.partition("\n")
    if not first.startswith(_MARK) or program != _PROGRAM:
        return None
    try:
        data = json.loads(first.removeprefix(_MARK))
        return Boot(live=str(data["live"]), settings=parse_settings(data["settings"]))
    except (ValueError, TypeError, KeyError, OrderError):
        return None


def point_config(existing: str, path: str) -> str:
    """`GUNICORN_CMD_ARGS` that has gunicorn read our config file; appended, for the last one counts."""
    ours = f"{FLAG}={path}"
    return existing if existing.endswith(ours) else f"{existing} {ours}".strip()


def owners_cmd_args(cmd_args: str, path: str) -> str:
    """`GUNICORN_CMD_ARGS` without our config file: the words that the owner wrote.

    Raises:
        ArgumentsError: it cannot be split into words.
    """
    try:
        words = shlex.split(cmd_args)
    except ValueError as error:
        raise ArgumentsError(f"GUNICORN_CMD_ARGS cannot be split into words: {error}") from None
    return shlex.join(word for word in words if word != f"{FLAG}={path}")
