"""An event loop that waits for nothing: when all stand still, its clock jumps to whatever comes next.

In: a coroutine that waits for the clock alone. Out: its result, at once. Rule: what is behind a socket is not waited
for, and who would wait for ever is told so.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.DefaultSelector):
    """Instead of waiting it lets the time pass."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for something that never comes"
            self.now_s += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now_s


def run(waits: Coroutine[Any, Any, Any]) -> Any:
    """Its result; the clock begins at 0."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(waits)


def now_s() -> float:
    """Seconds since the loop began."""
    return asyncio.get_running_loop().time()
