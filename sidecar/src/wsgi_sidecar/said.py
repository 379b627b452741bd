"""Who said a value, and whether it can be used.

In: flags and environment. Out: numbers, paths, addresses. Rule: the flag wins over the environment variable; a bad
value is told in one sentence that names who said it and what it may be.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from wsgi_contract import names
from wsgi_sidecar.core.statsd_lines import Destination, DestinationError, parse_destination
from wsgi_sidecar.log import FORMATS, Format

N = TypeVar("N", int, float)


class ConfigError(Exception):
    """A value that cannot be used; the message says which, and what it may be."""


class Said:
    """Who said a value: the flag, or else the environment variable."""

    def __init__(self, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> None:
        """Flags by their names with underscores, as argparse keeps them."""
        self._flags = flags
        self._environment = environment

    def _find(self, flag: str, variable: str | None) -> tuple[str, str] | None:
        value = self._flags.get(flag.removeprefix("--").replace("-", "_"))
        if value is not None:
            return flag, value
        # An empty variable is how a template leaves a value out.
        from_environment = self._environment.get(variable, "") if variable else ""
        return (variable, from_environment) if variable and from_environment else None

    def number(self, flag: str, variable: str | None, bounds: tuple[float, float]) -> float | None:
        """A number within its bounds; None where nobody said one."""
        return self._parsed(self._find(flag, variable), float, bounds, "a number")

    def whole(self, flag: str, variable: str | None, bounds: tuple[int, int]) -> int | None:
        """A whole number, likewise."""
        return self._parsed(self._find(flag, variable), int, bounds, "a whole number")

    def _parsed(
        self, found: tuple[str, str] | None, parse: Callable[[str], N], bounds: tuple[N, N], kind: str
    ) -> N | None:
        if found is None:
            return None
        who, text = found
        try:
            value = parse(text)
        except ValueError:
            value = None
        low, high = bounds
        if value is None or not low <= value <= high:
            raise ConfigError(f"{who} is {text!r}; it may be {kind} from {low} to {high}")
        return value

    def log_format(self) -> Format:
        """How lines are written; text where nobody said."""
        who, text = self._find("--log-format", names.ENV_LOG_FORMAT) or ("", "text")
        chosen = next((form for form in FORMATS if form == text), None)
        if chosen is None:
            raise ConfigError(f"{who} is {text!r}; it may be {' or '.join(FORMATS)}")
        return chosen

    def text(self, flag: str, variable: str) -> str | None:
        """A text as it is; None where nobody said one."""
        found = self._find(flag, variable)
        return found[1] if found else None

    def path(self, flag: str, variable: str) -> Path | None:
        """A path; None where nobody said one."""
        found = self._find(flag, variable)
        return Path(found[1]) if found else None

    def destination(self, flag: str, variable: str) -> Destination | None:
        """Where datagrams go; None where nobody said."""
        found = self._find(flag, variable)
        try:
            return parse_destination(found[1]) if found else None
        except DestinationError as error:
            raise ConfigError(f"{found[0] if found else flag}: {error}") from None
