"""What differs between two objects, one line for each whole thing that came, went or changed.

In: parsed JSON. Out: lines with paths. Rule: entries of a list are told apart by their name, as Kubernetes does; what
is new as a whole is one line, however much is in it.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

WIDEST: Final = 60


def differences(before: Any, after: Any) -> list[str]:
    """The lines.

    >>> differences({"a": 1, "c": [{"name": "x"}]}, {"a": 2, "c": [{"name": "x"}, {"name": "y", "v": 3}]})
    ['~ a: 1 -> 2', '+ c[y] {name, v}']
    """
    return list(_between(before, after, ""))


def _between(before: Any, after: Any, path: str) -> Iterator[str]:
    before, after = _by_name(before), _by_name(after)
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if before != after:
            yield f"~ {path}: {_short(before)} -> {_short(after)}"
        return
    for key in [*before, *(key for key in after if key not in before)]:
        where = f"{path}{key}" if key.startswith("[") else f"{path}.{key}" if path else key
        if key not in after:
            yield f"- {where}"
        elif key not in before:
            yield f"+ {where}{_value(after[key])}"
        else:
            yield from _between(before[key], after[key], where)


def _by_name(value: Any) -> Any:
    named = isinstance(value, list) and all(isinstance(entry, dict) and "name" in entry for entry in value)
    return {f"[{entry['name']}]": entry for entry in value} if named else value


def _value(value: Any) -> str:
    named = _by_name(value)
    if isinstance(named, dict):
        return f" {{{', '.join(key.strip('[]') for key in named)}}}"
    return f": {_short(value)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= WIDEST else f"{text[:WIDEST]}..."
