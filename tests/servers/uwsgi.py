"""A real uWSGI, started for one test and gone with it.

In: arguments, environment, files. Out: a running uWSGI with a stats socket. Rule: as `started`; it binds port 0 unless
told otherwise. Its application is `apps.py`'s, unless the arguments name another.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.servers.rooms import room_named
from tests.servers.server import HERE
from tests.servers.started import Started

BOUND: Final = re.compile(r"bound to TCP address 127\.0\.0\.1:(\d+)")


class Uwsgi(Started):
    """uWSGI 2.0.31 while the block lasts.

    Args:
        arguments: besides those of the harness.
        environment: added to a clean one.
        files: name and text of files in its working folder.
        stats: where its stats server listens; empty for none.
        master: whether it gets `--master`.
        port: that it binds; 0 for any free one, which a reload would not find again.
        inside: command that becomes the server, such as one that enters a cgroup.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        stats: str = "stats.sock",
        master: bool = True,
        port: int = 0,
        inside: Sequence[str] = (),
    ) -> None:
        super().__init__(environment=environment, files=files)
        self._arguments = arguments
        self._stats = stats
        self._master = master
        self._bind = port
        self._inside = tuple(inside)

    def command(self) -> tuple[str, ...]:
        """The whole command line."""
        own = ["--http-socket", f"127.0.0.1:{self._bind}", "--wsgi-file", str(HERE / "apps.py"), "--callable", "app"]
        own += ["--master"] if self._master else []
        own += ["--stats", self._stats] if self._stats else []
        return (*self._inside, str(room_named("uwsgi-2.0.31") / "bin" / "uwsgi"), *own, *self._arguments)

    @property
    def stats_path(self) -> Path:
        """Its stats socket, if that is a unix socket."""
        return self.folder / self._stats

    def _is_up(self) -> bool:
        found = BOUND.search(self.log)
        if found is None:
            return False
        self.port = int(found[1])
        return "spawned uWSGI worker" in self.log and (not self._stats or "Stats server enabled" in self.log)
