"""What the server was started with, and which release it is, read from its own files.

In: the master. Out: `ServerFacts`: the contract's `Sources` of settings, and the release. Rule: read once per master;
the config file again when it changes, because SIGHUP has gunicorn read it again. Of the environment only the few
variables named here are kept; nothing of it, nor of the command line, is logged or shown by repr.

What the kernel refuses, or setproctitle has overwritten, is None.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_contract.servers.gunicorn import (
    CMD_ARGS,
    DEFAULT_CONFIG,
    WEB_CONCURRENCY,
    Arguments,
    ArgumentsError,
    Sources,
    parse_arguments,
    parse_cmd_args,
)
from wsgi_contract.servers.gunicorn_in_place import Boot, owners_cmd_args, parse_boot
from wsgi_sidecar.core.command import arguments, script
from wsgi_sidecar.core.journal import parse_journal
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.rooted import Rooted, Stamp

_VARIABLES: Final = (CMD_ARGS, WEB_CONCURRENCY, "PWD", "HOME", "PYTHONPATH", "VIRTUAL_ENV")
_ENVIRON_BYTES: Final = 1 << 20
_PACKAGE: Final = re.compile(r"gunicorn-([0-9][^-]*?)(?:-py[0-9.]+)?\.(?:dist|egg)-info")
_PYTHON: Final = re.compile(r"python[0-9]+\.[0-9]+t?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What does not change while a master lives, save its config file.

    Attributes:
        sources: of its settings; see `effective_settings`.
        release: for example `23.0.0`; None where it could not be found.
        config_path: the owner's config file inside the server's container; None if it has none or it could not be told.
        boot: the config file of ours that runs it; None where gunicorn reads none.
    """

    sources: Sources = field(repr=False)
    release: str | None
    config_path: str | None = None
    boot: Boot | None = None


class ServerFiles:
    """Facts about the master, kept between looks."""

    def __init__(self, root: str = "/proc") -> None:
        """Read nothing yet."""
        self._root = root
        self._known: _Known | None = None

    def read(self, master: Process) -> ServerFacts:
        """The facts about this master; cheap unless it or its config file is new."""
        known = self._known
        if known is None or known.master != (master.id, master.command):
            release = read_release(master, self._root)
        elif known.stamps == _stamps(master, known.sought, self._root):
            return known.facts
        else:
            release = known.facts.release
        read = _read_sources(master, self._root)
        owners = read.sought[-1] if read.sought and read.sources.config_file else None
        facts = ServerFacts(sources=read.sources, release=release, config_path=owners, boot=read.boot)
        self._known = _Known(
            master=(master.id, master.command),
            facts=facts,
            sought=read.sought,
            stamps=_stamps(master, read.sought, self._root),
        )
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What was read, and where config files were sought, found or not."""

    master: tuple[ProcessId, tuple[str, ...]]
    facts: ServerFacts
    sought: tuple[str, ...]
    stamps: tuple[Stamp | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What one reading brought; the owner's config file was sought last."""

    sources: Sources
    sought: tuple[str, ...] = ()
    boot: Boot | None = None


def _stamps(master: Process, paths: tuple[str, ...], root: str) -> tuple[Stamp | None, ...]:
    return tuple(_stamp(path, Rooted(master.id.pid, root)) for path in paths)


def _stamp(path: str, files: Rooted) -> Stamp | None:
    try:
        return files.stamp(path)
    except OSError:
        return None


def read_sources(master: Process, root: str = "/proc") -> Sources:
    """What decides the master's settings; never raises: what cannot be read is None."""
    return _read_sources(master, root).sources


def read_release(master: Process, root: str = "/proc") -> str | None:
    """The release of gunicorn that the master runs, by the metadata of the package it was installed as."""
    files = Rooted(master.id.pid, root)
    environ = _environ(master, root) or {}
    try:
        exe = files.exe()
    except OSError:
        exe = ""
    for folder in _site_folders(master, environ, exe, files):
        found = {match[1] for name in files.names(folder) if (match := _PACKAGE.fullmatch(name))}
        if len(found) == 1:
            return found.pop()
    return None


def _read_sources(master: Process, root: str) -> _Read:
    command_line = arguments(master.command)
    environ = _environ(master, root)
    sources = Sources(
        command_line=command_line,
        cmd_args=None if environ is None else environ.get(CMD_ARGS, ""),
        web_concurrency=None if environ is None else environ.get(WEB_CONCURRENCY, ""),
        config_file=None,
    )
    if command_line is None or environ is None:
        return _Read(sources=sources)
    files = Rooted(master.id.pid, root)
    try:
        return _read_files(sources, command_line, environ, files)
    except (ArgumentsError, OSError):
        return _Read(sources=sources)


