"""What gunicorn takes as a value of a setting, in a flag and in a config file.

In: a word of a command line, or a literal of a config file. Out: the value that gunicorn makes of it. Rule: as its
own validators do (`gunicorn/config.py`): flags are read by `int`, files by `int(text, 0)`; what it refuses is refused.
"""

from typing import Final

from wsgi_contract.settings import SettingName, Value

TEXTS: Final[frozenset[SettingName]] = frozenset({"worker_class"})
SWITCHES: Final[frozenset[SettingName]] = frozenset({"preload_app"})


class ArgumentsError(ValueError):
    """Settings that gunicorn itself would refuse; the message says which and what it takes."""


def from_word(name: SettingName, word: str, written: str) -> Value:
    """A flag's value; `written` is how the user wrote it.

    Raises:
        ArgumentsError: gunicorn would refuse it.
    """
    if name in TEXTS:
        return word.strip()
    try:
        return _not_negative(int(word))
    except ValueError:
        raise ArgumentsError(f"{written!r} is refused: {word!r} is not a whole number from 0 on") from None


def from_literal(name: SettingName, literal: Value) -> Value:
    """A config file's literal: numbers may be texts there (`"0x10"`), switches too (`"true"`).

    Raises:
        ArgumentsError: gunicorn would refuse it.
    """
    if name in TEXTS:
        return _text(name, literal)
    return _switch(name, literal) if name in SWITCHES else _number(name, literal)


def _text(name: SettingName, literal: Value) -> str:
    if not isinstance(literal, str):
        raise ArgumentsError(f"config file: {name} is {literal!r}; gunicorn takes a text")
    return literal.strip()


def _switch(name: SettingName, literal: Value) -> bool:
    if isinstance(literal, bool):
        return literal
    word = literal.strip().lower() if isinstance(literal, str) else None
    if word not in ("true", "false"):
        raise ArgumentsError(f"config file: {name} is {literal!r}; gunicorn takes True or False")
    return word == "true"


def _number(name: SettingName, literal: Value) -> int:
    try:
        if isinstance(literal, float):
            raise ValueError
        return _not_negative(int(literal, 0) if isinstance(literal, str) else int(literal))
    except ValueError:
        raise ArgumentsError(f"config file: {name} is {literal!r}; gunicorn takes a whole number from 0 on") from None


def _not_negative(number: int) -> int:
    if number < 0:
        raise ValueError
    return number
