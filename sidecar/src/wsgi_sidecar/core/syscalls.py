"""The system call a thread is in, read from outside.

In: the text of /proc/PID/task/TID/syscall and the machine's name. Out: `Call`. Rule: a number that the tables do not
know keeps its number and gets no name; on a machine without a table no call has one.

The tables hold the calls that a Python process can be seen waiting in; the rest return before anybody looks. Numbers:
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (which is aarch64's) of Linux.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_X86_64: Final[Mapping[int, str]] = {
    0: "read", 1: "write", 2: "open", 3: "close", 4: "stat", 6: "lstat", 7: "poll", 17: "pread64", 18: "pwrite64",
    19: "readv", 20: "writev", 23: "select", 34: "pause", 35: "nanosleep", 40: "sendfile", 42: "connect", 43: "accept",
    44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg", 61: "wait4", 65: "semop", 72: "fcntl", 73: "flock",
    74: "fsync", 75: "fdatasync", 82: "rename", 87: "unlink", 128: "rt_sigtimedwait", 130: "rt_sigsuspend",
    162: "sync", 202: "futex", 208: "io_getevents", 217: "getdents64", 219: "restart_syscall", 220: "semtimedop",
    230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid", 257: "openat", 258: "mkdirat", 262: "newfstatat",
    263: "unlinkat", 270: "pselect6", 271: "ppoll", 275: "splice", 281: "epoll_pwait", 288: "accept4", 295: "preadv",
    296: "pwritev", 299: "recvmmsg", 306: "syncfs", 307: "sendmmsg", 316: "renameat2", 318: "getrandom",
    326: "copy_file_range", 332: "statx", 426: "io_uring_enter", 437: "openat2", 441: "epoll_pwait2",
    449: "futex_waitv", 455: "futex_wait",
}  # fmt: skip
_AARCH64: Final[Mapping[int, str]] = {
    4: "io_getevents", 22: "epoll_pwait", 25: "fcntl", 32: "flock", 34: "mkdirat", 35: "unlinkat", 56: "openat",
    57: "close", 61: "getdents64", 63: "read", 64: "write", 65: "readv", 66: "writev", 67: "pread64", 68: "pwrite64",
    69: "preadv", 70: "pwritev", 71: "sendfile", 72: "pselect6", 73: "ppoll", 76: "splice", 79: "newfstatat",
    81: "sync", 82: "fsync", 83: "fdatasync", 95: "waitid", 98: "futex", 101: "nanosleep", 115: "clock_nanosleep",
    128: "restart_syscall", 133: "rt_sigsuspend", 137: "rt_sigtimedwait", 192: "semtimedop", 193: "semop",
    202: "accept", 203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 242: "accept4",
    243: "recvmmsg", 260: "wait4", 267: "syncfs", 269: "sendmmsg", 276: "renameat2", 278: "getrandom",
    285: "copy_file_range", 291: "statx", 426: "io_uring_enter", 437: "openat2", 441: "epoll_pwait2",
    449: "futex_waitv", 455: "futex_wait",
}  # fmt: skip
TABLES: Final[Mapping[str, Mapping[int, str]]] = {"x86_64": _X86_64, "aarch64": _AARCH64, "arm64": _AARCH64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Where a thread is, as the kernel tells it.

    Attributes:
        running: on a CPU or ready for one; then there is no number and no name.
        number: of the system call; None outside of one (for example in a page fault).
        name: of the system call; None where the tables do not know it.
        arguments: the six registers; empty unless it is in a call.
    """

    running: bool = False
    number: int | None = None
    name: str | None = None
    arguments: tuple[int, ...] = ()


def parse_call(text: str, machine: str) -> Call | None:
    """Read one /proc/PID/task/TID/syscall; None if it is none.

    >>> parse_call("45 0x4 0x7f9e 0x1 0x0 0x0 0x0 0x7f9e 0x7f9e", "x86_64").name
    'recvfrom'
    """
    words = text.split()
    if words == ["running"]:
        return Call(running=True)
    try:
        number, arguments = int(words[0]), tuple(int(word, 16) for word in words[1:7])
    except (ValueError, IndexError):
        return None
    if number < 0:
        return Call()
    return Call(number=number, name=TABLES.get(machine, {}).get(number), arguments=arguments)
