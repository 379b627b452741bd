"""What the server says of its requests: the statsd sockets, from their opening to the Report.

In: `StatsdSettings`, then the family of each look. Out: `RequestTotals`. Rule: off unless asked for; the socket is
opened before anything heavy is imported, so that it is there before the server is.
"""

import socket

from wsgi_contract.report import RequestTotals
from wsgi_sidecar.config import ConfigError, StatsdSettings
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.served import BySlot, by_slot, totals
from wsgi_sidecar.forward import Forwarder
from wsgi_sidecar.statsd import Receiver, bind_udp, bind_unix


def open_socket(settings: StatsdSettings) -> socket.socket:
    """The socket to receive on.

    Raises:
        ConfigError: it cannot be had; the message says why and what to do.
    """
    try:
        return bind_unix(settings.path) if settings.path is not None else bind_udp(settings.port)
    except OSError as error:
        where = settings.path or f"UDP port {settings.port}"
        raise ConfigError(f"cannot receive statsd on {where}: {error.strerror or error}") from None


def address(receiver: socket.socket, settings: StatsdSettings) -> str:
    """Where it receives, as `--statsd-host` writes it; a unix socket was renamed since the kernel named it."""
    if settings.path is not None:
        return f"unix://{settings.path.absolute()}"
    host, port = receiver.getsockname()
    return f"{host}:{port}"


class Hearing:
    """Listens to one server's statsd. `told` is called by one thread."""

    def __init__(self, receiver: socket.socket, settings: StatsdSettings) -> None:
        """Begin to receive.

        Args:
            receiver: from `open_socket`.
            settings: whether and where datagrams go on to.
        """
        self._forwarder = Forwarder(settings.forward) if settings.forward else None
        self._receiver = Receiver(receiver, pass_on=self._forwarder)
        self._slots = BySlot()
        self._receiver.start()

    def told(self, family: Family | None) -> RequestTotals:
        """The totals of this look."""
        traffic = self._receiver.traffic
        self._slots = by_slot(self._slots, traffic, family)
        if self._slots.gone:
            self._receiver.forget(self._slots.gone)
        passed = self._forwarder.forwarded if self._forwarder else None
        return totals(
            traffic,
            self._slots,
            dropped=self._receiver.dropped,
            forwarded=(passed.sent, passed.failed) if passed else None,
        )

    def stop(self) -> None:
        """Receive no more."""
        self._receiver.stop()
        if self._forwarder:
            self._forwarder.close()
