"""One question to one pod, over a connection of its own.

In: an address, a path, a token. Out: status and body, or `AnswerError` with what was wrong. Rule: asked in HTTP/1.0, so
that an answer is whatever comes until the pod hangs up: no chunks, no length to believe, no second answer, no redirect;
there is little that a hostile pod could do to a reader that does so little.

It costs a third of what a general HTTP client costs, and that is most of what an operator at rest does: 1,000
questions a second where 10,000 pods are looked at every ten seconds.
"""

import asyncio
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, cast

HEAD_LIMIT: Final = 16_384
"""Bytes of status line and headers. Ours has 200."""

SMALL: Final = 131_072
"""Bytes that any answer may hold at once; what is larger waits for one of few places, unread, in the kernel."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)


class AnswerError(Exception):
    """What came is no answer; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer.

    Attributes:
        status: HTTP's.
        body: at most one byte more than the limit.
    """

    status: int
    body: bytes


class _Hearing(asyncio.Protocol):
    """Asks as soon as it is connected, and collects what comes.

    Attributes:
        turn: set when the pod has hung up, or said more than is small: then nothing is read until it is resumed.
        ended: set when the pod has hung up, or said more than it may.
    """

    def __init__(self, request: bytes, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.parts: list[bytes] = []
        self._request = request
        self._limit = limit
        self._size = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._end(None)
            self._transport.abort()
        elif self._size > SMALL and not self.turn.done():
            self._transport.pause_reading()
            self.turn.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if not self.turn.done():
            self.turn.set_result(None)
        if not self.ended.done():
            self.ended.set_exception(error) if error else self.ended.set_result(None)


async def ask(
    address: str, port: int, path: str, *, token: str | None, limit: int, large: AbstractAsyncContextManager[None]
) -> Answered:
    """GET a path.

    Args:
        address: IPv4 or IPv6, no name.
        port: TCP.
        path: with its slash.
        token: shown as a bearer's; None: none is shown.
        limit: bytes that the body may have.
        large: the place for an answer that is not small.

    Raises:
        AnswerError: what came is no answer.
        OSError: no connection, or it broke.
    """
    loop, host = asyncio.get_running_loop(), f"[{address}]" if ":" in address else address
    shown = f"Authorization: Bearer {token}\r\n" if token else ""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept-Encoding: identity\r\n{shown}\r\n".encode()
    most = limit + HEAD_LIMIT
    transport, hearing = await loop.create_connection(lambda: _Hearing(request, most), address, port)
    try:
        await hearing.turn
        if not hearing.ended.done():
            async with large:
                transport.resume_reading()
                await hearing.ended
        hearing.ended.result()
    finally:
        transport.abort()
    return _answered(b"".join(hearing.parts), limit)


def _answered(said: bytes, limit: int) -> Answered:
    """The answer in what was said."""
    head, gap, body = said.partition(b"\r\n\r\n")
    status = _STATUS.match(head + b"\r")
    if status is None or not gap or len(head) > HEAD_LIMIT:
        raise AnswerError("what came is no HTTP answer" if said else "it hung up without an answer")
    length = _LENGTH.search(head + b"\r\n")
    if length is not None and len(body) < int(length[1]) and len(body) <= limit:
        raise AnswerError(f"the answer broke off after {len(body)} of {int(length[1])} bytes")
    return Answered(status=int(status[1]), body=body[: limit + 1])
