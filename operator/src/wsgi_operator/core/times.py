"""Times as Kubernetes writes them.

In: Unix seconds, also from strangers. Out: RFC 3339 text. Rule: a number that is no time has no text.
"""

from datetime import UTC, datetime


def moment(at: float | None) -> str | None:
    """Unix seconds as RFC 3339; None for none, and for numbers that are no time: none of ours is before 1970."""
    try:
        return None if at is None or at < 0 else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None
