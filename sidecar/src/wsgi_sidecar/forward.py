"""The door to the user's own statsd: every datagram goes on to it, byte for byte.

In: datagrams that `statsd.Receiver` took. Out: the same datagrams, and counts. Rule: never wait, never raise, never log
per datagram: a destination that is absent or slow costs its own numbers and nothing else.

Sent from an unconnected socket: a connected one reports "connection refused" for the datagram before, and a unix one
stays tied to a destination that has restarted. Names are resolved in a thread of their own, again every minute, because
a resolver that hangs would stop the receiving.
"""

import logging
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from wsgi_sidecar.core.statsd_lines import Destination

LOG: Final = logging.getLogger(__name__)
RESOLVE_EVERY_S: Final = 60.0
RETRY_EVERY_S: Final = 5.0
TELL_EVERY_S: Final = 300.0
SEND_BUFFER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """What went on.

    Attributes:
        sent: datagrams handed to the kernel; over UDP nobody knows whether they arrived.
        failed: datagrams that were dropped: no such host, no such socket, or its queue was full.
    """

    sent: int = 0
    failed: int = 0


class Forwarder:
    """Sends datagrams on; called from one thread.

    Args:
        destination: the user's own statsd.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._senders: dict[int, socket.socket] = {}
        self._target: tuple[socket.socket, Any] | None = None
        self._sent = self._failed = 0
        self._quiet_until = 0.0
        self._stopping = threading.Event()
        self._resolver = threading.Thread(target=self._keep_resolving, name="statsd-resolve", daemon=True)
        if destination.path:
            self._aim(socket.AF_UNIX, destination.path)
        else:
            self._resolver.start()

    def __call__(self, datagram: bytes) -> None:
        """Send one datagram on, or count it as failed."""
        target = self._target
        try:
            if target is None:
                raise OSError(f"the name {self._destination.host} is not resolved")
            target[0].sendto(datagram, target[1])
        except OSError as error:
            self._failed += 1
            self._tell(str(error))
        else:
            self._sent += 1

    @property
    def forwarded(self) -> Forwarded:
        """The counts so far."""
        return Forwarded(sent=self._sent, failed=self._failed)

    def close(self) -> None:
        """Stop; call it when nothing is sent any more. A resolver that hangs ends by itself."""
        self._stopping.set()
        self._target = None
        for sender in self._senders.values():
            sender.close()

    def _tell(self, why: str) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + TELL_EVERY_S
            LOG.warning("statsd cannot be forwarded to %s: %s (%d so far)", self._destination, why, self._failed)

    def _keep_resolving(self) -> None:
        while not self._stopping.is_set():
            resolved = self._resolve()
            self._stopping.wait(RESOLVE_EVERY_S if resolved else RETRY_EVERY_S)

    def _resolve(self) -> bool:
        try:
            found = socket.getaddrinfo(self._destination.host, self._destination.port, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return False
        self._aim(found[0][0], found[0][4])
        return True

    def _aim(self, family: int, address: Any) -> None:
        if not self._stopping.is_set():
            if family not in self._senders:
                self._senders[family] = _sender(family)
            self._target = (self._senders[family], address)


def _sender(family: int) -> socket.socket:
    sender = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    sender.setblocking(False)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return sender
