"""The token that opens `/report`, and its verifier, which anybody may read.

In: the operator's key and the uid of a WSGIServer. Out: that server's token; its verifier; whether a token fits one.
Rule: a verifier opens nothing, so it may stand in a pod's annotation; the token of one WSGIServer opens no other's
reports, so who overhears it on the pod network has gained one team's reports and no more; comparing takes the same time
whatever was guessed.

A token is 256 bits from a keyed hash, so its verifier is a plain SHA-256: there is nothing to try out.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

KEY_BYTES: Final = 32
"""A shorter key could be tried out by whoever has one token."""

VERIFIERS_LIMIT: Final = 4
"""More than the two that a change of keys needs."""

_PURPOSE: Final = b"wsgi.dev/report/v1\0"
_VERIFIER: Final = re.compile(r"sha256:[0-9a-f]{64}")


class VerifierError(ValueError):
    """No verifiers; the message says what is wrong."""


def token_of(key: bytes, server_uid: str) -> str:
    """The token that opens the reports of that WSGIServer's pods."""
    digest = hmac.digest(key, _PURPOSE + server_uid.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def verifier_of(token: str) -> str:
    """What a pod may be told, so that it knows the token when it hears it."""
    return f"sha256:{hashlib.sha256(token.encode(errors='replace')).hexdigest()}"


def parse_verifiers(text: str) -> tuple[str, ...]:
    """Read verifiers, separated by spaces or lines.

    Raises:
        VerifierError: there is none, there are too many, or something else stands there.
    """
    found = tuple(text.split())
    if not found:
        raise VerifierError("it holds no verifier")
    if len(found) > VERIFIERS_LIMIT:
        raise VerifierError(f"it holds {len(found)} verifiers, more than {VERIFIERS_LIMIT}")
    if not all(map(_VERIFIER.fullmatch, found)):
        raise VerifierError("a verifier is sha256: and 64 hexadecimal digits, and something else stands there")
    return found


def fits(token: str, verifiers: Iterable[str]) -> bool:
    """Whether it is the token of one of these verifiers."""
    told = verifier_of(token)
    return sum(hmac.compare_digest(told, verifier) for verifier in verifiers) > 0  # each is compared, whatever fits
