"""Values that are noted as JSON in annotations, read back.

In: a dataclass, and text that anybody may have written. Out: the value, or None. Rule: each field is of its type, or
the whole is spoilt; whoever takes the value need not doubt it. What a newer release notes beside it is left out, so
that whoever goes back to an older one finds his workloads as they were.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Read = Callable[[Any], Any]

GREATEST: Final = 2**53 - 1
"""The greatest whole number that every reader of JSON understands alike; what we note are times and small counts."""


class SpoiltError(ValueError):
    """The JSON is no value of that type."""


def noted(kind: type[T], text: str | None) -> T | None:
    """The value that a text tells of; None for no text, and for one that somebody spoilt."""
    try:
        return _reader(kind)(json.loads(text)) if text else None  # type: ignore[arg-type]  # types can be hashed
    except (ValueError, RecursionError):
        return None


@cache
def _reader(kind: Any) -> Read:
    """What reads JSON as that type."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return partial(_value, kind, *_fields(kind))
    if origin is Annotated:
        return partial(_said, *_fields(parts[1]))
    if origin is Literal:
        return partial(_word, parts)
    if origin is tuple:
        return partial(_list, _reader(parts[0]))
    if origin is Mapping:
        return partial(_object, _reader(parts[1]))
    if origin in (Union, UnionType):
        return partial(_either, sorted(map(_reader, parts), key=lambda read: read is not _nothing))
    return _PLAIN[kind]


def _fields(kind: Any) -> tuple[Mapping[str, Read], frozenset[str]]:
    """How each field of a dataclass is read, and which must be there."""
    hints = get_type_hints(kind, include_extras=True)
    needed = (field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING)
    return {name: _reader(hint) for name, hint in hints.items()}, frozenset(needed)


def _said(readers: Mapping[str, Read], needed: frozenset[str], raw: Any) -> dict[str, Any]:
    """Those fields that are known and there."""
    if not isinstance(raw, dict) or not needed <= raw.keys():
        raise SpoiltError
    return {name: read(raw[name]) for name, read in readers.items() if name in raw}


def _value(kind: Any, readers: Mapping[str, Read], needed: frozenset[str], raw: Any) -> Any:
    return kind(**_said(readers, needed, raw))


def _word(words: Sequence[Any], raw: Any) -> Any:
    if not isinstance(raw, str) or raw not in words:
        raise SpoiltError
    return raw


def _list(read: Read, raw: Any) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise SpoiltError
    return tuple(map(read, raw))


def _object(read: Read, raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise SpoiltError
    return {_text(name): read(value) for name, value in raw.items()}


def _either(readers: Sequence[Read], raw: Any) -> Any:
    for read in readers:
        try:
            return read(raw)
        except SpoiltError:
            continue
    raise SpoiltError


def _nothing(raw: Any) -> None:
    if raw is not None:
        raise SpoiltError


def _text(raw: Any) -> str:
    """Text that can be written: JSON can say halves of surrogate pairs, which are none."""
    if not isinstance(raw, str) or not (raw.isascii() or raw == raw.encode(errors="ignore").decode()):
        raise SpoiltError
    return raw


def _whole(raw: Any) -> int:
    if type(raw) is not int or abs(raw) > GREATEST:
        raise SpoiltError
    return raw


def _number(raw: Any) -> float:
    if type(raw) not in (int, float) or not abs(raw) <= GREATEST:  # NaN is no number either
        raise SpoiltError
    return raw  # type: ignore[no-any-return]  # 5 stays 5, so that it is written as it was read


def _truth(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise SpoiltError
    return raw


_PLAIN: Final[Mapping[Any, Read]] = {
    NoneType: _nothing,
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
}
