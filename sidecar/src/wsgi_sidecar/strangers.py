"""Who in the server's container says that a gunicorn started it.

In: processes of the master's cgroup that nobody there is the parent of. Out: the same, knowing what their environment
says. Rule: gunicorn puts SERVER_SOFTWARE into its environment, so whatever its workers execute inherits it; that one
word is looked for and nothing is kept. Asked once per process and program.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.orphans import is_stranger
from wsgi_sidecar.core.snapshot import Process

_MARK: Final = b"\0SERVER_SOFTWARE=gunicorn"
_ENVIRON_BYTES: Final = 1 << 20


class Strangers:
    """What strangers said, kept while they live."""

    def __init__(self, root: str = "/proc") -> None:
        """Ask nobody yet."""
        self._root = root
        self._said: dict[tuple[ProcessId, tuple[str, ...]], bool | None] = {}

    def asked(self, processes: Iterable[Process], master: Process) -> dict[int, Process]:
        """The strangers among these processes, by pid, each with what it says."""
        strangers = [process for process in processes if is_stranger(process, master) and process.state != "Z"]
        before, self._said = self._said, {}
        for process in strangers:
            key = (process.id, process.command)
            self._said[key] = before[key] if key in before else self._ask(process.id.pid)
        return {
            process.id.pid: replace(process, says_gunicorn=self._said[process.id, process.command])
            for process in strangers
        }

    def _ask(self, pid: int) -> bool | None:
        try:
            with open(f"{self._root}/{pid}/environ", "rb") as file:
                return _MARK in b"\0" + file.read(_ENVIRON_BYTES)
        except OSError:
            return None
