"""By what a server's settings can be changed in place, and the file that it reads: found, written, read back.

In: the family, and what the server was told. Out: `Lever`; or what is wrong with writing. Rule: written to a new file,
renamed over the old one, and read back *through the server's own root*: what the sidecar wrote and what the server will
read are then the same file, or nobody is told anything.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsgi_contract.in_place import BOUNDS
from wsgi_contract.servers import uwsgi_options
from wsgi_contract.servers.gunicorn import CMD_ARGS, ArgumentsError, parse_arguments
from wsgi_contract.servers.gunicorn_in_place import Boot, point_config, render_boot
from wsgi_contract.servers.uwsgi_in_place import VARIABLE as UWSGI_INI
from wsgi_contract.servers.uwsgi_in_place import (
    can_reload,
    least_workers,
    our_ini,
    parse_ini,
    reloads_by_itself,
    render_ini,
    stronger,
)
from wsgi_contract.settings import Setting, Wanted
from wsgi_sidecar.config import ConfigError
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.journal import MOST_BYTES, Journal, dump_journal, parse_journal, taken_back
from wsgi_sidecar.core.ordering import Lever
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.rooted import Rooted
from wsgi_sidecar.server_files import ServerFacts

JOURNAL: Final = "in-place.json"
BOOT: Final = "gunicorn.conf.py"
INI: Final = "uwsgi.ini"
NO_FOLDER: Final = "the sidecar was given no folder to write in (--in-place)"
CLOCK_SLACK_S: Final = 1.0


class WriteError(Exception):
    """The server would not read what was to be written; the message says why. Nobody was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The file that the server reads.

    Attributes:
        folder: where it is for us.
        path: where it is for the server.
    """

    folder: Path
    path: str

    def write(self, journal: Journal, master: Process, root: str = "/proc") -> None:
        """Write it, and read it back as the server will.

        Raises:
            WriteError: it cannot be written, or the server reads another file.
        """
        write_journal(self.folder, journal)
        is_ini = self.path.endswith(INI)
        text = render_ini(journal.settings) if is_ini else dump_journal(journal)
        try:
            seen = Rooted(master.id.pid, root).text(self.path)
        except OSError as error:
            raise WriteError(f"the server's {self.path} cannot be read back: {error}") from None
        if seen != text:
            written = self.folder / (INI if is_ini else JOURNAL)
            raise WriteError(f"the server's {self.path} is another file than {written}")


def read_journal(folder: Path) -> Journal | None:
    """What stands in this folder; None if there is nothing, or nothing of ours."""
    try:
        with (folder / JOURNAL).open(encoding="utf-8") as file:
            return parse_journal(file.read(MOST_BYTES))
    except (OSError, UnicodeDecodeError):
        return None


def write_journal(folder: Path, journal: Journal) -> None:
    """Write the journal, and the same settings for a uWSGI, if that is what reads here.

    Raises:
        WriteError: it cannot be written.
    """
    _replace(folder / JOURNAL, dump_journal(journal))
    ini = folder / INI
    # Not touched where nothing changes: uWSGI may be told to reload whenever it is.
    if ini.exists() and ini.read_text(encoding="utf-8", errors="replace") != render_ini(journal.settings):
        _replace(ini, render_ini(journal.settings))


def _replace(path: Path, text: str) -> None:
    """Replace a file as a whole.

    Raises:
        WriteError: it cannot be written.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise WriteError(f"{path} cannot be written: {error}") from None


def reads_in_place(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Have a server that is about to be started read what is written here; what it perhaps died of is taken back.

    Raises:
        ConfigError: the folder cannot be written.
    """
    journal = read_journal(folder)
    boot = Boot(live=str(folder.absolute() / JOURNAL), settings=Wanted())
    path = folder.absolute() / BOOT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(render_boot(boot), encoding="utf-8")
        _replace(folder / INI, render_ini(journal.settings if journal else Wanted()))
        if journal is not None and journal.state == "Verifying":
            write_journal(folder, taken_back(journal))
    except (OSError, WriteError) as error:
        raise ConfigError(f"--in-place: {error}") from None
    told = {CMD_ARGS: point_config(environment.get(CMD_ARGS, ""), str(path))}
    return told | ({} if UWSGI_INI in environment else {UWSGI_INI: str(folder.absolute() / INI)})


def uwsgi_lever(
    family: Family, sources: uwsgi_options.Sources | None, folder: Path | None
) -> tuple[Lever, Live | None]:
    """By what this uWSGI can be changed, and the file, where that is how."""
    path = our_ini(sources) if sources and folder else None
    if sources is None or folder is None or path is None:
        why = f"it reads no file of ours: set {UWSGI_INI} to {folder / INI}" if folder else NO_FOLDER
        return Lever(means="none", obstacle=why), None
    if not can_reload(sources):
        return Lever(means="none", obstacle="uWSGI has no master, so nothing of it survives a reload"), None
    settings, fixed = parse_ini(sources.files.get(path) or ""), stronger(sources, path)
    lever = Lever(
        means="config-file",
        obstacle="; ".join(f"{n} is given by {words}" for n, words in fixed.items() if n != "worker_connections")
        or None,
        settings=settings or Wanted(),
        fixed=fixed,
        least_workers=least_workers(sources),
        reloads_by_itself=reloads_by_itself(sources, path),
    )
    return lever, Live(folder=folder, path=os.path.join(Rooted(family.master.id.pid).cwd(), path))


def gunicorn_lever(
    family: Family, facts: ServerFacts, settings: Iterable[Setting], folder: Path | None
) -> tuple[Lever, Live | None]:
    """By what this gunicorn can be changed, and the file, where that is how."""
    if folder is None or facts.boot is None or facts.sources.in_place is None:
        return Lever(means="signals", obstacle=_why_no_file(facts, folder)), None
    if (changed := _changed(family.master, facts.config_path)) is not None:
        return Lever(means="signals", obstacle=changed), None
    fixed = {each.name: each.said_by or each.source for each in settings if each.name in BOUNDS and _is_stronger(each)}
    told = "; ".join(f"{name} is given by {words}" for name, words in fixed.items())
    lever = Lever(means="config-file", obstacle=told or None, settings=facts.sources.in_place, fixed=fixed)
    return lever, Live(folder=folder, path=facts.boot.live)


def _is_stronger(setting: Setting) -> bool:
    return setting.source == "command-line" or (
        setting.source == "environment" and "CMD_ARGS" in (setting.said_by or "")
    )


def _why_no_file(facts: ServerFacts, folder: Path | None) -> str:
    if folder is None:
        return NO_FOLDER
    if facts.sources.command_line is None or facts.sources.cmd_args is None:
        return "the command line or the environment of the server could not be read"
    with suppress(ArgumentsError):
        named = parse_arguments(facts.sources.command_line).config
        if named is not None:
            return f"its command line names a config file (-c {named}), which is stronger than one of ours"
    return "its GUNICORN_CMD_ARGS names no config file of ours"


def _changed(master: Process, path: str | None) -> str | None:
    """Why a reload would change more than what is ordered; None where it would not, or nobody can tell."""
    if path is None:
        return None
    try:
        modified = os.stat(Rooted(master.id.pid).outside(path)).st_mtime
    except OSError:
        return None
    if modified <= master.started_at + CLOCK_SLACK_S:
        return None
    return f"{path} was changed after the server started, and a reload would read that, too: restart the server first"
