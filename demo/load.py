"""Real HTTP load, bounded, and the silent connections that freeze a worker.

In: an address. Out: counts per second, times and failures. Rule: closed loop (each client waits for its answer before
it asks again), so a server that stops answering is seen at once and is never flooded; total and pace are bounded.
"""

import http.client
import resource
import socket
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from demo.clients import Clients

LONGEST_LIST: Final = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """What came back within one second.

    Attributes:
        at_s: its beginning, seconds since the load began.
        served: answers below 500.
        failed: timeouts, refused or broken connections, answers of 500 and above.
    """

    at_s: int
    served: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Everything so far.

    Attributes:
        served: answers below 500.
        failed: all others.
        failures: (what went wrong, how often), most frequent first.
        median_s: of the served ones' times; None without any.
        p99_s: likewise.
        slowest_s: likewise.
    """

    served: int
    failed: int
    failures: tuple[tuple[str, int], ...]
    median_s: float | None
    p99_s: float | None
    slowest_s: float | None


class Load(Clients):
    """Clients that ask again and again, each in its own thread, until the block ends or the bounds are reached.

    >>> with Load("127.0.0.1", 8000, clients=4) as load:  # doctest: +SKIP
    ...     time.sleep(5)
    ...     print(load.rate(), load.tally())

    Args:
        host: where to connect.
        port: likewise.
        path: what to ask for.
        clients: how many ask at once.
        pause_s: each client's rest between two requests: with it the rate is about clients / (pause + time).
        timeout_s: after it a request counts as failed; the client then connects anew.
        keep_alive: one connection per client instead of one per request (as a load balancer may do either).
        headers: sent with every request.
        at_most: requests in total.
        for_at_most_s: seconds in total.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str = "/",
        *,
        clients: int = 8,
        pause_s: float = 0.02,
        timeout_s: float = 3.0,
        keep_alive: bool = False,
        headers: Mapping[str, str] | None = None,
        at_most: int = LONGEST_LIST,
        for_at_most_s: float = 900.0,
    ) -> None:
        super().__init__(clients, timeout_s)
        self._address = (host, port)
        self._path = path
        self._pause_s = pause_s
        self._headers = dict(headers or {}) | ({} if keep_alive else {"Connection": "close"})
        self._keep_alive = keep_alive
        self._left = at_most
        self._for_at_most_s = for_at_most_s
        self._served: Counter[int] = Counter()
        self._failed: Counter[int] = Counter()
        self._failures: Counter[str] = Counter()
        self._times_s: list[float] = []

    def rate(self, over_s: int = 1) -> float:
        """Requests served per second over the last whole seconds."""
        now = int(self.elapsed_s)
        with self._lock:
            return sum(self._served[second] for second in range(now - over_s, now)) / over_s

    def seconds(self) -> tuple[Second, ...]:
        """Every whole second so far."""
        with self._lock:
            return tuple(
                Second(at_s=at, served=self._served[at], failed=self._failed[at]) for at in range(int(self.elapsed_s))
            )

    def tally(self) -> Tally:
        """Totals so far."""
        with self._lock:
            times, served = sorted(self._times_s), self._served.total()
            failed, failures = self._failed.total(), tuple(self._failures.most_common())
        return Tally(
            served=served,
            failed=failed,
            failures=failures,
            median_s=statistics.median(times) if times else None,
            p99_s=times[int(len(times) * 0.99)] if times else None,
            slowest_s=times[-1] if times else None,
        )

    def _client(self) -> None:
        connection = self._connection()
        while self._may_ask():
            asked = time.monotonic()
            failure = self._ask(connection)
            self._record(failure, time.monotonic() - asked)
            if failure or not self._keep_alive:
                connection.close()
            self._stop.wait(self._pause_s)
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._address, timeout=self._timeout_s)

    def _may_ask(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0 and not self._stop.is_set() and self.elapsed_s < self._for_at_most_s

    def _ask(self, connection: http.client.HTTPConnection) -> str | None:
        try:
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            answer.read()
        except TimeoutError:
            return "timed out"
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        return f"status {answer.status}" if answer.status >= 500 else None

    def _record(self, failure: str | None, took_s: float) -> None:
        second = int(self.elapsed_s)
        with self._lock:
            if failure is None:
                self._served[second] += 1
                self._times_s.append(took_s)
            else:
                self._failed[second] += 1
                self._failures[failure] += 1


class SilentClients:
    """Connections that are opened and then say nothing: what slow phones, scanners and idle pools look like.

    A gthread worker of gunicorn 21.2 to 23 that holds `worker_connections` of them freezes (gunicorn #3146).

    Args:
        host: where to connect.
        port: likewise.
        count: how many, at most 4,000.

    Raises:
        OSError: the server refused one of them, or this process may not open so many files.
    """

    def __init__(self, host: str, port: int, count: int) -> None:
        if not 0 < count <= 4000:
            raise ValueError(f"{count} silent connections: choose 1 to 4000")
        _allow_open_files(count + 200)
        self._sockets: list[socket.socket] = []
        try:
            for _ in range(count):
                self._sockets.append(socket.create_connection((host, port), timeout=5))
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Self:
        """They are open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        self.close()

    def close(self) -> None:
        """Close them all; twice is fine."""
        while self._sockets:
            self._sockets.pop().close()


def _allow_open_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
