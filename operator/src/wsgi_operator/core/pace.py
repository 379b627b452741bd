"""When the next look at a workload is due that nothing has happened to.

In: which WSGIServer, what time it is, the interval. Out: seconds to wait. Rule: every WSGIServer has its own place in
the interval, drawn from its uid: a thousand that were begun at the same moment are looked at one after the other,
evenly, and not all at once every ten seconds.
"""

import hashlib
from typing import Final

SOONEST: Final = 0.25
"""Parts of the interval: a place that is nearer is left out once. With 10 s the first wait is 2.5 to 12.5 s, each
further one 10 s."""


def wait_s(uid: str, now: float, interval_s: float) -> float:
    """Seconds until this WSGIServer's place comes round.

    Args:
        uid: of the WSGIServer.
        now: by any clock that runs on, seconds.
        interval_s: from one look to the next.
    """
    place = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4]) / 2**32 * interval_s
    soonest = SOONEST * interval_s
    return soonest + (place - now - soonest) % interval_s
