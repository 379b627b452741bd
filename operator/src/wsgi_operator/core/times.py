"""Times as Kubernetes writes them.

In: Unix seconds, also from strangers, or text. Out: RFC 3339 text, or Unix seconds. Rule: a number that is no time has
no text, and a text that is none has no number.
"""

from datetime import UTC, datetime


def moment(at: float | None) -> str | None:
    """Unix seconds as RFC 3339; None for none, and for numbers that are no time: none of ours is before 1970."""
    try:
        return None if at is None or at < 0 else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def seconds(text: str | None) -> float | None:
    """RFC 3339 as Unix seconds; None for none, and for texts that are no time."""
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
