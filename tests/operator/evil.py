"""What somebody puts into JSON that we read: wrong values, in any place of a good one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

TERMINAL = "\x1b]0;owned\x07\x1b[2J\r\n2026-01-01 CRITICAL all is lost\u202e"
EVIL: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 2**31, 2**53 - 1, 2**53, -(2**63), 10**400, -6.2e10, 1e308, -0.0, "", [], {}, TERMINAL]
    ),
    st.sampled_from([2**53 - 1, -6.2e10]),
    st.sampled_from(
        ["\ud800", "\x00", "x" * 20_000, "é" * 5000, "killed", "frozen-worker", "unlimited", "command-line"]
    ),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=30),
)

Place = tuple[str | int, ...]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Where a JSON value can be changed."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from places(part, (*path, key))


def put(value: Any, path: Sequence[str | int], change: Callable[[Any], Any]) -> Any:
    """The value with a part replaced; a part that an earlier change took away is not there any more."""
    if not path:
        return change(value)
    if isinstance(value, dict) and path[0] in value:
        return value | {path[0]: put(value[path[0]], path[1:], change)}
    if isinstance(value, list) and isinstance(path[0], int) and path[0] < len(value):
        return [*value[: path[0]], put(value[path[0]], path[1:], change), *value[path[0] + 1 :]]
    return value
