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
from wsgi_sidecar.core.command import arguments, script
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
        config_path: the config file inside the server's container; None if it has none or it could not be told.
    """

    sources: Sources = field(repr=False)
    release: str | None
    config_path: str | None = None


class ServerFiles:
    """Facts about masters, kept between looks."""

    def __init__(self, root: str = "/proc") -> None:
        """Read nothing yet."""
        self._root = root
        self._of: tuple[ProcessId, tuple[str, ...]] | None = None
        self._facts: ServerFacts | None = None
        self._stamp: Stamp | None = None

    def read(self, master: Process) -> ServerFacts:
        """The facts about this master; cheap unless it or its config file is new."""
        stamp = self._stamp_now(master)
        if self._facts is None or self._of != (master.id, master.command) or stamp != self._stamp:
            release = self._facts.release if self._facts and self._of == (master.id, master.command) else None
            sources, path = _read_sources(master, self._root)
            self._facts = ServerFacts(
                sources=sources, release=release or read_release(master, self._root), config_path=path
            )
            self._of = (master.id, master.command)
            self._stamp = self._stamp_now(master)
        return self._facts

    def _stamp_now(self, master: Process) -> Stamp | None:
        path = self._facts.config_path if self._facts and self._of == (master.id, master.command) else None
        try:
            return Rooted(master.id.pid, self._root).stamp(path) if path else None
        except OSError:
            return None


def read_sources(master: Process, root: str = "/proc") -> Sources:
    """What decides the master's settings; never raises: what cannot be read is None."""
    return _read_sources(master, root)[0]


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


def _read_sources(master: Process, root: str) -> tuple[Sources, str | None]:
    command_line = arguments(master.command)
    environ = _environ(master, root)
    sources = Sources(
        command_line=command_line,
        cmd_args=None if environ is None else environ.get(CMD_ARGS, ""),
        web_concurrency=None if environ is None else environ.get(WEB_CONCURRENCY, ""),
        config_file=None,
    )
    if command_line is None or environ is None:
        return sources, None
    try:
        said = (parse_arguments(command_line), parse_cmd_args(environ.get(CMD_ARGS, "")))
        path, text = _config(said, environ, Rooted(master.id.pid, root))
    except (ArgumentsError, OSError):
        return sources, None
    return replace(sources, config_file=text), path


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


def _config(
    said: tuple[Arguments, Arguments], environ: Mapping[str, str], files: Rooted
) -> tuple[str | None, str | None]:
    """Path and text of the config file; no path and no text at all where gunicorn runs without one.

    Raises:
        OSError: it exists but cannot be read, or was asked for and cannot be found.
    """
    command, cmd_args = said
    asked = command.config or cmd_args.config
    if asked and asked.startswith("python:"):
        return None, None
    wanted = (asked or DEFAULT_CONFIG).removeprefix("file:")
    for folder in _start_folders(command.chdir or cmd_args.chdir, environ, files.cwd()):
        path = os.path.normpath(os.path.join(folder, wanted))
        if files.stamp(path) is not None:
            return path, files.text(path)
    if asked:
        raise FileNotFoundError(f"{wanted} was not found from where the server may have been started")
    return None, ""


def _start_folders(chdir: str | None, environ: Mapping[str, str], cwd: str) -> Iterator[str]:
    """Where gunicorn may have been started, the likelier first: it looks for the file before it follows --chdir.

    PWD is what a shell says; whoever starts a process elsewhere without a shell leaves it stale.
    """
    shell = environ.get("PWD", "")
    if chdir and shell.startswith("/"):
        yield shell
    yield cwd
    if not chdir and shell.startswith("/"):
        yield shell


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
