"""How many Events may be posted now, however many there are to tell.

In: what was left, and what time it is. Out: how many are granted, and what is left then. Rule: a pod that invents kills
must not fill etcd with Events; what is not granted waits, and what waited too long was told by status and metrics.

client-go's own filter grants an object 25 Events at once and one in five minutes. Each kill is two Events here, and
a hundred pods may share one WSGIServer: 100 at once (50 kills), then one in 6 s, ten a minute.
"""

from dataclasses import dataclass
from typing import Final

AT_ONCE: Final = 100
EVERY_S: Final = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ration:
    """What is left.

    Attributes:
        left: Events that may be posted, parts of one included.
        at: when that was so, Unix seconds.
    """

    left: float = AT_ONCE
    at: float = 0.0


def grant(ration: Ration, wanted: int, now: float) -> tuple[int, Ration]:
    """How many of those wanted may be posted, and what is left then; a clock that was set back grants nothing extra."""
    left = min(float(AT_ONCE), ration.left + max(0.0, now - ration.at) / EVERY_S)
    granted = min(wanted, int(left))
    return granted, Ration(left=left - granted, at=now)
