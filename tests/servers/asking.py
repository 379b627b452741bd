"""Applications that ask somebody else over the network, and the somebody.

In: nothing. Out: `Mute`, a TCP server that accepts and stays silent, with applications that ask it (`/ask`, or while
they are imported), which else serve what `apps` does; and `echoing`, a server that says every line again, with an
application whose workers share one connection to it. Rule: loopback, an ephemeral port, gone with the block.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
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


SHARING: Final = """
import os, socket
database = socket.create_connection(("127.0.0.1", int(os.environ["DATABASE_PORT"])))
def app(environ, start_response):
    mine = environ["QUERY_STRING"]
    database.sendall(f"{mine}\\n".encode())
    answer = database.recv(100).decode().strip()
    start_response("200 OK", [])
    return [b"right" if answer == mine else f"wrong: asked {mine}, got {answer!r}".encode()]
"""
"""Run with --preload its workers share the connection, and read each other's answers."""


@contextlib.contextmanager
def echoing() -> Iterator[int]:
    """A server that answers every line of its one client with that line, 2 ms later. Gives its port."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    time.sleep(0.002)
                    connection.sendall(line)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
