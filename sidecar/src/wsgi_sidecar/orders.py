"""What the sidecar may do, as it was ordered: the policy file.

In: a file with the contract's `Policy` as JSON, usually an annotation that the downward API keeps up to date. Out: the
policy in force, and why the file could not be read. Rule: read when it changed; a bad file keeps the last good policy
and says so; a missing or empty file orders nothing, so the defaults hold.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wsgi_contract.policy import Policy, PolicyError, parse_policy

MOST_BYTES: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The policy in force.

    Attributes:
        policy: in force.
        trouble: why the file was not followed; None where it was.
    """

    policy: Policy
    trouble: str | None = None


class PolicyFile:
    """Follows one policy file."""

    def __init__(self, path: Path | None, *, dry_run: bool = False) -> None:
        """Read nothing yet.

        Args:
            path: of the file; None where there is none.
            dry_run: nothing is ever killed, whatever the file says.
        """
        self._path = path
        self._dry_run = dry_run
        self._text: str | None = None
        self._orders = Orders(policy=self._limited(Policy()))

    def read(self) -> Orders:
        """The orders now; reading 200 bytes costs 15 us, less than it takes to tell whether they changed."""
        try:
            text = self._content()
        except (OSError, UnicodeDecodeError) as error:
            self._text = None
            self._orders = replace(self._orders, trouble=f"{self._path} cannot be read: {error}")
            return self._orders
        if text != self._text:
            self._text = text
            self._orders = self._follow(text)
        return self._orders

    def _content(self) -> str:
        if self._path is None:
            return ""
        try:
            with self._path.open(encoding="utf-8") as file:
                return file.read(MOST_BYTES)
        except FileNotFoundError:
            return ""

    def _follow(self, text: str) -> Orders:
        try:
            policy = parse_policy(text) if text.strip() else Policy()
        except PolicyError as error:
            return replace(self._orders, trouble=f"{self._path}: {error}")
        return Orders(policy=self._limited(policy))

    def _limited(self, policy: Policy) -> Policy:
        return replace(policy, mode="DryRun") if self._dry_run else policy
