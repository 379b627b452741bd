"""How long looks take, as a histogram.

In: durations in seconds. Out: `Stopwatch`. Rule: bounded, whatever is measured; buckets are upper bounds, inclusive.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""A look at 16 workers should take 2.5 ms; the buckets lie around that, from a tiny server to a starved sidecar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopwatch:
    """Durations so far.

    Attributes:
        laps: how many fell into each bucket (not cumulated); the last one is beyond all bounds.
        total_s: their sum.
    """

    laps: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    total_s: float = 0.0

    def with_lap(self, seconds: float) -> "Stopwatch":
        """This stopwatch with one more duration."""
        bucket = bisect_left(BOUNDS_S, seconds)
        laps = (*self.laps[:bucket], self.laps[bucket] + 1, *self.laps[bucket + 1 :])
        return Stopwatch(laps=laps, total_s=self.total_s + seconds)