def _read_files(sources: Sources, command_line: tuple[str, ...], environ: Mapping[str, str], files: Rooted) -> _Read:
    """The config file; where that is ours, what it runs before, and what the sidecar wrote.

    Raises:
        ArgumentsError: gunicorn itself would not understand its arguments.
        OSError: the kernel refuses to say where it is.
    """
    cmd_args = environ.get(CMD_ARGS, "")
    said = (parse_arguments(command_line), parse_cmd_args(cmd_args))
    path, exists = _config_path(said, environ, files)
    text = _text(path, files) if exists else ""
    sought = (path,) if path else ()
    boot = parse_boot(text) if text else None
    if boot is None:
        return _Read(sources=replace(sources, config_file=text), sought=sought)
    owners = (said[0], parse_cmd_args(owners_cmd_args(cmd_args, said[1].config or "")))
    theirs, exists = _config_path(owners, environ, files)
    live = parse_journal(_text(boot.live, files) or "")
    return _Read(
        sources=replace(
            sources,
            config_file=_text(theirs, files) if exists else "",
            in_place=live.settings if live else boot.settings,
        ),
        sought=(*sought, boot.live, *((theirs,) if theirs else ())),
        boot=boot,
    )


def _text(path: str | None, files: Rooted) -> str | None:
    try:
        return files.text(path) if path else None
    except OSError:
        return None


def _environ(master: Process, root: str) -> Mapping[str, str] | None:
    """The variables we need, as they were at the start; None where refused or overwritten by a title."""
    if arguments(master.command) is None:
        return None
    try:
        with open(f"{root}/{master.id.pid}/environ", "rb") as file:
            data = file.read(_ENVIRON_BYTES)
    except OSError:
        return None
    pairs = (entry.partition("=") for entry in os.fsdecode(data).split("\0"))
    return {name: value for name, _, value in pairs if name in _VARIABLES}


def _config_path(
    said: tuple[Arguments, Arguments], environ: Mapping[str, str], files: Rooted
) -> tuple[str | None, bool]:
    """Where the config file is or would be, and whether there must be one; a Python module has no path.

    Raises:
        OSError: the kernel refuses to say.
    """
    command, cmd_args = said
    asked = command.config or cmd_args.config
    if asked and asked.startswith("python:"):
        return None, True
    wanted = (asked or DEFAULT_CONFIG).removeprefix("file:")
    path = os.path.normpath(os.path.join(_start_folder(wanted, said, environ, files.cwd()), wanted))
    return path, bool(asked) or files.stamp(path) is not None


def _start_folder(wanted: str, said: tuple[Arguments, Arguments], environ: Mapping[str, str], cwd: str) -> str:
    """The folder that gunicorn was started in: there it looks for the file, before it follows --chdir.

    Raises:
        FileNotFoundError: nobody can tell any more; to say that there is no file would be a guess.
    """
    chdir = said[0].chdir or said[1].chdir
    if chdir is None or os.path.normpath(chdir) == "." or os.path.isabs(wanted):
        return cwd
    below = f"/{os.path.normpath(chdir)}"
    if not os.path.isabs(chdir) and ".." not in below and f"{cwd}/".endswith(f"{below}/"):
        return cwd.removesuffix(below) or "/"
    # What a shell says of itself; only a shell's children have it, and it is stale if one of them went elsewhere.
    if os.path.isabs(environ.get("PWD", "")):
        return environ["PWD"]
    raise FileNotFoundError(f"gunicorn went to {chdir}; where it came from is not told")


def _site_folders(master: Process, environ: Mapping[str, str], exe: str, files: Rooted) -> Iterator[str]:
    """Folders that may hold gunicorn's metadata, in the order in which Python would find it."""
    yield from (entry for entry in environ.get("PYTHONPATH", "").split(":") if entry.startswith("/"))
    interpreter = master.command[0] if master.command else ""
    home = environ.get("HOME", "")
    programs = (script(master.command) or "", interpreter, f"{environ.get('VIRTUAL_ENV', '')}/bin/python", exe)
    for program in programs:
        if program.startswith("/"):
            yield from _site_folders_below(os.path.dirname(os.path.dirname(program)), exe, files)
    if home.startswith("/"):
        yield from _site_folders_below(f"{home}/.local", exe, files)


def _site_folders_below(prefix: str, exe: str, files: Rooted) -> Iterable[str]:
    """The interpreter's own version first; Debian's folder has none in its name."""
    own = os.path.basename(exe)
    for library in ("lib", "lib64"):
        names = files.names(f"{prefix}/{library}")
        pythons = [name for name in names if _PYTHON.fullmatch(name)]
        versions = [name for name in pythons if name == own] or pythons
        for version in (*versions, "python3"):
            for packages in ("site-packages", "dist-packages"):
                yield f"{prefix}/{library}/{version}/{packages}"
