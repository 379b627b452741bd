"""An application whose requests wait for somebody else, and the somebody who never answers.

In: nothing. Out: `Mute`, a TCP server that accepts and stays silent, and `files_for` it: an application that asks it
(`/ask`), and one that does so while it is imported. Rule: everything else is served by `apps`.
"""

import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

_APPLICATION: Final = """
import socket
from apps import app as others

def ask():
    socket.create_connection(("127.0.0.1", {port})).recv(1)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/ask":
        ask()
    return others(environ, start_response)
"""


class Mute:
    """Listens on a port of loopback while the block lasts; the kernel takes the calls, nobody answers them."""

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refuse calls again."""
        self._socket.close()

    @property
    def address(self) -> str:
        """As the sidecar names it."""
        return "{}:{}".format(*self._socket.getsockname())

    def files(self) -> Mapping[str, str]:
        """Applications `asker:app`, whose path `/ask` calls here, and `importer:app`, whose import does."""
        asking = _APPLICATION.format(port=self._socket.getsockname()[1])
        return {"asker.py": asking, "importer.py": f"{asking}\nask()\n"}
