"""A room of one's own for what kills or counts processes: a private PID namespace.

In: the module that asks. Out: the same module, run again inside. Rule: nothing outside is in sight or in reach, and
everything ends with it; process 1 in there does nothing but reap, as in a pod.
"""

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

INSIDE: Final = "WSGI_BENCHMARK_INSIDE"
PID_MAX: Final = Path("/proc/sys/kernel/pid_max")
_SET_FLAGS, _UP, _RUNNING = 0x8914, 0x1, 0x40
LAST_PID: Final = Path("/proc/sys/kernel/ns_last_pid")


def enter(module: str, main: Callable[[], int], *, network: bool = False) -> int:
    """Run `main` inside; returns its exit code, or does not return.

    Args:
        module: that asks.
        main: what to run.
        network: whether the room has a network of its own, too: a loopback and nothing else.
    """
    if os.environ.get(INSIDE) != "1":
        own = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        own += ("--net",) if network else ()
        command = ("unshare", *own, "--pid", "--fork", "--mount-proc", "--kill-child")
        arguments = (*command, sys.executable, "-m", module, *sys.argv[1:])
        os.execvpe(arguments[0], arguments, os.environ | {INSIDE: "1"})
    if network:
        _raise_loopback()
    child = os.fork()
    if child == 0:
        return main()
    while True:
        with suppress(ChildProcessError):
            pid, status = os.wait()
            if pid == child:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _raise_loopback() -> None:
    """`ip link set lo up`, without ip: man 7 netdevice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sH14x", b"lo", _UP | _RUNNING))


def limit_pids(most: int) -> bool:
    """Make pids wrap at `most`, in here only; False where the kernel has one limit for all (before 6.14)."""
    if _kernel() < (6, 14):
        return False
    try:
        PID_MAX.write_text(str(most))
    except OSError:
        return False
    return PID_MAX.read_text().strip() == str(most)


def fork_as(pid: int) -> int:
    """Fork, if the kernel allows it under the given pid; returns as fork does."""
    with suppress(OSError):
        LAST_PID.write_text(str(pid - 1))
    return os.fork()


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
