"""Reading `/report` of pods over the pod network.

In: pods with addresses. Out: one `Answer` per pod. Rule: whatever a pod does (hangs, refuses, lies, talks without end,
speaks another version) becomes Silence with its reason; no pod can cost more than one timeout and one size limit, nor
many together more than a few, and nothing that a pod says makes this operator ask anybody else.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from wsgi_operator.answers import parse_answer
from wsgi_operator.asking import SMALL, Answered, AnswerError, ask
from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Answer, Pod, Silence

SIZE_LIMIT: Final = 1_048_576
"""Bytes. A report of 100 workers with full lists is about 60 kB."""

ASKED_AT_ONCE: Final = 1000
"""Pods that are asked at the same time. A dead one costs a socket and 3 s: 10,000 of them, cut off by a NetworkPolicy,
take 30 s, and their neighbours are still heard within a round."""

LARGE_AT_ONCE: Final = 64
"""Answers of more than 128 KiB that are read at the same time: 64 MiB, if all send as much as they may, not 1,000."""

LOOK_LIMIT: Final = 8 * SIZE_LIMIT
"""Bytes that the reports of more than 128 KiB may have together that one look at a WSGIServer's pods keeps: as values
they take up to five times that. A pod with 256 workers has such a report in a bad night, and 48 of them fit. 300 pods
that all lie take 225 MiB (without this bound 100 of them take 860), and the chart's limit is 256."""

AT_ONCE_BYTES: Final = 16_384
"""What a report may have that is read where it arrives, in half a millisecond; one of a megabyte takes 40 ms, and 64 of
them may arrive together: those are read one at a time, and whoever else is due has his turn in between."""

SAID_LIMIT: Final = 512
"""Bytes of what a pod says beside a status that is no success."""


class _Room:
    """Where the large answers of one look have to fit: some places to be read in, and what they may have together."""

    def __init__(self, large: asyncio.Semaphore) -> None:
        self._large = large
        self._own = asyncio.Semaphore(LOOK_LIMIT // SIZE_LIMIT)
        self._left = LOOK_LIMIT

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of our own, then one of all; where no more is kept, none is read either.

        Raises:
            AnswerError: there is no room.
        """
        async with self._own, self._large:
            if self._left < SMALL:
                raise AnswerError(self.full())
            yield

    def takes(self, size: int) -> bool:
        """Whether there is room for a report; if so, there is less then."""
        fits = size <= SMALL or size <= self._left
        self._left -= size if fits and size > SMALL else 0
        return fits

    def full(self) -> str:
        """What there is no room for."""
        return f"sends more than {SMALL} bytes, as other pods do, and all together may send {LOOK_LIMIT >> 20} MiB"


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
        room = _Room(self._large)
        return tuple(await asyncio.gather(*(self._ask(pod, port, room) for pod in pods)))

    async def _ask(self, pod: Pod, port: int, room: _Room) -> Answer:
        if pod.waiting is not None or pod.ip is None:
            return Silence(pod=pod, reason=pod.waiting or "it has no address yet")
        where = f"[{pod.ip}]:{port}" if ":" in pod.ip else f"{pod.ip}:{port}"
        async with self._asking:
            try:
                async with asyncio.timeout(self._timeout_s):
                    said = await ask(pod.ip, port, "/report", token=pod.token, limit=SIZE_LIMIT, large=room.place())
            except TimeoutError:
                return Silence(pod=pod, reason=f"no answer from {where} within {self._timeout_s:g} s")
            except (AnswerError, OSError) as error:
                return Silence(pod=pod, reason=clip(f"{where}: {str(error) or type(error).__name__}"))
        why = _unreadable(said) or (None if room.takes(len(said.body)) else room.full())
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
