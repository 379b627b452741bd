"""Ends one process tree, all of it, and says what happened. The only file that sends a signal to hurt.

In: an `Order`, and a second look that may call it off. Out: the contract's `Kill`. Rule: a signal goes through a pidfd
whose process was identified (pid and start time) after the pidfd was opened, so it can never hit a reused pid; never to
pid 0 or 1, to ourselves, our ancestors, or a bystander of the order and what is below it. Bounded in time.

How: stop the root, then whatever is below it, again and again until a walk finds nobody new and all stand still: what
is stopped cannot fork. Sweep up those that left the tree (see `strays`). Then kill, root first (the server respawns it
meanwhile), wait on the pidfds, and sweep again until nobody is left. Of a forking tree of 260 processes a SIGSTOP walk
without the sweep left 66 alive, psutil's children(recursive) 70.
"""

import errno
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

from wsgi_contract.report import Kill, KillOutcome, ProcessId
from wsgi_sidecar.core.remedy import Order
from wsgi_sidecar.strays import Marks, Table, ancestors, below, lives, process_table, read_process

DEADLINE_S: Final = 5.0
"""SIGKILL takes milliseconds. A process in uninterruptible sleep may take for ever: it is told as a survivor."""
DYING_S: Final = 1.0
"""How long an end is waited for at least: a starved sidecar may be out of time before it has sent its last signal, and
whoever dies of that is no survivor."""
STANDSTILL_S: Final = 1.0
"""How long a walk waits for stopped processes to stand still; one stuck in the kernel must not hold up the rest."""
SPARE_FDS: Final = 32
"""Descriptors left to others while a tree is held: to /proc in between, and to the port's connections. The kernel gives
the lowest free one, so a number near the limit tells that few are left."""
PAUSE_S: Final = 0.001

SecondLook = Callable[[], str | None]
Sent = Literal["sent", "gone", "refused"]


def strike(order: Order, second_look: SecondLook = lambda: None, *, deadline_s: float = DEADLINE_S) -> Kill:
    """Carry out the order.

    Args:
        order: what to end; see `Order`.
        second_look: called once, right before the first signal and with the root's identity checked; returns why the
            kill must not happen, or None.
        deadline_s: seconds after which whoever outlives its last signal is told as a survivor.

    Returns:
        What happened; every case is an outcome, none an exception.
    """
    stroke = _Stroke(order, deadline_s)
    try:
        return stroke.run(second_look)
    except BaseException:
        stroke.finish_off()
        raise
    finally:
        stroke.let_go()


def ask(process: ProcessId, gently: Literal["SIGTERM", "SIGHUP"] = "SIGTERM") -> Sent:
    """Ask one process to end, after making sure that it is the one that is meant."""
    return send(process, signal.Signals[gently])


