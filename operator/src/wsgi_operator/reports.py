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

CONCURRENCY: Final = 64
"""Requests under way at once: with the 3 s that a dead pod costs at most, 1,000 dead pods take 47 s, not 50 minutes."""


class Reports:
    """One HTTP session for all pods; an asynchronous context manager."""

    def __init__(self, *, timeout_s: float) -> None:
        """Keep the limits; the session is opened on entering."""
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=CONCURRENCY, force_close=True),
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
        async with self._free:
            try:
                body = await self._get(f"http://{host}:{port}/report")
            except TimeoutError:
                return Silence(pod=pod, reason=f"no answer from {host}:{port} within {self._timeout.total:g} s")
            except (aiohttp.ClientError, OSError) as error:
                return Silence(pod=pod, reason=clip(f"{host}:{port}: {str(error) or type(error).__name__}"))
        return parse_answer(pod, body) if isinstance(body, bytes) else Silence(pod=pod, reason=body)

    async def _get(self, url: str) -> bytes | str:
        """The body, or why there is none worth reading."""
        async with self._session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response:
            if response.status != 200:
                return f"{url} answers with status {response.status}"
            body = await response.content.read(SIZE_LIMIT + 1)
            while len(body) <= SIZE_LIMIT and (more := await response.content.read(SIZE_LIMIT + 1 - len(body))):
                body += more
            return body if len(body) <= SIZE_LIMIT else f"{url} sends more than {SIZE_LIMIT} bytes"
