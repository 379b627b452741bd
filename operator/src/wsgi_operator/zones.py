"""Time zones by their IANA names.

In: a name. Out: the zone, or None. Rule: the database is the system's, else the one of the `tzdata` package, so that an
image without any knows them, too; a name that neither knows is a value, not an error.
"""

from functools import lru_cache
from zoneinfo import ZoneInfo


@lru_cache(maxsize=256)
def zone_of(name: str) -> ZoneInfo | None:
    """The zone; None if nobody knows it. A name from outside can be anything, a path too: zoneinfo refuses those."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None
