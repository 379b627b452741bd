"""What the server was told to be, and what it says of itself: settings, release, requests.

In: the family of a look. Out: `ServerWords`. Rule: the server's own files and words are read first; a source that asks
the server (gunicorn's control socket, uWSGI's stats socket) is extra, seldom asked, and never needed.
"""

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from wsgi_contract.report import ProcessId, RequestTotals, Unknown
from wsgi_contract.servers import uwsgi_options
from wsgi_contract.servers.gunicorn import ArgumentsError, effective_settings, parse_release
from wsgi_contract.settings import SETTING_NAMES, Setting
from wsgi_sidecar.control_socket import ControlError, NoAnswerError, ask_control, find_sockets
from wsgi_sidecar.core.control import SPEAKS_SINCE, filled, socket_paths, without_answered
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.gathering import NO_HINTS, Hints
from wsgi_sidecar.core.unknowns import tell_unknowns
from wsgi_sidecar.server_files import ServerFacts, ServerFiles
from wsgi_sidecar.uwsgi_words import UwsgiReader, UwsgiWords

ASK_EVERY_S: Final = 30.0
"""An answer costs the server's Python some 2 ms."""
SOONEST_S: Final = 1.0
"""How soon one that did not answer is asked again at first; each pause is as long as all before it together."""

