"""Real HTTP load at a constant rate, whatever the server does: the open loop.

In: an address and a rate. Out: every request's fate and time. Rule: a request is sent when its time has come, not when
the one before was answered, and its time counts from then: a server that makes others wait cannot hide that. Rate,
clients and total are bounded; what could not be sent in time is told, not left out.
"""

import http.client
from collections import Counter
from dataclasses import dataclass
from typing import Final

from demo.clients import Clients

MOST: Final = 100_000
_LATE_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of one request.

    Attributes:
        due_s: when it was due, seconds since the load began.
        took_s: from then to its answer, or its failure.
        failure: what went wrong; None: it was served.
        late: whether it was sent late because all clients were busy: then the load was no longer open.
    """

    due_s: float
    took_s: float
    failure: str | None
    late: bool


class OpenLoad(Clients):
    """Requests at a constant rate until the block ends, each on a connection of its own, as from many visitors.

    >>> with OpenLoad("127.0.0.1", 8000, per_second=50) as load:  # doctest: +SKIP
    ...     time.sleep(5)
    >>> len(load.lost())  # doctest: +SKIP
    0

    Args:
        host: where to connect.
        port: likewise.
        path: what to ask for.
        per_second: the rate.
        timeout_s: after it a request counts as lost.
        clients: requests that may be under way at once; the rate times the timeout, at most 400.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str = "/",
        *,
        per_second: float = 50.0,
        timeout_s: float = 10.0,
        clients: int = 0,
    ) -> None:
        super().__init__(clients or min(int(per_second * timeout_s), 400), timeout_s)
        self._address, self._path = (host, port), path
        self._every_s = 1.0 / per_second
        self._sent = 0
        self._fates: list[Fate] = []

    def fates(self, since_s: float = 0.0) -> tuple[Fate, ...]:
        """All that were due since then and whose fate is known."""
        with self._lock:
            return tuple(fate for fate in self._fates if fate.due_s >= since_s)

    def lost(self, since_s: float = 0.0) -> tuple[Fate, ...]:
        """Those that were not served."""
        return tuple(fate for fate in self.fates(since_s) if fate.failure is not None)

    def failures(self, since_s: float = 0.0) -> Counter[str]:
        """How often what went wrong."""
        return Counter(fate.failure for fate in self.lost(since_s) if fate.failure is not None)

    def _client(self) -> None:
        while (due_s := self._next()) is not None:
            wait_s = due_s - self.elapsed_s
            if wait_s > 0 and self._stop.wait(wait_s):
                return
            failure = self._ask()
            fate = Fate(due_s=due_s, took_s=self.elapsed_s - due_s, failure=failure, late=wait_s < -_LATE_S)
            with self._lock:
                self._fates.append(fate)

    def _next(self) -> float | None:
        with self._lock:
            if self._stop.is_set() or self._sent >= MOST:
                return None
            self._sent += 1
            return self._sent * self._every_s

    def _ask(self) -> str | None:
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout_s)
        try:
            connection.request("GET", self._path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
        except TimeoutError:
            return "timed out"
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        finally:
            connection.close()
        return f"status {answer.status}" if answer.status >= 400 else None
