"""What a uWSGI was told: every option, in the order in which it applies them.

In: command line, environment, config files. Out: `Given` values. Rule: uWSGI has one list of options and the last one
wins; measured on 2.0.31, the list is made of

1. the `UWSGI_*` variables, in the order of the environment (`UWSGI_MAX_REQUESTS=7` is `max-requests = 7`),
2. the command line from left to right,
3. config files that stand there bare (`uwsgi prod.ini`), at the end wherever they stand,

and a file's options stand where the file is named. What could not be read may have said anything: it veils all that was
said before it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from wsgi_contract.servers.uwsgi_files import FORMAT_OF_OPTION, GENERIC_OPTIONS, FileName, file_name, read_file
from wsgi_contract.settings import Source

PREFIX: Final = "UWSGI_"
SYNONYMS: Final = {"workers": "processes", "lazy": "lazy-apps", "stats-server": "stats"}
_SHORT: Final = {
    "p": "processes", "t": "harakiri", "l": "listen", "R": "max-requests",
    "x": "xml", "y": "yaml", "M": "master", "S": "set",
}  # fmt: skip
_SHORT_WITH_VALUE: Final = frozenset("sptlRxyaASdvbcCzQwJHO")
_SWITCHES: Final = frozenset(
    (
        "master", "enable-threads", "die-on-term", "vacuum", "need-app", "single-interpreter", "lazy-apps", "lazy",
        "thunder-lock", "disable-logging", "strict", "auto-procname", "memory-report", "no-orphans", "stats-http",
        "stats-minified", "stats-min", "stats-no-cores", "log-x-forwarded-for", "log-master", "ignore-sigpipe",
        "ignore-write-errors", "disable-write-exception", "harakiri-verbose", "cheap", "ugreen", "manage-script-name",
        "http-auto-chunked", "http-auto-gzip", "so-keepalive", "reuse-port", "add-header-once", "no-defer-accept",
        "py-call-osafterfork", "show-config", "no-site", "vhost", "abstract-socket", "catch-exceptions",
    )
)  # fmt: skip
_REFERENCE: Final = re.compile(r"%\(([^()]+)\)|\$\(([^()]+)\)")
_UNRESOLVED: Final = re.compile(r"%[a-zA-Z(\[]|@\(")
_MAX_DEPTH: Final = 8
_MAX_GIVEN: Final = 10_000
"""Beyond it nothing is read any more: files that include each other would grow without end."""
_MAX_VALUE: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """All that decides a uWSGI's settings, each part None where it could not be read.

    Attributes:
        command_line: arguments behind the program's name; None where the title was overwritten (`auto-procname`).
        environment: (name, value) in the order of the process's environment.
        files: text of the config files by their path as it is written; None for one that could not be read.
    """

    command_line: tuple[str, ...] | None
    environment: tuple[tuple[str, str], ...] | None
    files: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One option as uWSGI applies it.

    Attributes:
        option: its first name (`processes`, also where `workers` was written); empty for a file that nobody could read:
            it may have said anything.
        value: its text; None where it depends on more than we can read.
        source: who gave it.
        said_by: the words that gave it.
    """

    option: str
    value: str | None
    source: Source
    said_by: str


def options_given(sources: Sources) -> tuple[Given, ...]:
    """Everything that was said, in the order in which uWSGI applies it: of two equal options the later one counts."""
    return tuple(_walked(sources).given)


def files_named(sources: Sources) -> tuple[str, ...]:
    """Paths of config files that are named but not in `sources.files` yet: to be read, put there, and asked again."""
    return tuple(dict.fromkeys(_walked(sources).missing))


