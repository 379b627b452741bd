"""The door to gunicorn's statsd: a datagram socket, emptied by a thread of its own.

In: datagrams on loopback UDP or a unix socket. Out: `Traffic`, the newest totals, at any time. Rule: the server must
never feel us. It sends from inside each request, so nothing here may make it wait, fail or write to its log.

Which transport (measured on 20.1.0, 23.0.0 and 27.0.1, one sync worker, 3 datagrams a request):

                          UDP on 127.0.0.1                      unix socket (not in 20.1)
    receiver runs         0.89 of the rate without statsd       0.78
    receiver stopped or   same rate; the kernel drops           **the app stands still** after
    starved of CPU        and counts                            11 datagrams
    nobody receives       1.5 failed sends, 7.5 log lines       3 failed sends, 15 log lines
                          a request                             a request
    receiver is back      works again at once                   fails for ever
    sender's pid          unknown                               known

So UDP is the transport, and the unix socket is for those who want numbers per worker and accept that a sidecar short of
CPU stops their app. The reasons: gunicorn connects once, before it forks, and a unix socket stays connected to the dead
one; its queue is `net.unix.max_dgram_qlen` long (10 in every new network namespace) and its sender blocks when it is
full. A process that holds the socket and outlives the receiver (`hold.py`) keeps every send successful meanwhile.
"""

import errno
import logging
import os
import select
import socket
import stat
import struct
import threading
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from wsgi_sidecar.core.statsd_lines import MAX_BYTES
from wsgi_sidecar.core.traffic import Traffic, take_in, without_workers

LOG: Final = logging.getLogger(__name__)

RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked for; the kernel gives at most twice `net.core.rmem_max`. A datagram takes 768 bytes of it, so the usual 208 KiB
hold 550 datagrams: 180 requests between two looks."""
PAUSE_S: Final = 0.01
"""From the first datagram of a batch to its end: at most 100 wake-ups a second under load, none when idle. At 10,000
requests/s a batch is 300 datagrams, which fit the smallest buffer. Not for a unix socket: its sender would wait too."""
BATCH: Final = 4096
SO_MEMINFO: Final = 55  # linux/socket.h
MEMINFO_DROPS: Final = 8  # the ninth u32 of it
CREDENTIALS: Final = struct.Struct("3i")


class AddressTakenError(OSError):
    """Somebody else receives there already; the message says where and what to do."""


def bind_udp(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A UDP socket to receive on; loopback only, unless told otherwise.

    Raises:
        AddressTakenError: the port is in use.
        OSError: the host is none of this machine's addresses.
    """
    receiver = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    )
    try:
        receiver.bind((host, port))
    except OSError as error:
        receiver.close()
        if error.errno != errno.EADDRINUSE:
            raise
        message = f"UDP port {port} on {host} is taken; give the sidecar another statsd port"
        raise AddressTakenError(errno.EADDRINUSE, message) from None
    return _prepared(receiver)


def bind_unix(path: Path, mode: int = 0o660) -> socket.socket:
    """A unix datagram socket at `path`, replacing one that nobody receives on any more.

    The new socket is moved over the old name, so that there is no moment without one.

    Raises:
        AddressTakenError: somebody receives there, or something that is not a socket lies there.
        OSError: the folder is missing or may not be written.
    """
    _refuse_if_in_use(path)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)
        receiver.bind(str(fresh))
        fresh.chmod(mode)
        fresh.rename(path)
    except OSError:
        receiver.close()
        raise
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return _prepared(receiver)


def _refuse_if_in_use(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise AddressTakenError(
            errno.EADDRINUSE, f"{path} exists and is not a socket; remove it or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise AddressTakenError(errno.EADDRINUSE, f"somebody else receives on {path}; choose another path")


def _prepared(receiver: socket.socket) -> socket.socket:
    receiver.setblocking(False)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return receiver


def dropped(receiver: socket.socket) -> int | None:
    """Datagrams that the kernel threw away because the buffer was full; None where it does not say (before 4.12).

    Always 0 for a unix socket: there the sender waits instead.
    """
    try:
        meminfo = receiver.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * (MEMINFO_DROPS + 1))
    except OSError:
        return None
    return struct.unpack(f"{len(meminfo) // 4}I", meminfo)[MEMINFO_DROPS] if len(meminfo) > 4 * MEMINFO_DROPS else None


class Receiver:
    """Empties one socket from a thread of its own.

    Args:
        receiver: from `bind_udp`, `bind_unix` or `hold.py`; closed by `stop`.
        pass_on: called with each datagram unchanged, in the receiving thread: it must not block or raise.
        pause_s: how long a batch is gathered; None for `PAUSE_S`, and 0 for a unix socket.
    """

    def __init__(
        self, receiver: socket.socket, *, pass_on: Callable[[bytes], None] | None = None, pause_s: float | None = None
    ) -> None:
        self._socket = receiver
        self._receive = self._from_unix if receiver.family == socket.AF_UNIX else self._from_udp
        self._pass_on = pass_on
        self._pause_s = pause_s if pause_s is not None else 0.0 if receiver.family == socket.AF_UNIX else PAUSE_S
        self._traffic = Traffic()
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="statsd", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def stop(self) -> None:
        """Take in what has arrived, end the thread, close the socket."""
        self._stopping.set()
        os.write(self._wake_writer, b"x")
        if self._thread.is_alive():
            self._thread.join()
        for fd in (self._wake_reader, self._wake_writer):
            os.close(fd)
        self._socket.close()

    @property
    def traffic(self) -> Traffic:
        """The totals so far: a value, replaced as a whole after each batch."""
        return self._traffic

    @property
    def dropped(self) -> int | None:
        """See `dropped`."""
        return dropped(self._socket)

    def forget(self, gone: tuple[int, ...]) -> None:
        """Drop the numbers of senders that died, after the caller moved them to their slots."""
        with self._writing:
            self._traffic = without_workers(self._traffic, gone)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        while not self._stopping.is_set():
            poll.poll()
            self._stopping.wait(self._pause_s)
            self._turn()
        self._turn()

    def _turn(self) -> None:
        try:
            batch = self._drain()
            with self._writing:
                self._traffic = take_in(self._traffic, batch)
        except Exception:  # the thread must outlive any surprise: without it the buffer fills and numbers stop
            LOG.exception("statsd: a batch was lost")
            self._stopping.wait(1.0)

    def _drain(self) -> Counter[tuple[int | None, bytes]]:
        found = list(islice(iter(self._next, None), BATCH))
        if self._pass_on is not None:
            for _, data in found:
                self._pass_on(data)
        return Counter(reversed(found))

    def _next(self) -> tuple[int | None, bytes] | None:
        try:
            return self._receive()
        except BlockingIOError:
            return None

    def _from_udp(self) -> tuple[int | None, bytes]:
        # One byte more than may be, so that a longer one is known by its length.
        return None, self._socket.recv(MAX_BYTES + 1)

    def _from_unix(self) -> tuple[int | None, bytes]:
        data, ancillary, _, _ = self._socket.recvmsg(MAX_BYTES + 1, socket.CMSG_SPACE(CREDENTIALS.size))
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(content) >= CREDENTIALS.size:
                pid, _, _ = CREDENTIALS.unpack_from(content)
                return pid or None, data  # 0: the sender lives in a PID namespace that we cannot see
        return None, data
