"""What a uWSGI was told to be, and what its stats server says of it.

In: the family of a look. Out: settings, hints to tell who is who, requests, and whom uWSGI's own harakiri ended. Rule:
files and environment are read again every 30 s, because a reload reads them again under the same pid; of the
environment only `UWSGI_*` and what the files refer to is kept. The stats server is asked every 5 s, and when a worker
came or went; one that does not answer is left alone for half a minute.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.report import ProcessId, RequestTotals
from wsgi_contract.servers.uwsgi import (
    effective_settings,
    has_master,
    stats_addresses,
    stats_speak_http,
    strange_listeners,
)
from wsgi_contract.servers.uwsgi_options import PREFIX, Given, Sources, files_named, options_given
from wsgi_contract.settings import Setting
from wsgi_sidecar.core.addresses import parse_stream_address
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.gathering import NO_HINTS, Hints
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.core.uwsgi import UwsgiStats
from wsgi_sidecar.core.uwsgi_family import arguments
from wsgi_sidecar.rooted import Rooted
from wsgi_sidecar.uwsgi_stats import NoAnswerError, StatsError, ask_stats

READ_EVERY_S: Final = 30.0
ASK_EVERY_S: Final = 5.0
AFTER_SILENCE_S: Final = 30.0
WITHIN_S: Final = 0.2
"""An answer takes .3 ms; a master that takes longer is stuck, and must not hold up the look that shall see it."""
AT_A_RESPAWN_S: Final = 1.5
"""The master sleeps for up to a second before it respawns whom it killed, and what it then says tells the cause."""
MOST_FILES: Final = 32
MOST_TIMED_OUT: Final = 64
_ENVIRON_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UwsgiWords:
    """What is known of one uWSGI beyond its processes.

    Attributes:
        settings: in force.
        hints: for the next look at who is who.
        stats_wanted: whether it was told to have a stats server.
        readable: whether its command line and environment could be read.
        release: None where no stats server told it.
        requests: likewise.
        timed_out: workers that its harakiri ended, the last ones.
        sources: all that decides the settings; None before anything was read.
    """

    settings: tuple[Setting, ...]
    hints: Hints = NO_HINTS
    stats_wanted: bool = False
    readable: bool = True
    release: str | None = None
    requests: RequestTotals | None = None
    timed_out: frozenset[ProcessId] = frozenset()
    sources: Sources | None = None


class UwsgiReader:
    """Reads one uWSGI after the other. Not thread-safe."""

    def __init__(self, root: str = "/proc") -> None:
        """Read nothing yet."""
        self._root = root
        self._master: ProcessId | None = None
        self._begin(None)

    def _begin(self, master: ProcessId | None) -> None:
        self._master = master
        self._read_at = self._ask_at = float("-inf")
        self._given: tuple[Given, ...] = ()
        self._words = UwsgiWords(settings=())
        self._cwd = "/"
        self._stats: UwsgiStats | None = None
        self._workers: dict[int, ProcessId] = {}
        self._timed_out: tuple[ProcessId, ...] = ()
        self._silences = 0

    def forget(self) -> None:
        """Read what it was told anew at the next look: it was told something else."""
        self._read_at = float("-inf")

    def read(self, family: Family) -> UwsgiWords:
        """What is known of this uWSGI."""
        if family.master.id != self._master:
            self._begin(family.master.id)
        if family.monotonic - self._read_at >= READ_EVERY_S:
            self._read_at = family.monotonic
            self._read(family.master)
        if self._words.stats_wanted:
            self._ask(family)
        return replace(
            self._words,
            release=self._stats.release if self._stats else None,
            requests=_requests(self._stats) if self._stats else None,
            timed_out=frozenset(self._timed_out),
        )

    def _read(self, master: Process) -> None:
        files = Rooted(master.id.pid, self._root)
        try:
            self._cwd = files.cwd()
        except OSError:
            self._cwd = "/"
        sources = _sources(master, files, self._cwd, self._root)
        self._given = options_given(sources)
        self._words = UwsgiWords(
            settings=effective_settings(sources),
            hints=Hints(has_master=has_master(self._given), strange=strange_listeners(self._given)),
            stats_wanted=bool(stats_addresses(self._given)),
            readable=sources.command_line is not None and sources.environment is not None,
            sources=sources,
        )

    def _ask(self, family: Family) -> None:
        """Ask the stats server if it is time to, and note whom harakiri has ended since it was asked before."""
        workers = {worker.process.id.pid: worker.process.id for worker in family.workers}
        changed = self._stats is not None and workers != self._workers
        if family.monotonic < self._ask_at and not changed:
            return
        answer = self._asked(family.master.id.pid, AT_A_RESPAWN_S if changed else WITHIN_S)
        self._timed_out = (*self._timed_out, *_harakiris(self._stats, answer, self._workers))[-MOST_TIMED_OUT:]
        self._silences = 0 if answer else self._silences + 1
        self._stats = answer if answer or self._silences > 1 else self._stats
        self._ask_at = family.monotonic + (AFTER_SILENCE_S if self._silences > 1 else ASK_EVERY_S)
        self._workers = workers

    def _asked(self, master: int, within_s: float) -> UwsgiStats | None:
        written = stats_addresses(self._given)
        addresses = [found for one in written if (found := parse_stream_address(one, self._cwd)) is not None]
        try:
            return ask_stats(addresses, master, http=stats_speak_http(self._given), within_s=within_s, root=self._root)
        except (NoAnswerError, StatsError, OSError):
            return None


def _sources(master: Process, files: Rooted, cwd: str, root: str) -> Sources:
    command_line = arguments(master.command)
    environ = _environ(master, root) if command_line is not None else None
    texts: dict[str, str | None] = {}
    while True:
        kept = None if environ is None else tuple(pair for pair in environ if _is_wanted(pair[0], command_line, texts))
        sources = Sources(command_line=command_line, environment=kept, files=texts)
        missing = files_named(sources)
        if not missing or len(texts) + len(missing) > MOST_FILES:
            return sources
        texts = texts | {path: _text(path, files, cwd) for path in missing}


def _is_wanted(name: str, command_line: tuple[str, ...] | None, texts: Mapping[str, str | None]) -> bool:
    if name.startswith(PREFIX):
        return True
    words = (*(command_line or ()), *(text for text in texts.values() if text))
    return any(f"$({name})" in word for word in words)


def _text(path: str, files: Rooted, cwd: str) -> str | None:
    try:
        return files.text(os.path.normpath(os.path.join(cwd, path)))
    except (OSError, ValueError):
        return None


def _environ(master: Process, root: str) -> tuple[tuple[str, str], ...] | None:
    try:
        with open(f"{root}/{master.id.pid}/environ", "rb") as file:
            data = file.read(_ENVIRON_BYTES)
    except OSError:
        return None
    entries = (entry.partition("=") for entry in os.fsdecode(data).split("\0") if entry)
    return tuple((name, value) for name, equals, value in entries if equals)


def _requests(stats: UwsgiStats) -> RequestTotals:
    """Requests by uWSGI's own numbers of its workers, which outlive a respawn as our slots do."""
    return RequestTotals(
        count=sum(worker.requests or 0 for worker in stats.workers),
        by_status=None,
        durations=None,
        duration_sum_s=sum(worker.busy_s or 0.0 for worker in stats.workers),
        by_slot=tuple((worker.number, worker.requests) for worker in stats.workers if worker.requests is not None),
    )


def _harakiris(
    before: UwsgiStats | None, now: UwsgiStats | None, workers: Mapping[int, ProcessId]
) -> tuple[ProcessId, ...]:
    """Workers whose place counts one harakiri more than when they were in it."""
    earlier = {worker.number: worker for worker in before.workers} if before else {}
    ended = []
    for worker in now.workers if now else ():
        then = earlier.get(worker.number)
        victim = workers.get(then.pid or 0) if then is not None else None
        if then is not None and victim is not None and (worker.harakiris or 0) > (then.harakiris or 0):
            ended.append(victim)
    return tuple(ended)
