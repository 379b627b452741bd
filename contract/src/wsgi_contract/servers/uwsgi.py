"""uWSGI as both houses must know it: which settings are in force, who said them, and how to say others.

In: `uwsgi_options.Sources`. Out: `Setting` values, or variables for the container's environment. Rule: the last word on
an option is in force. A file that is named on the command line beats the environment as the command line itself does:
what it says is pinned (source `command-line`), and to free it `UWSGI_INI` must name the file instead.

uWSGI's words for what gunicorn calls otherwise: `harakiri` is `timeout_s`, and bounds a request in any worker;
`worker-reload-mercy` is `graceful_timeout_s`; `max-requests-delta` is `max_requests_jitter` (worker n serves n times
the delta more); `preload_app` is the default, `lazy-apps` its opposite; `async`, `gevent` count `worker_connections`.
With `listen` above net.core.somaxconn, or `cheaper` not below the number of workers, uWSGI does not start.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from wsgi_contract.servers.uwsgi_options import PREFIX, SYNONYMS, Given, Sources, options_given
from wsgi_contract.settings import SETTING_NAMES, Setting, SettingName, Value, Wanted

OPTIONS: Final[Mapping[SettingName, str]] = {
    "workers": "processes",
    "threads": "threads",
    "timeout_s": "harakiri",
    "graceful_timeout_s": "worker-reload-mercy",
    "keepalive_s": "http-keepalive",
    "max_requests": "max-requests",
    "max_requests_jitter": "max-requests-delta",
    "backlog": "listen",
}
DEFAULTS: Final[Mapping[SettingName, Value]] = {
    "workers": 1,
    "threads": 1,
    "timeout_s": 0,
    "graceful_timeout_s": 60,
    "keepalive_s": 0,
    "max_requests": 0,
    "max_requests_jitter": 0,
    "backlog": 100,
}
_STRANGE: Final = frozenset({"http", "https", "https2", "fastrouter", "rawrouter", "sslrouter", "stats"})
_NUMBER: Final = re.compile(r"[+-]?\d{1,9}")


class SettingsError(ValueError):
    """What is wanted cannot be had from uWSGI; the message says why and what to do."""


def effective_settings(sources: Sources) -> tuple[Setting, ...]:
    """The settings in force, one per name of `SETTING_NAMES`."""
    last = _Last(options_given(sources))
    settings = {name: last.number(name, option) for name, option in OPTIONS.items()}
    settings["worker_class"], settings["worker_connections"] = _worker_class(last, settings["threads"])
    lazy = last.switch("preload_app", "lazy-apps", default=False)
    settings["preload_app"] = replace(lazy, value=None if lazy.value is None else not lazy.value)
    return tuple(settings[name] for name in SETTING_NAMES)


def stats_addresses(given: Sequence[Given]) -> tuple[str, ...]:
    """Where stats servers listen, as written: `127.0.0.1:1717`, `:1717`, `/run/stats.sock`, `@abstract`."""
    return tuple(dict.fromkeys(one.value for one in given if one.option == "stats" and one.value))


def stats_speak_http(given: Sequence[Given]) -> bool:
    """Whether the stats servers wait for an HTTP request before they answer."""
    return _Last(given).switch("preload_app", "stats-http", default=False).value is True


def strange_listeners(given: Sequence[Given]) -> tuple[str, ...]:
    """Listening sockets of a uWSGI that are not its workers': those of its routers and stats servers.

    As the kernel lists them: `0.0.0.0:8080` for `http = :8080`, `unix:/run/stats.sock`.
    """
    bound = (one.value.partition(",")[0] for one in given if one.option in _STRANGE and one.value)
    return tuple(dict.fromkeys(_as_listed(address) for address in bound))


def _as_listed(address: str) -> str:
    if address.startswith(":"):
        return f"0.0.0.0{address}"
    return address if ":" in address and "/" not in address else f"unix:{address}"


def has_master(given: Sequence[Given]) -> bool | None:
    """Whether there is a master process; without one a worker that is killed never returns. None where unknown."""
    value = _Last(given).switch("preload_app", "master", default=False).value
    return value if isinstance(value, bool) else None


def cheaper_of(given: Sequence[Given]) -> Setting:
    """The least number of workers that `cheaper` keeps; 0 by default: it is off, and all of them are kept."""
    return _Last(given).number("workers", "cheaper", default=0)


def merge_environment(existing: Mapping[str, str], wanted: Wanted) -> dict[str, str]:
    """The variables to set, beside the owner's own, so that the wanted settings come true.

    Where the owner uses another name for the same option (`UWSGI_WORKERS`), that name is used: of two the later one in
    the environment would win, and the order is not ours.

    >>> merge_environment({"UWSGI_WORKERS": "2"}, Wanted(workers=4, timeout_s=60))
    {'UWSGI_WORKERS': '4', 'UWSGI_HARAKIRI': '60'}

    Raises:
        SettingsError: uWSGI has no such setting, or would not start with it.
    """
    if wanted.worker_connections is not None:
        raise SettingsError("uWSGI has no worker_connections; remove it from the settings and use threads")
    cheaper = _number(existing.get("UWSGI_CHEAPER", ""))
    if wanted.workers is not None and cheaper is not None and cheaper >= wanted.workers:
        raise SettingsError(
            f"uWSGI would not start: UWSGI_CHEAPER={cheaper} must be lower than the {wanted.workers} workers wanted; "
            "lower it, or raise the lower bound of workers"
        )
    merged: dict[str, str] = {}
    for name, number in wanted.items():
        for variable in _variables(existing, OPTIONS[name]):
            merged[variable] = str(number)
    return merged


def _variables(existing: Mapping[str, str], option: str) -> tuple[str, ...]:
    names = (option, *(other for other, first in SYNONYMS.items() if first == option))
    variables = tuple(PREFIX + name.upper().replace("-", "_") for name in names)
    return tuple(variable for variable in variables if variable in existing) or variables[:1]


class _Last:
    """The last word on each option."""

    def __init__(self, given: Sequence[Given]) -> None:
        self._by_option: dict[str, Given] = {}
        self._veil: Given | None = None
        for one in given:
            if one.option:
                self._by_option[one.option] = one
            else:
                self._by_option, self._veil = {}, one
        self.emperor = "emperor" in self._by_option

    def of(self, option: str) -> Given | None:
        """What was said last; None if nothing was, or if something unreadable may have."""
        return self._by_option.get(option)

    def number(self, name: SettingName, option: str, default: Value | None = None) -> Setting:
        """A whole number as `atoi` reads it: leading digits count, `4 ; four` is 4."""
        said = self.of(option)
        number = _number(said.value) if said is not None and said.value is not None else None
        if said is not None and number is not None and not self.emperor:
            return Setting(name=name, value=number, source=said.source, said_by=said.said_by)
        return self.silent(name, DEFAULTS[name] if default is None else default, said)

    def switch(self, name: SettingName, option: str, *, default: bool) -> Setting:
        """On or off, as uWSGI reads it: on, unless its value is one of four words for off."""
        said = self.of(option)
        if said is None or said.value is None or self.emperor:
            return self.silent(name, default, said)
        value = said.value.lower() not in ("false", "off", "no", "0")
        return Setting(name=name, value=value, source=said.source, said_by=said.said_by)

    def silent(self, name: SettingName, default: Value, said: Given | None) -> Setting:
        """The default, unless somebody said something that we do not understand or could not read."""
        veil = said or self._veil
        if self.emperor:
            return Setting(name=name, value=None, source="unknown", said_by="emperor: each vassal has its own settings")
        if veil is not None:
            return Setting(name=name, value=None, source="unknown", said_by=veil.said_by)
        return Setting(name=name, value=default, source="default")


def _number(text: str) -> int | None:
    match = _NUMBER.match(text.strip())
    return int(match[0]) if match else None


def _worker_class(last: _Last, threads: Setting) -> tuple[Setting, Setting]:
    """The kind of worker and its connections: `gevent`, `async`, `threads` or `sync`, as uWSGI combines its options."""
    for option in ("gevent", "async"):
        said = last.of(option)
        count = _number(said.value or "") if said is not None else None
        if said is not None and count is not None and count > 1:
            by = said.said_by
            kind = Setting(name="worker_class", value=option, source=said.source, said_by=by)
            return kind, Setting(name="worker_connections", value=count, source=said.source, said_by=by)
    none = Setting(name="worker_connections", value=None, source="unknown", said_by="uWSGI has no such setting")
    if not isinstance(threads.value, int):
        return Setting(name="worker_class", value=None, source="unknown", said_by=threads.said_by), none
    kind_of = "threads" if threads.value > 1 else "sync"
    return Setting(name="worker_class", value=kind_of, source=threads.source, said_by=threads.said_by), none