_settings = lru_cache(maxsize=4)(effective_settings)
"""Building argparse's parser twice would be a third of a look's cost; words change with the master or its file only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerWords:
    """What is known of one server beyond its processes.

    Attributes:
        release: None where it could not be read.
        cmd_args: see `ServerInfo`.
        settings: in force.
        unknowns: what could not be seen.
        requests: that it says it answered; None where it does not say, or is heard over statsd.
        hints: for the next look at who is who.
        timed_out: workers that the server says it ended for a request that took too long.
        uwsgi: all that decides a uWSGI's settings; None for another server.
    """

    release: str | None = None
    cmd_args: str | None = None
    settings: tuple[Setting, ...] = ()
    unknowns: tuple[Unknown, ...] = ()
    requests: RequestTotals | None = None
    hints: Hints = NO_HINTS
    timed_out: frozenset[ProcessId] = frozenset()
    uwsgi: uwsgi_options.Sources | None = None


NOTHING_SAID: Final = ServerWords()


class ServerReader:
    """Reads and asks one server at a time. Not thread-safe."""

    def __init__(self, files: ServerFiles) -> None:
        """Read nothing yet.

        Args:
            files: reads what a gunicorn was started with.
        """
        self._files = files
        self._control = _Control()
        self._uwsgi = UwsgiReader()
        self._last = NOTHING_SAID

    @property
    def hints(self) -> Hints:
        """What the last reading tells the next look."""
        return self._last.hints

    @property
    def timed_out(self) -> frozenset[ProcessId]:
        """See `ServerWords.timed_out`."""
        return self._last.timed_out

    @property
    def uwsgi(self) -> uwsgi_options.Sources | None:
        """See `ServerWords.uwsgi`."""
        return self._last.uwsgi

    def forget(self) -> None:
        """Read what the server was told anew at the next look: it was told something else."""
        self._uwsgi.forget()

    def read(self, family: Family | None) -> ServerWords:
        """What is known of this server."""
        if family is None:
            self._last = NOTHING_SAID
        elif family.kind == "gunicorn":
            self._last = self._read_gunicorn(family)
        elif family.kind == "uwsgi":
            self._last = _read_uwsgi(self._uwsgi.read(family), family)
        else:
            self._last = ServerWords(settings=unknown_settings(), unknowns=_seen_from_outside(family))
        return self._last

    def _read_gunicorn(self, family: Family) -> ServerWords:
        facts = self._files.read(family.master)
        unknowns = tell_unknowns(family, facts.sources, facts.release, uid=os.geteuid(), gid=os.getegid())
        try:
            settings = _settings(facts.sources)
        except ArgumentsError as error:
            settings = unknown_settings()
            unknowns += (_unreadable_settings(error),)
        settings, unknowns = self._control.complete(family, facts, settings, unknowns)
        return ServerWords(release=facts.release, cmd_args=facts.sources.cmd_args, settings=settings, unknowns=unknowns)


def _seen_from_outside(family: Family) -> tuple[Unknown, ...]:
    """What the kernel hides of any server; of settings and release nothing is said here."""
    return tell_unknowns(family, None, "", uid=os.geteuid(), gid=os.getegid())


def _read_uwsgi(words: UwsgiWords, family: Family) -> ServerWords:
    unknowns = _seen_from_outside(family)
    if not words.readable:
        unknowns += (
            Unknown(
                what="settings",
                why="uWSGI's command line or environment could not be read (auto-procname overwrites them)",
                remedy="remove auto-procname, or run the sidecar as the server's user and group",
            ),
        )
    if words.requests is None:
        unknowns += (
            Unknown(
                what="requests, harakiris and release",
                why="its stats server does not answer" if words.stats_wanted else "uWSGI has no stats server",
                remedy="set UWSGI_STATS=127.0.0.1:1717 in the environment of the server",
            ),
        )
    return ServerWords(
        release=words.release,
        settings=words.settings,
        unknowns=unknowns,
        requests=words.requests,
        hints=words.hints,
        timed_out=words.timed_out,
        uwsgi=words.sources,
    )


def unknown_settings() -> tuple[Setting, ...]:
    """All of them, none read."""
    return tuple(Setting(name=name, value=None, source="unknown") for name in SETTING_NAMES)


class _Control:
    """Gunicorn's control socket, asked only for settings that nothing else tells."""

    def __init__(self) -> None:
        self._asked: _Asked | None = None
        self._answer: tuple[Setting, ...] = ()

    def complete(
        self, family: Family, facts: ServerFacts, settings: tuple[Setting, ...], unknowns: tuple[Unknown, ...]
    ) -> tuple[tuple[Setting, ...], tuple[Unknown, ...]]:
        """The settings with what the arbiter says filled in, and what stays unknown."""
        release = parse_release(facts.release)
        if all(setting.value is not None for setting in settings) or (release and release < SPEAKS_SINCE):
            return settings, unknowns
        master, now = family.master.id, family.monotonic
        if self._asked is None or self._asked.master != master:
            self._asked, self._answer = _Asked(master=master, since=now, last=now), heard_settings(master.pid, facts)
        elif now - self._asked.last >= self._asked.pause_s(answered=bool(self._answer)):
            self._asked, self._answer = replace(self._asked, last=now), heard_settings(master.pid, facts)
        whole = filled(settings, self._answer)
        return whole, without_answered(unknowns, settings, whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Whom we ask over its control socket, since when, and when last (monotonic seconds)."""

    master: ProcessId
    since: float
    last: float

    def pause_s(self, *, answered: bool) -> float:
        """Until it is asked again: soon at first, since the socket of a young server comes after its workers."""
        return ASK_EVERY_S if answered else min(ASK_EVERY_S, max(SOONEST_S, self.last - self.since))


def heard_settings(master: int, facts: ServerFacts) -> tuple[Setting, ...]:
    """The settings that a gunicorn says it runs with; empty where it does not speak (before 25.1, or switched off)."""
    arguments = ((facts.sources.cmd_args or "").split(), facts.sources.command_line or ())
    words = [word for part in arguments for word in part]
    named = socket_paths(words, runtime_folder=None, home=None, cwd=_cwd(master))
    try:
        return ask_control((*named, *find_sockets(master)), master).settings
    except (NoAnswerError, ControlError, OSError):
        return ()


def _cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return "/"


def _unreadable_settings(error: ArgumentsError) -> Unknown:
    return Unknown(
        what="settings",
        why=f"the server's arguments could not be read as gunicorn reads them: {error}",
        remedy="start gunicorn with plain flags, or report this command line as a bug",
    )
