"""The door to uWSGI's stats server.

In: where it listens, and the master. Out: `UwsgiStats`. Rule: it says all it knows to everybody who connects, and hangs
up; nothing is sent, unless it was told to speak HTTP (`stats-http`): then it waits for a request. It is answered by the
master's own loop: no answer within a second, while the master lives, is a sign that it is stuck. It costs uWSGI 0.3 ms.
"""

from collections.abc import Sequence
from typing import Final

from wsgi_sidecar.core.addresses import StreamAddress
from wsgi_sidecar.core.uwsgi import MAX_STATS_BYTES, StatsError, UwsgiStats, parse_stats
from wsgi_sidecar.streams import NoAnswerError, Stream

WITHIN_S: Final = 1.0


def ask_stats(
    addresses: Sequence[StreamAddress],
    master: int,
    *,
    http: bool = False,
    within_s: float = WITHIN_S,
    root: str = "/proc",
) -> UwsgiStats:
    """What uWSGI says about itself.

    Args:
        addresses: where its stats servers listen, tried in their order.
        master: pid as we see it; paths are meant inside its container.
        http: whether it speaks HTTP, as its option `stats-http` says.
        within_s: for each address.
        root: of /proc.

    Raises:
        NoAnswerError: nobody answers at any of them.
        StatsError: what answers is not uWSGI.
    """
    failure = NoAnswerError("no stats server: start uWSGI with --stats or UWSGI_STATS")
    for address in addresses:
        try:
            with Stream(address, within_s=within_s, process=master, root=root) as stream:
                if http:
                    stream.send(b"GET / HTTP/1.0\r\n\r\n")
                return parse_stats(stream.everything(MAX_STATS_BYTES))
        except NoAnswerError as error:
            failure = error
    raise failure


__all__ = ["NoAnswerError", "StatsError", "ask_stats"]
