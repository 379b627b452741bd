"""The config file that lets a running uWSGI's settings change: an ini of ours, named by `UWSGI_INI`.

In: settings; what a uWSGI was told. Out: the file's text, which file it is, and what would beat it. Rule: uWSGI reads
its files again at a reload (HUP, `r` on its master fifo, a touched `touch-reload`), under the same pid, and *ends* if
they are such as it would not start with: so what it would not take is never written. Measured on 2.0.31
(`tests/incidents/test_in_place_uwsgi.py`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from wsgi_contract.in_place import parse_settings
from wsgi_contract.servers.uwsgi import OPTIONS, cheaper_of, effective_settings, has_master
from wsgi_contract.servers.uwsgi_options import Sources, options_given
from wsgi_contract.settings import SettingName, Wanted

VARIABLE: Final = "UWSGI_INI"
_HEAD: Final = "[uwsgi]\n; wsgi-operator in place 1\n"
_ANY: Final = Wanted(
    workers=3, threads=3, timeout_s=77, graceful_timeout_s=77, keepalive_s=77, max_requests=777, max_requests_jitter=77
)
"""Values that nobody else gives: which of them come through shows what is stronger."""


def render_ini(settings: Wanted) -> str:
    """The file's text.

    >>> print(render_ini(Wanted(workers=4)), end="")
    [uwsgi]
    ; wsgi-operator in place 1
    processes = 4
    """
    said = (f"{OPTIONS[name]} = {value}\n" for name, value in settings.items() if name in OPTIONS)
    return _HEAD + "".join(said)


def parse_ini(text: str) -> Wanted | None:
    """The settings in a file of ours; None if it is none, or says what we would not."""
    names = {option: name for name, option in OPTIONS.items()}
    lines = [line.partition(" = ") for line in text.removeprefix(_HEAD).splitlines()]
    try:
        found = parse_settings({names[option]: int(value) for option, _, value in lines})
    except (KeyError, ValueError):
        return None
    return found if text == render_ini(found) else None


def our_ini(sources: Sources) -> str | None:
    """The path of the file of ours that it reads, as it is written; None if it reads none."""
    return next((path for path, text in sources.files.items() if text and text.startswith(_HEAD)), None)


def stronger(sources: Sources, path: str) -> Mapping[SettingName, str]:
    """The settings that our file cannot give, with the words that can."""
    ours = replace(sources, files={**sources.files, path: render_ini(_ANY)})
    told = {each.name: each for each in effective_settings(ours)}
    beaten = {n: told[n].said_by or told[n].source for n, value in _ANY.items() if told[n].value != value}
    return beaten | {"worker_connections": "uWSGI itself, which has no such setting"}


def least_workers(sources: Sources) -> tuple[int, str] | None:
    """The least number of workers that it would start with, and why; None where any will do."""
    cheaper = cheaper_of(options_given(sources))
    if not isinstance(cheaper.value, int) or cheaper.value < 1:
        return None
    return cheaper.value + 1, f"uWSGI does not start with as few workers as {cheaper.said_by}"


def reloads_by_itself(sources: Sources, path: str) -> bool:
    """Whether it reloads when our file is written (`touch-reload`), so that nobody needs to tell it."""
    return any(one.option == "touch-reload" and one.value == path for one in options_given(sources))


def can_reload(sources: Sources) -> bool:
    """Whether there is a master that survives its reload."""
    return has_master(options_given(sources)) is True
