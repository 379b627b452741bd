"""Whether a command line is a gunicorn's, and which part of one.

In: argv as the kernel tells it. Out: `Role`, or the arguments behind the program's name. Rule: only the program itself
counts, never what a wrapper is told to start: `sh -c "gunicorn ..."`, `tini -- gunicorn ...`, `poetry run gunicorn` and
`uv run gunicorn` are not gunicorn. Forked workers and their own children carry the master's argv, so a role is where
the search for a family begins, not where it ends.
"""

from functools import lru_cache
from typing import Final, Literal

Role = Literal["gunicorn", "master", "worker"]
"""`gunicorn`: by argv, could be any of the family. `master`, `worker`: by the title that setproctitle wrote."""

_PROGRAMS: Final = frozenset({"gunicorn", "gunicorn3", "gunicorn_paster"})
_MODULES: Final = frozenset({"gunicorn", "gunicorn.__main__", "gunicorn.app.wsgiapp"})
_PYTHON_FLAGS_WITH_VALUE: Final = frozenset({"-W", "-X", "--check-hash-based-pycs"})


@lru_cache(maxsize=4096)
def role(command: tuple[str, ...]) -> Role | None:
    """What the command line says the process is; None if it is no gunicorn."""
    if not command:
        return None
    title = command[0]
    if title.startswith("gunicorn: "):
        return (
            "master"
            if title.startswith("gunicorn: master")
            else "worker"
            if title.startswith("gunicorn: worker")
            else None
        )
    return "gunicorn" if arguments(command) is not None else None


def arguments(command: tuple[str, ...]) -> tuple[str, ...] | None:
    """The arguments that gunicorn itself parses; None if this is no gunicorn, or its title was overwritten."""
    if not command or command[0].startswith("gunicorn: "):
        return None
    program = _basename(command[0])
    if program in _PROGRAMS:
        return command[1:]
    if program.startswith(("python", "pypy")):
        return _behind_python(command)
    return None


def script(command: tuple[str, ...]) -> str | None:
    """The path of gunicorn's script as written; None where gunicorn runs as a module."""
    rest = arguments(command)
    written = command[len(command) - len(rest) - 1] if rest is not None else ""
    return written if _basename(written) in _PROGRAMS and "/" in written else None


def _behind_python(command: tuple[str, ...]) -> tuple[str, ...] | None:
    position = 1
    while position < len(command):
        word = command[position]
        if not word.startswith("-"):
            return command[position + 1 :] if _basename(word) in _PROGRAMS else None
        if word in _PYTHON_FLAGS_WITH_VALUE:
            position += 2
        elif word.startswith("--") or not ("m" in word or "c" in word):
            position += 1
        else:
            return _behind_module_flag(command, position)
    return None


def _behind_module_flag(command: tuple[str, ...], position: int) -> tuple[str, ...] | None:
    """`-m gunicorn`, `-mgunicorn`, `-Im gunicorn`; after `-c` nothing is gunicorn's."""
    before, _, attached = command[position].partition("m")
    if "c" in before:
        return None
    module = attached or (command[position + 1] if position + 1 < len(command) else "")
    behind = position + (1 if attached else 2)
    return command[behind:] if module in _MODULES else None


def _basename(path: str) -> str:
    return path.rpartition("/")[2]
