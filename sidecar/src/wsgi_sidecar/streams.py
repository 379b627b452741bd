"""The door to the server's own stream sockets: ask, and take an answer that is bounded in bytes and in time.

In: an address, and the process in whose container it is. Out: bytes. Rule: one deadline for everything, so that a
server which sends a byte a second cannot hold us; nothing is sent but what the caller says.
"""

import errno
import os
import socket
import time
from typing import Final, Self

from wsgi_sidecar.core.addresses import StreamAddress
from wsgi_sidecar.rooted import Rooted

_PIECE: Final = 65_536


class NoAnswerError(OSError):
    """Nobody answered, or not in time, or too much; the message says which."""


class Stream:
    """One connection with one deadline; close it, or use it in a `with`.

    Args:
        address: where.
        within_s: deadline for all that happens, seconds from now.
        process: pid of a process in whose file system a unix path is meant; None for our own.
        root: of /proc.
    """

    def __init__(
        self, address: StreamAddress, *, within_s: float, process: int | None = None, root: str = "/proc"
    ) -> None:
        self._address = address
        self._deadline = time.monotonic() + within_s
        try:
            self._socket = self._connect(Rooted(process, root) if process is not None else None)
        except OSError as error:
            raise self._no_answer(error) from None

    def __enter__(self) -> Self:
        """It is connected already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            NoAnswerError: refused, or not in time.
        """
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(data)
        except OSError as error:
            raise self._no_answer(error) from None

    def exactly(self, length: int) -> bytes:
        """So many bytes.

        Raises:
            NoAnswerError: fewer, or not in time.
        """
        data = self._read(length)
        if len(data) < length:
            raise NoAnswerError(errno.EPIPE, f"{self._address} hung up after {len(data)} of {length} bytes")
        return data

    def everything(self, most: int) -> bytes:
        """All until the other side hangs up.

        Raises:
            NoAnswerError: more than `most` bytes, or not in time.
        """
        data = self._read(most + 1)
        if len(data) > most:
            raise NoAnswerError(errno.EMSGSIZE, f"{self._address} says more than {most} bytes")
        return data

    def _read(self, most: int) -> bytes:
        pieces, length = [], 0
        try:
            while length < most:
                self._socket.settimeout(self._left())
                piece = self._socket.recv(min(_PIECE, most - length))
                if not piece:
                    break
                pieces.append(piece)
                length += len(piece)
        except OSError as error:
            raise self._no_answer(error) from None
        return b"".join(pieces)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "not in time")
        return left

    def _no_answer(self, error: OSError) -> NoAnswerError:
        why = error.strerror or "not in time"
        return NoAnswerError(error.errno or errno.ETIMEDOUT, f"{self._address} does not answer: {why}")

    def _connect(self, rooted: Rooted | None) -> socket.socket:
        address = self._address
        if not (address.path or address.abstract):
            return self._connect_tcp()
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            stream.settimeout(self._left())
            if address.abstract:
                stream.connect(f"\0{address.abstract}")
            else:
                _connect_path(stream, rooted.outside(address.path) if rooted else address.path)
        except OSError:
            stream.close()
            raise
        return stream

    def _connect_tcp(self) -> socket.socket:
        """Numbers only: a name server that hangs knows nothing of our deadline."""
        host, port = self._address.host, self._address.port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        stream = socket.socket(found[0][0], socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            stream.settimeout(self._left())
            stream.connect(found[0][4])
        except OSError:
            stream.close()
            raise
        return stream


def _connect_path(stream: socket.socket, path: str) -> None:
    """By way of the folder: the whole path through /proc/PID/root is often longer than the 107 bytes allowed."""
    folder, _, name = path.rpartition("/")
    descriptor = os.open(folder or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        stream.connect(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
