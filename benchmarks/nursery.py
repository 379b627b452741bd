"""Where victims and bystanders are born: the other half of `kill_trials`.

In: requests on a socket. Out: victims by pid, and a ledger of every signal that hit a bystander. Rule: only the parent
sees each stop and each end of a child, so one process is the parent of them all; a pid that a victim leaves is given to
a bystander at once.
"""

import json
import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from benchmarks.room import fork_as
from wsgi_sidecar.strays import read_process

MOST_BYSTANDERS: Final = 40
VICTIMS: Final = 12
OLD_ENOUGH_S: Final = 0.03
"""A pid and its start in ticks of 10 ms name a process unless two of them were born in one tick. No rule judges a
process that is younger than a second, and no kernel hands out a pid twice within 10 ms unless it is made to."""
LATEST_S: Final = 10.0


class Nursery:
    """The parent of everybody in the trial but the killer."""

    def __init__(self, channel: socket.socket, seed: int) -> None:
        self._channel = channel
        self._random = random.Random(seed)
        self._victims: dict[int, float] = {}
        self._bystanders: set[int] = set()
        self._struck: dict[int, int | None] = {}
        self._swap_at: float | None = None
        self._current = 0
        self._reused = False
        self.ledger = {"born": 0, "wrong": 0, "reused": 0}

    def serve(self) -> NoReturn:
        """Until the killer hangs up."""
        while True:
            self._replenish()
            self._reap()
            if self._swap_at is not None and time.monotonic() >= self._swap_at:
                self._swap()
            if select.select([self._channel], [], [], 0.0005)[0]:
                data = self._channel.recv(4096)
                if not data:
                    self._end()
                self._channel.sendall(json.dumps(self._answer(json.loads(data))).encode())

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["ask"]:
            case "victim":
                self._current, self._swap_at, self._reused = self._oldest(), None, False
                seen = read_process(self._current)
                return {"pid": self._current, "started": seen.id.started if seen else 0}
            case "swap":
                self._swap()
            case "swap-soon":
                self._swap_at = time.monotonic() + request["after_s"]
            case "over":
                return self._over() | {"reused": self._reused}
        return self.ledger | {"reused": self._reused}

    def _over(self) -> dict[str, Any]:
        """Whether the victim is dead; a trial that was called off ends it."""
        until = time.monotonic() + LATEST_S
        while self._current in self._victims and time.monotonic() < until:
            self._reap()
            if self._swap_at is not None:
                self._swap()
            time.sleep(0.0002)
        self._swap_at = None
        return {"dead": self._current not in self._victims}

    def _oldest(self) -> int:
        while True:
            self._replenish()
            self._reap()
            pid, born = next(iter(self._victims.items()))
            if time.monotonic() - born > OLD_ENOUGH_S:
                return pid
            time.sleep(0.001)

    def _swap(self) -> None:
        """End the victim and put a bystander in its place."""
        self._swap_at = None
        if self._current in self._victims:
            os.kill(self._current, signal.SIGKILL)
            os.waitpid(self._current, 0)
            self._gone(self._current)

    def _gone(self, pid: int) -> None:
        del self._victims[pid]
        newcomer = self._born(_live_shortly, self._random.uniform(0.005, 0.08), pid)
        self._bystanders.add(newcomer)
        if pid == self._current and newcomer == pid:
            self._reused = True
            self.ledger["reused"] += 1

    def _replenish(self) -> None:
        if len(self._victims) < VICTIMS:
            churns = self._random.random() < 0.25
            self._victims[self._born(_churn if churns else _wait, 0.0)] = time.monotonic()
        elif len(self._bystanders) < MOST_BYSTANDERS:
            self._bystanders.add(self._born(_live_shortly, self._random.uniform(0.005, 0.08)))

    def _born(self, live: Callable[[float], NoReturn], seconds: float, as_pid: int | None = None) -> int:
        pid = os.fork() if as_pid is None else fork_as(as_pid)
        if pid == 0:
            self._channel.close()
            live(seconds)
        self.ledger["born"] += 1
        return pid

    def _reap(self) -> None:
        while self._victims or self._bystanders:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                return
            ended = os.WIFEXITED(status) or os.WIFSIGNALED(status)
            if pid in self._bystanders:
                # Whoever minds its own business ends with 0; a stop, a continuation or a deadly signal was not its own.
                if not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0):
                    self.ledger["wrong"] += 1
                if ended:
                    self._bystanders.discard(pid)
            elif ended:
                self._gone(pid)

    def _end(self) -> NoReturn:
        for pid in (*self._victims, *self._bystanders):
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def _wait(_: float) -> NoReturn:
    time.sleep(600)
    os._exit(0)


def _live_shortly(seconds: float) -> NoReturn:
    time.sleep(seconds)
    os._exit(0)


def _churn(_: float) -> NoReturn:
    """A victim whose children come and go all the time, so that its tree changes while it is walked."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    until = time.monotonic() + 600
    while time.monotonic() < until:
        if os.fork() == 0:
            time.sleep(0.003)
            os._exit(0)
        time.sleep(0.01)
    os._exit(0)
