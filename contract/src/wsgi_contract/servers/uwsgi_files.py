"""What a uWSGI config file says: ini, yaml or xml, as (option, value) in the order in which uWSGI applies them.

In: a file's text. Out: `Line` values. Rule: read as uWSGI's own small parsers do (`core/ini.c`, `core/yaml.c`: lines,
no quotes, no escapes), not as the standards do. What stands inside `if-...` or `for` depends on more than the text: it
is marked, never decided.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Format = Literal["ini", "yaml", "xml"]

FORMAT_OF_OPTION: Final[dict[str, Format]] = {
    "ini": "ini",
    "ini-paste": "ini",
    "ini-paste-logged": "ini",
    "yaml": "yaml",
    "yml": "yaml",
    "xml": "xml",
    "xmlconfig": "xml",
}
FORMAT_OF_SUFFIX: Final[dict[str, Format]] = {".ini": "ini", ".yaml": "yaml", ".yml": "yaml", ".xml": "xml"}
GENERIC_OPTIONS: Final = ("include", "inherit", "config")
"""They name a file whose suffix tells the format."""

_MAX_LINES: Final = 5_000
_XML_TAG: Final = re.compile(r"<\s*(/?)\s*([A-Za-z_][\w.-]*)[^<>]*?(/?)\s*>([^<]*)")
_XML_NOISE: Final = re.compile(r"<!--.*?-->|<\?.*?\?>|<!\[CDATA\[|\]\]>", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileName:
    """A config file as an option names it: `prod.ini:web` is the section `web` of `prod.ini`."""

    path: str
    section: str
    format: Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One option of a file.

    Attributes:
        option: with dashes, as on the command line.
        value: `true` where the file gives none.
        conditional: inside `if-...` or `for`: whether it applies is not in the text.
    """

    option: str
    value: str
    conditional: bool = False


def file_name(option: str | None, value: str) -> FileName | None:
    """The file that an option (or, with None, a bare argument) names; None where it names none.

    >>> file_name("ini", "prod.ini:web")
    FileName(path='prod.ini', section='web', format='ini')
    """
    path, section = value, "uwsgi"
    before, colon, behind = value.rpartition(":")
    if colon and before and "/" not in behind and "://" not in value:
        path, section = before, behind or "uwsgi"
    by_suffix = FORMAT_OF_SUFFIX.get(path[path.rfind(".") :] if "." in path else "")
    if option is not None and option not in GENERIC_OPTIONS:
        given = FORMAT_OF_OPTION.get(option)
        return FileName(path=path, section=section, format=given) if given else None
    return FileName(path=path, section=section, format=by_suffix) if by_suffix else None


def read_file(text: str, name: FileName) -> tuple[Line, ...]:
    """The options of the file's section, in order; empty where it has no such section."""
    readers = {"ini": _ini, "yaml": _yaml, "xml": _xml}
    depth, found = 0, []
    for option, value in readers[name.format](text, name.section):
        if option.startswith("if-") or option == "for":
            depth += 1
        elif option in ("endif", "end-if", "endfor", "end-for"):
            depth = max(0, depth - 1)
        else:
            found.append(Line(option=option, value=value, conditional=depth > 0))
    return tuple(found)


def _lines(text: str) -> list[str]:
    return text.splitlines()[:_MAX_LINES]


def _ini(text: str, section: str) -> Iterator[tuple[str, str]]:
    inside = False
    for line in map(str.strip, _lines(text)):
        if line.startswith("["):
            inside = line[1:].partition("]")[0] == section
        elif inside and line and line[0] not in "#;":
            option, _, value = line.partition("=")
            yield option.strip(), value.strip() or "true"


def _yaml(text: str, section: str) -> Iterator[tuple[str, str]]:
    """UWSGI wants `section:` at the margin and `option: value` below it, indented."""
    inside = False
    for line in _lines(text):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        option, _, value = words.removeprefix("- ").partition(":")
        if line[0] not in " \t-":
            inside = option.strip() == section
        elif inside:
            yield option.strip(), value.partition(" #")[0].strip() or "true"


def _xml(text: str, section: str) -> Iterator[tuple[str, str]]:
    """The tags below `<uwsgi>`; with a section named, below `<uwsgi id="section">`."""
    inside = False
    for match in _XML_TAG.finditer(_XML_NOISE.sub("", text)):
        closing, tag, empty, value = match.groups()
        if tag == "uwsgi":
            inside = not closing and (
                section == "uwsgi" or re.search(rf"id=.{re.escape(section)}\W", match[0]) is not None
            )
        elif inside and not closing:
            yield tag, "true" if empty else value.strip() or "true"
