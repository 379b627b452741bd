"""Who goes first where there is more to do than one CPU does: a change that a person waits for.

In: rounds that begin and end. Out: looks that nobody waits for begin after the changes under way. Rule: a look gives
way for `AT_MOST_S` at most, so changes that never cease make looks late and stop none.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from wsgi_operator.bells import first

AT_MOST_S: Final = 2.0
"""How long a look gives way: a fifth of the default interval between two."""


class Precedence:
    """Changes before looks."""

    def __init__(self, at_most_s: float = AT_MOST_S) -> None:
        """Nothing is under way; a look gives way for so many seconds."""
        self._at_most_s = at_most_s
        self._changes = 0
        self._calm = asyncio.Event()
        self._calm.set()

    @asynccontextmanager
    async def turn(self, urgent: asyncio.Event) -> AsyncIterator[None]:
        """The time of one round: of a change where it is urgent, or becomes so while it gives way; else of a look."""
        if not urgent.is_set() and not self._calm.is_set():
            await first(urgent.wait(), self._calm.wait(), timeout_s=self._at_most_s)
        if not urgent.is_set():
            yield
            return
        self._changes += 1
        self._calm.clear()
        try:
            yield
        finally:
            self._changes -= 1
            if not self._changes:
                self._calm.set()
