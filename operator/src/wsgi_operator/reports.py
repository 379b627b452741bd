"""Reading `/report` of pods over the pod network.

In: pods with addresses. Out: one `Answer` per pod. Rule: whatever a pod does (hangs, refuses, lies, talks without end,
speaks another version) becomes Silence with its reason; no pod can cost more than one timeout and one size limit, and
nothing that a pod says makes this operator ask anybody else.
"""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

import aiohttp

from wsgi_operator.answers import parse_answer
from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Answer, Pod, Silence

SIZE_LIMIT: Final = 1_048_576
"""Bytes. A report of 100 workers with full lists is about 60 kB."""

ASKED_AT_ONCE: Final = 1000
"""Pods that are asked at the same time. A dead one costs a socket and 3 s: 10,000 of them, cut off by a NetworkPolicy,
take 30 s, and their neighbours are still heard within a round."""

READ_AT_ONCE: Final = 64
"""Answers that are read at the same time: 64 pods that all send as much as they may hold 64 MiB, not 1,000."""

SAID_LIMIT: Final = 512
"""Bytes of what a pod says beside a status that is no success."""


class Reports:
    """One HTTP session for all pods; an asynchronous context manager."""

    def __init__(self, *, timeout_s: float) -> None:
        """Keep the limits; the session is opened on entering."""
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=ASKED_AT_ONCE, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def read(self, pods: Iterable[Pod], port: int) -> tuple[Answer, ...]:
        """Ask all pods at once, within the limits."""
        return tuple(await asyncio.gather(*(self._ask(pod, port) for pod in pods)))

    async def _ask(self, pod: Pod, port: int) -> Answer:
        if pod.waiting is not None or pod.ip is None:
            return Silence(pod=pod, reason=pod.waiting or "it has no address yet")
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        async with self._asking:
            try:
                body = await self._get(f"http://{host}:{port}/report", pod.token)
            except TimeoutError:
                return Silence(pod=pod, reason=f"no answer from {host}:{port} within {self._timeout.total:g} s")
            except (aiohttp.ClientError, OSError) as error:
                return Silence(pod=pod, reason=clip(f"{host}:{port}: {str(error) or type(error).__name__}"))
        return parse_answer(pod, body) if isinstance(body, bytes) else Silence(pod=pod, reason=body)

    async def _get(self, url: str, token: str | None) -> bytes | str:
        """The body, or why there is none worth reading."""
        headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {})
        async with self._session.get(url, allow_redirects=False, headers=headers) as response:
            if response.status != 200:
                said = (await response.content.read(SAID_LIMIT)).decode(errors="replace")
                return clip(f"{url} answers with status {response.status}: {said.strip() or 'nothing'}")
            async with self._reading:
                body = await _limited(response.content)
            return body if len(body) <= SIZE_LIMIT else f"{url} sends more than {SIZE_LIMIT} bytes"


async def _limited(content: aiohttp.StreamReader) -> bytes:
    """All of it, or one byte more than the limit."""
    parts: list[bytes] = []
    left = SIZE_LIMIT + 1
    while left > 0 and (part := await content.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
