"""JSON that a stranger wrote, read without trusting it.

In: bytes from a socket of the server, which its application could imitate. Out: a JSON object, and its members by type.
Rule: a member that is absent or of another type is None, for releases differ and a missing number is unknown, not zero.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

Members = Mapping[str, Any]

_LARGEST: Final = 2**53
"""Beyond it a JSON number is no exact integer in most languages; nothing that servers count is as large."""


class NotAnObjectError(ValueError):
    """The bytes are no JSON object; the message says what they are."""


def read_object(data: bytes) -> Members:
    """The JSON object in `data`; bytes that are not UTF-8 are replaced, control characters in strings are let be.

    Raises:
        NotAnObjectError: it is none.
    """
    try:
        found = json.loads(data.decode(errors="replace"), strict=False)
    except (ValueError, RecursionError) as error:
        raise NotAnObjectError(f"the answer of {len(data)} bytes is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise NotAnObjectError(f"the answer is a JSON {type(found).__name__}, not an object")
    return found


def integer(members: Members, name: str) -> int | None:
    """A whole number from 0 on."""
    value = members.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None


def number(members: Members, name: str) -> float | None:
    """A number, also negative, never infinite."""
    value = members.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and abs(value) <= _LARGEST else None


def text(members: Members, name: str, most: int = 256) -> str | None:
    """A text, cut after `most` characters."""
    value = members.get(name)
    return value[:most] if isinstance(value, str) else None


def switch(members: Members, name: str) -> bool | None:
    """True or false; 0 and 1 count as such."""
    value = members.get(name)
    return bool(value) if isinstance(value, bool) or value in (0, 1) else None


def objects(members: Members, name: str, most: int) -> Iterator[Members]:
    """The objects in a list, at most so many; nothing if there is no list."""
    value = members.get(name)
    found = value[:most] if isinstance(value, list) else []
    return (item for item in found if isinstance(item, dict))