class _Reader:
    """Collects options while the sources are walked; never leaves this file."""

    def __init__(self, sources: Sources) -> None:
        self.given: list[Given] = []
        self.missing: list[str] = []
        self._files = sources.files
        self._environment = dict(sources.environment or ())

    def unreadable(self, source: Source, what: str) -> None:
        self.given.append(Given(option="", value=None, source=source, said_by=f"{what} could not be read"))

    def perhaps(self, option: str, source: Source, said_by: str) -> None:
        option = "" if _names_a_file(option) else SYNONYMS.get(option, option)
        self.given.append(Given(option=option, value=None, source=source, said_by=said_by))

    def take(self, option: str, value: str, source: Source, said_by: str, depth: int = 0) -> None:
        if option == "set":
            option, _, value = value.partition("=")
        option = SYNONYMS.get(option, option)
        resolved = self._resolved(value)
        self.given.append(Given(option=option, value=resolved, source=source, said_by=said_by))
        if _names_a_file(option):
            name = file_name(option, resolved) if resolved is not None else None
            if name is None:
                self.unreadable(source, f"the file of {said_by}")
            else:
                self.expand(name, source, depth)

    def expand(self, name: FileName, source: Source, depth: int) -> None:
        if name.path not in self._files:
            self.missing.append(name.path)
        text = self._files.get(name.path)
        if text is None or depth >= _MAX_DEPTH or len(self.given) > _MAX_GIVEN:
            self.unreadable(source, name.path)
            return
        inherited: list[FileName] = []
        for line in read_file(text, name):
            said_by = f"{name.path}: {line.option} = {line.value}"
            inner = "config-file" if source == "environment" else source
            parent = file_name(line.option, line.value) if line.option == "inherit" else None
            if line.conditional:
                self.perhaps(line.option, inner, said_by)
            elif parent is not None:
                inherited.append(parent)
            else:
                self.take(line.option, line.value, inner, said_by, depth + 1)
        for parent in inherited:  # measured: what is inherited is applied last
            self.expand(parent, source, depth + 1)

    def _resolved(self, value: str) -> str | None:
        """With `$(VARIABLE)` and `%(option)` put in; None where that takes more than the text."""
        try:
            text = _REFERENCE.sub(self._reference, value)
        except LookupError:
            return None
        return None if _UNRESOLVED.search(text) or len(text) > _MAX_VALUE else text

    def _reference(self, match: re.Match[str]) -> str:
        option, variable = match.groups()
        if variable is not None:
            return self._environment[variable]
        said = {one.value for one in self.given if one.option == SYNONYMS.get(option, option)}
        (only,) = said if len(said) == 1 else (None,)
        if only is None:
            raise LookupError(option)
        return only


def _names_a_file(option: str) -> bool:
    return option in FORMAT_OF_OPTION or option in GENERIC_OPTIONS


def _walked(sources: Sources) -> _Reader:
    reader = _Reader(sources)
    if sources.environment is None:
        reader.unreadable("environment", "the environment")
    for variable, value in sources.environment or ():
        if variable.startswith(PREFIX):
            option = variable.removeprefix(PREFIX).lower().replace("_", "-")
            reader.take(option, value, "environment", f"{variable}={value}")
    if sources.command_line is None:
        reader.unreadable("command-line", "the command line")
    bare: list[FileName] = []
    for said, value, said_by in _words(sources.command_line or ()):
        if said is not None:
            reader.take(said, value, "command-line", said_by)
        elif (name := file_name(None, value)) is not None:
            bare.append(name)
    for name in bare:
        reader.expand(name, "command-line", 0)
    return reader


def _words(arguments: Sequence[str]) -> Iterator[tuple[str | None, str, str]]:
    """(option, value, as written); the option is None for a bare argument. As GNU getopt reads them.

    uWSGI has more than a thousand options; which of them take no value is known here for those that matter. An unknown
    one takes the next word, unless that begins with a dash.
    """
    words = list(arguments)
    while words:
        word = words.pop(0)
        following = words[0] if words and not words[0].startswith("-") else None
        if word == "--":
            yield from ((None, rest, rest) for rest in words)
            return
        if word.startswith("--"):
            option, equals, value = word[2:].partition("=")
            takes = not equals and following is not None and option not in _SWITCHES
            yield option, words.pop(0) if takes else value or "true", f"{word} {following}" if takes else word
        elif word.startswith("-") and len(word) > 1:
            names, value, takes = _short(word[1:], following)
            if takes:
                words.pop(0)
            yield from ((name, "true", word) for name in names[:-1])
            yield names[-1], value, f"{word} {following}" if takes else word
        else:
            yield None, word, word


def _short(letters: str, following: str | None) -> tuple[tuple[str, ...], str, bool]:
    """Bundled short options: their names, the last one's value, and whether it takes the next word."""
    names: list[str] = []
    for place, letter in enumerate(letters):
        names.append(_SHORT.get(letter, f"-{letter}"))
        if letter in _SHORT_WITH_VALUE:
            joined = letters[place + 1 :]
            return tuple(names), joined or following or "", not joined and following is not None
    return tuple(names), "true", False