def send(process: ProcessId, number: signal.Signals) -> Sent:
    """Send one process a signal that it handles itself, after making sure that it is the one that is meant."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return "gone"
    try:
        seen = read_process(process.pid)
        if process.pid <= 1 or seen is None or seen.id != process:
            return "gone"
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return "gone"
    except PermissionError:
        return "refused"
    finally:
        os.close(pidfd)
    return "sent"


class _Stroke:
    """One kill under way: who was caught so far, each with the pidfd that every signal to it goes through."""

    def __init__(self, order: Order, deadline_s: float) -> None:
        self._order = order
        self._root = order.process
        self._deadline_s = deadline_s
        self._at = time.time()
        self._began = time.monotonic()
        # Made right before the first signal, when the last of what must not be touched has been born.
        self._marks: Marks | None = None
        self._caught: dict[ProcessId, int] = {}
        self._out_of_fds: set[ProcessId] = set()
        self._highest_fd = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FDS
        self._refused: set[ProcessId] = set()
        self._ended = 0
        self._struck = False

    def run(self, second_look: SecondLook) -> Kill:
        table = process_table()
        if not lives(self._root, table) or table[self._root.pid].ended:
            return self._told("gone", "it had ended before the first signal")
        if self._root.pid in self._untouchable(table):
            return self._told("refused", "it is this sidecar, its ancestor, init or a bystander")
        if not self._open(self._root):
            if self._out_of_fds:
                return self._told("refused", "the sidecar has no file descriptor left to hold it by")
            return self._told("gone", "it had ended before the first signal")
        if (doubt := second_look()) is not None:
            return self._told("spared", f"spared, because at the second look {doubt}")
        # Before the clock: whoever was there when they were made was there before the kill.
        self._marks = Marks.of(self._order, process_table())
        self._at, self._began = time.time(), time.monotonic()
        match self._send(self._root, signal.SIGSTOP):
            case "gone":
                return self._told("gone", "it had ended before the first signal")
            case "refused":
                return self._told("refused", f"the kernel refuses signals from uid {os.geteuid()}")
        self._struck = True
        self._end_all()
        return self._told("survived" if self._left() else "killed")

    def _overdue(self) -> bool:
        return time.monotonic() - self._began > self._deadline_s

    def _end_all(self) -> None:
        fresh = True
        while fresh and not self._overdue():
            self._stop_all()
            self._kill_caught()
            fresh = bool(self._catch(process_table()))
        # What the last catch of an overdue stroke brought in still gets its signal.
        self._kill_caught()

    def _stop_all(self) -> None:
        """Catch and stop until a whole walk finds nobody new and everybody caught stands still."""
        until = time.monotonic() + STANDSTILL_S
        while time.monotonic() < until and not self._overdue():
            table = process_table()
            fresh = self._catch(table)
            moving = [p for p in self._caught if lives(p, table) and not table[p.pid].still and p not in self._refused]
            for process in moving:
                self._send(process, signal.SIGSTOP)
            if not fresh and not moving:
                return
            time.sleep(PAUSE_S)

    def _catch(self, table: Table) -> list[ProcessId]:
        """Take hold of each process of the tree that is not held yet; returns those."""
        known = {process.pid for process in self._caught if lives(process, table)}
        missed = {process.pid for process in self._out_of_fds if lives(process, table)}
        roots = known | missed | self._also(table)
        tree = roots | below(roots, table)
        untouchable = self._untouchable(table)
        strays = self._marks.strays(table, tree | untouchable) if self._marks is not None else set[int]()
        wanted = (table[pid] for pid in sorted((tree | strays) - known - untouchable))
        return [seen.id for seen in wanted if not seen.ended and self._open(seen.id)]

    def _untouchable(self, table: Table) -> set[int]:
        bystanders = {process.pid for process in self._order.bystanders if lives(process, table)}
        roots = {self._root.pid, *self._also(table)} - bystanders
        own = roots | below(roots, table)
        return {0, 1, *ancestors(os.getpid(), table), *bystanders, *(below(bystanders, table) - own)}

    def _also(self, table: Table) -> set[int]:
        return {process.pid for process in self._order.also if lives(process, table)}

    def _open(self, process: ProcessId) -> bool:
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._out_of_fds.add(process)
            return False
        if pidfd >= self._highest_fd:
            os.close(pidfd)
            self._out_of_fds.add(process)
            return False
        # Only now is it certain whom the pidfd means: until it was open the pid could have been given away.
        seen = read_process(process.pid)
        if seen is None or seen.id != process:
            os.close(pidfd)
            return False
        self._out_of_fds.discard(process)
        self._caught[process] = pidfd
        return True

    def _send(self, process: ProcessId, number: signal.Signals) -> Sent:
        seen = read_process(process.pid)
        if seen is None or seen.id != process:
            return "gone"
        try:
            signal.pidfd_send_signal(self._caught[process], number)
        except ProcessLookupError:
            return "gone"
        except PermissionError:
            self._refused.add(process)
            return "refused"
        return "sent"

    def _kill_caught(self) -> None:
        """Kill in the order of the catch, the root first, wait for the ends, and let go of those that ended."""
        for process in self._caught:
            self._send(process, signal.SIGKILL)
        self._wait()
        for process, pidfd in tuple(self._caught.items()):
            if has_ended(pidfd):
                self._ended += 1
                os.close(self._caught.pop(process))

    def _wait(self) -> None:
        poll = select.poll()
        waiting = {pidfd for process, pidfd in self._caught.items() if process not in self._refused}
        for pidfd in waiting:
            poll.register(pidfd, select.POLLIN)
        until = max(self._began + self._deadline_s, time.monotonic() + DYING_S)
        while waiting and (left_s := until - time.monotonic()) > 0:
            for pidfd, _ in poll.poll(left_s * 1000):
                poll.unregister(pidfd)
                waiting.discard(pidfd)

    def _left(self) -> tuple[ProcessId, ...]:
        table = process_table() if self._out_of_fds else {}
        return (*self._caught, *(process for process in self._out_of_fds if lives(process, table)))

    def finish_off(self) -> None:
        """End those that were caught, if the stroke broke off behind its first signal: nobody is to stay stopped."""
        for pidfd in self._caught.values() if self._struck else ():
            with suppress(OSError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def let_go(self) -> None:
        """Close every pidfd and file that is still held."""
        for pidfd in self._caught.values():
            os.close(pidfd)
        if self._marks is not None:
            self._marks.let_go()

    def _told(self, outcome: KillOutcome, why: str = "") -> Kill:
        struck = outcome in ("killed", "survived")
        return Kill(
            id=self._order.id,
            at=self._at,
            target=self._order.target,
            slot=self._order.slot,
            process=self._order.process,
            reason=self._order.reason,
            message=f"{self._order.message} [{why}]" if why else self._order.message,
            outcome=outcome,
            processes=self._ended if struck else 0,
            survivors=self._left() if struck else (),
            duration_s=time.monotonic() - self._began if struck else 0.0,
        )


def has_ended(pidfd: int) -> bool:
    """Whether its process is dead: a pidfd becomes readable when its process has ended, reaped or not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
