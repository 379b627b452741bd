"""What the sidecar is ordered, by files: what it may do (policy), and settings that the server shall get in place.

In: a file with the contract's `Policy` or `InPlaceOrder` as JSON, usually an annotation that the downward API keeps up
to date. Out: what was ordered last, and why the file could not be read. Rule: read when it changed; a bad file keeps
the last good order and says so; a missing or empty file orders nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Generic, TypeVar

from wsgi_contract.in_place import InPlaceOrder, OrderError, parse_order
from wsgi_contract.policy import Policy, PolicyError, parse_policy

MOST_BYTES: Final = 65536

Ordered = TypeVar("Ordered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The policy in force.

    Attributes:
        policy: in force.
        trouble: why the file was not followed; None where it was.
    """

    policy: Policy
    trouble: str | None = None


class _Followed(Generic[Ordered]):
    """One file, read again when it changed."""

    def __init__(self, path: Path | None, parse: Callable[[str], Ordered], nothing: Ordered) -> None:
        self._path = path
        self._parse = parse
        self._nothing = nothing
        self._text: str | None = None
        self._trouble: str | None = None
        self._last = nothing

    def read(self) -> tuple[Ordered, str | None]:
        """What is ordered now, and what is wrong; reading 200 bytes costs 15 us, less than telling whether to."""
        try:
            text = self._content()
        except (OSError, UnicodeDecodeError) as error:
            self._text, self._trouble = None, f"{self._path} cannot be read: {error}"
            return self._last, self._trouble
        if text != self._text:
            self._text = text
            self._follow(text)
        return self._last, self._trouble

    def _content(self) -> str:
        if self._path is None:
            return ""
        try:
            with self._path.open(encoding="utf-8") as file:
                return file.read(MOST_BYTES)
        except FileNotFoundError:
            return ""

    def _follow(self, text: str) -> None:
        try:
            self._last = self._parse(text) if text.strip() else self._nothing
        except (PolicyError, OrderError) as error:
            self._trouble = f"{self._path}: {error}"
        else:
            self._trouble = None


class PolicyFile:
    """Follows one policy file."""

    def __init__(self, path: Path | None, *, dry_run: bool = False) -> None:
        """Read nothing yet.

        Args:
            path: of the file; None where there is none.
            dry_run: nothing is ever killed, whatever the file says.
        """
        self._file = _Followed(path, parse_policy, Policy())
        self._dry_run = dry_run

    def read(self) -> Orders:
        """The policy now; without a file the defaults hold."""
        policy, trouble = self._file.read()
        return Orders(policy=replace(policy, mode="DryRun") if self._dry_run else policy, trouble=trouble)


class OrderFile:
    """Follows one file with an order to change settings in place."""

    def __init__(self, path: Path | None) -> None:
        """Read nothing yet; None where there is no file."""
        self._file: _Followed[InPlaceOrder | None] = _Followed(path, parse_order, None)

    def read(self) -> tuple[InPlaceOrder | None, str | None]:
        """The last good order, None without one; and why the file was not followed, None where it was."""
        return self._file.read()
