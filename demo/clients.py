"""Clients that ask, each in a thread of its own, for as long as a block lasts.

In: what one client does. Out: an ordinary context manager. Rule: leaving the block asks for no more, and waits for what
is under way.
"""

import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Clients(ABC):
    """Threads that all run `_client` until it returns or `_stop` is set.

    Args:
        count: how many.
        timeout_s: the longest that one request may take.
    """

    def __init__(self, count: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._began = 0.0
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(count)]

    def __enter__(self) -> Self:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self.stop()

    def stop(self) -> None:
        """Ask for no more, and wait for the requests under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(self._timeout_s + 5)

    @property
    def running(self) -> bool:
        """Whether any client still asks: False once the bounds are reached."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._began

    @abstractmethod
    def _client(self) -> None:
        """What each does until it has done enough, or `_stop` is set."""
