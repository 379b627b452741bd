"""What a thread waits on, told by the kernel function that it waits in.

In: a name as `/proc/PID/wchan` gives it. Out: the kind of the wait, and it in words. Rule: the name's beginning tells,
for kernels rename the rest (`pipe_read`, `anon_pipe_read`); what is not listed is not guessed.
"""

from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal[
    "client",    # of the server: a slow sender, or a slow reader
    "network",   # something that the application asked: a database, an API, DNS
    "listener",  # idle: the next connection
    "events",    # an event loop over several things
    "lock",      # a lock, or an idle pool thread: the same from outside
    "child",     # a process that it started
    "pipe",
    "disk",      # files and file systems, NFS included
    "sleep",
    "cpu",       # it does not wait
    "stopped",   # by a signal, a debugger or the freezer
    "unknown",
]  # fmt: skip

_WCHANS: Final[Mapping[str, tuple[Kind, str]]] = {
    "futex": ("lock", "waits for a lock or for work"),
    "hrtimer_nanosleep": ("sleep", "sleeps"),
    "do_nanosleep": ("sleep", "sleeps"),
    "inet_csk_accept": ("listener", "waits for a connection"),
    "ep_poll": ("events", "waits for events"),
    "do_epoll_wait": ("events", "waits for events"),
    "poll_schedule": ("events", "waits for events"),
    "do_sys_poll": ("events", "waits for events"),
    "do_select": ("events", "waits for events"),
    "wait_woken": ("network", "waits for data from a socket"),
    "sk_wait_data": ("network", "waits for data from a socket"),
    "unix_stream": ("network", "waits for data from a unix socket"),
    "sk_stream_wait_connect": ("network", "waits for a connection to be answered"),
    "sk_stream_wait_memory": ("network", "waits until a socket takes more data"),
    "pipe_read": ("pipe", "reads from a pipe"),
    "anon_pipe_read": ("pipe", "reads from a pipe"),
    "pipe_write": ("pipe", "writes to a pipe that nobody drains"),
    "anon_pipe_write": ("pipe", "writes to a pipe that nobody drains"),
    "do_wait": ("child", "waits for a child process"),
    "locks_lock": ("lock", "waits for a file lock"),
    "flock_lock": ("lock", "waits for a file lock"),
    "rpc_wait": ("disk", "waits for an NFS server"),
    "nfs": ("disk", "waits for an NFS server"),
    "request_wait_answer": ("disk", "waits for a FUSE file system"),
    "io_schedule": ("disk", "waits for a disk"),
    "folio_wait": ("disk", "waits for a disk"),
    "jbd2": ("disk", "waits for a disk"),
    "do_freezer": ("stopped", "is frozen by its cgroup"),
    "get_signal": ("stopped", "is frozen by its cgroup"),
    "__refrigerator": ("stopped", "is frozen by its cgroup"),
    "do_signal_stop": ("stopped", "is stopped by a signal"),
}


def by_wchan(wchan: str) -> tuple[Kind, str] | None:
    """Kind and words; None for a function that is not listed.

    >>> by_wchan("futex_do_wait")
    ('lock', 'waits for a lock or for work')
    """
    return next((said for start, said in _WCHANS.items() if wchan.startswith(start)), None)
