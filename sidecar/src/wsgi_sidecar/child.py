"""The server as our own child, and the signals meant for it.

In: the server's command line; signals sent to us. Out: a running server, and its exit code as ours. Rule: the server
notices nothing: its stdin, stdout and stderr are ours, its signal mask is empty, signals sent to us reach it once, and
what it leaves behind when it dies is reaped here.

Signals are taken with sigwaitinfo in the main thread, never in handlers: nothing is interrupted, nothing is lost.
"""

import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from wsgi_sidecar.kill import has_ended

FORWARDED: Final = frozenset(
    {
        signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
        signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH,
    }
)  # fmt: skip
STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
PYTHON_IGNORES: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these two for itself, and what is ignored stays so over exec."""
SI_KERNEL: Final = 128
"""si_code of a signal that the kernel made, for example for Ctrl-C: the whole foreground group has got it already."""
LAST_WORDS_S: Final = 0.5
"""How long the pages still tell what happened after the process that was watched has ended."""
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126


class StartError(Exception):
    """The server's command cannot be started.

    Attributes:
        code: exit code that a shell would end with.
    """

    def __init__(self, message: str, code: int) -> None:
        """Say why, and with what code to end."""
        super().__init__(message)
        self.code = code


def take_signals() -> frozenset[signal.Signals]:
    """Block all signals that `Child.wait` and `wait_for_end` wait for; to be called before any thread starts.

    What was ignored when we started (nohup) the server finds ignored, too; a signal sent to us still reaches it.
    """
    taken = frozenset({*FORWARDED, signal.SIGCHLD})
    signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    return taken


class Child:
    """A server that we started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            command: program and arguments; the program is looked for on PATH.
            environment: of the server; None for our own.

        Raises:
            StartError: there is no such program, or it cannot be executed.
        """
        try:
            around = os.environ if environment is None else environment
            self.pid = os.posix_spawnp(command[0], list(command), around, setsigmask=(), setsigdef=PYTHON_IGNORES)
        except FileNotFoundError:
            raise StartError(_not_found(command[0]), NOT_FOUND) from None
        except (OSError, ValueError) as error:
            raise StartError(f"cannot start {command[0]!r}: {error}", NOT_EXECUTABLE) from None

    def wait(self, signals: frozenset[signal.Signals]) -> int:
        """Forward signals and reap until the server has ended.

        Returns:
            Its exit code; 128 + n if it died of signal n.
        """
        while True:
            told = signal.sigwaitinfo(signals)
            if told.si_signo == signal.SIGCHLD:
                code = self._reap()
                if code is not None:
                    return code
            elif told.si_code != SI_KERNEL:
                os.kill(self.pid, told.si_signo)

    def _reap(self) -> int | None:
        ended: int | None = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                ended = code if code >= 0 else 128 - code


def _not_found(program: str) -> str:
    if "/" in program:
        return f"there is no program {program!r}, or its interpreter (the #! line) is missing"
    if shutil.which(program):
        return f"{program!r} was found, but its interpreter (the #! line) is missing"
    return f"{program!r} was not found on PATH ({os.environ.get('PATH', 'PATH is not set')})"


def wait_for_end(signals: frozenset[signal.Signals], pidfd: int | None) -> str:
    """Wait until somebody tells us to stop, or the process that we were attached to has ended; asleep all the while.

    Args:
        signals: from `take_signals`.
        pidfd: of that process; None where we were not attached to a certain one.

    Returns:
        What ended the wait, for the log.
    """
    # Under nohup a hang-up is no reason to stop.
    stops = {number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN}
    if pidfd is not None:
        threading.Thread(target=_tell_of_end, args=(pidfd, threading.get_ident()), name="end", daemon=True).start()
    while True:
        told = signal.sigwaitinfo(signals)
        if told.si_signo in stops:
            return signal.Signals(told.si_signo).name
        if pidfd is not None and has_ended(pidfd):
            return "the process that was watched has ended"


def _tell_of_end(pidfd: int, waiting: int) -> None:
    """Wake the thread that waits for signals a moment after the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    time.sleep(LAST_WORDS_S)
    signal.pthread_kill(waiting, signal.SIGCHLD)
