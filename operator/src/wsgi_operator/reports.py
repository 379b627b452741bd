"""Reading `/report` of pods over the pod network.

In: pods with addresses. Out: one `Answer` per pod. Rule: whatever a pod does (hangs, refuses, lies, talks without end,
speaks another version) becomes Silence with its reason; no pod can cost more than one timeout and one size limit, and
nothing that a pod says makes this operator ask anybody else.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from wsgi_operator.answers import parse_answer
from wsgi_operator.asking import Answered, AnswerError, ask
from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Answer, Pod, Silence

SIZE_LIMIT: Final = 1_048_576
"""Bytes. A report of 100 workers with full lists is about 60 kB."""

ASKED_AT_ONCE: Final = 1000
"""Pods that are asked at the same time. A dead one costs a socket and 3 s: 10,000 of them, cut off by a NetworkPolicy,
take 30 s, and their neighbours are still heard within a round."""

LARGE_AT_ONCE: Final = 64
"""Answers of more than 128 KiB that are read at the same time: 64 MiB, if all send as much as they may, not 1,000."""

AT_ONCE_BYTES: Final = 16_384
"""What a report may have that is read where it arrives, in half a millisecond; one of a megabyte takes 40 ms, and 64 of
them may arrive together: those are read one at a time, and whoever else is due has his turn in between."""

SAID_LIMIT: Final = 512
"""Bytes of what a pod says beside a status that is no success."""


class Reports:
    """Asks pods, within limits that hold for all of them together."""

    def __init__(self, *, timeout_s: float) -> None:
        """Keep the limits."""
        self._timeout_s = timeout_s
        self._asking = asyncio.Semaphore(ASKED_AT_ONCE)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._reading = asyncio.Lock()

    async def read(self, pods: Iterable[Pod], port: int) -> tuple[Answer, ...]:
        """Ask all pods at once, within the limits."""
        return tuple(await asyncio.gather(*(self._ask(pod, port) for pod in pods)))

    async def _ask(self, pod: Pod, port: int) -> Answer:
        if pod.waiting is not None or pod.ip is None:
            return Silence(pod=pod, reason=pod.waiting or "it has no address yet")
        where = f"[{pod.ip}]:{port}" if ":" in pod.ip else f"{pod.ip}:{port}"
        async with self._asking:
            try:
                async with asyncio.timeout(self._timeout_s):
                    said = await ask(pod.ip, port, "/report", token=pod.token, limit=SIZE_LIMIT, large=self._large)
            except TimeoutError:
                return Silence(pod=pod, reason=f"no answer from {where} within {self._timeout_s:g} s")
            except (AnswerError, OSError) as error:
                return Silence(pod=pod, reason=clip(f"{where}: {str(error) or type(error).__name__}"))
        why = _unreadable(said)
        return await self._parsed(pod, said.body) if why is None else Silence(pod=pod, reason=clip(f"{where} {why}"))

    async def _parsed(self, pod: Pod, body: bytes) -> Answer:
        if len(body) <= AT_ONCE_BYTES:
            return parse_answer(pod, body)
        async with self._reading:
            await asyncio.sleep(0)
            return parse_answer(pod, body)


def _unreadable(said: Answered) -> str | None:
    """Why an answer holds no report; None: it may hold one."""
    if said.status != 200:
        words = said.body[:SAID_LIMIT].decode(errors="replace").strip()
        return f"answers with status {said.status}: {words or 'nothing'}"
    return f"sends more than {SIZE_LIMIT} bytes" if len(said.body) > SIZE_LIMIT else None
