"""Who may read the report.

In: a file of verifiers, usually an annotation that the downward API keeps up to date; the `Authorization` of a request.
Out: None, or why not. Rule: where the file is missing or cannot be used, nobody may; the log says once what is wrong
and what to do; all else goes on.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wsgi_contract import names
from wsgi_contract.report_token import VerifierError, fits, parse_verifiers
from wsgi_sidecar import log
from wsgi_sidecar.core.lines import Line

MOST_CHARACTERS: Final = 1024
_ASK: Final = "the report is given to bearers of its token: ask with Authorization: Bearer TOKEN (docs/operations.md)"
_OTHER: Final = "this token opens another report: it was made for another WSGIServer, or from another key"
_REMEDY: Final = (
    f"nobody is given the report until it holds what the pod's annotation {names.ANNOTATION_VERIFIERS} should say: "
    "restart the pod from a template that has it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a report is not given.

    Attributes:
        status: of HTTP.
        why: for a person.
    """

    status: int
    why: str


class Gate:
    """Lets in those whose token fits a file of verifiers."""

    def __init__(self, path: Path | None = None) -> None:
        """Look at the file, so that what is wrong with it is told at the start.

        Args:
            path: of the file; None lets everybody in.
        """
        self._path = path
        self._told: str | None = None
        if path is not None:
            self._verifiers(path)

    def refusal(self, authorization: str | None) -> Refusal | None:
        """Why the sender of this header may not read the report; None: he may.

        The file is read each time: that costs 15 us, and a token that was taken back opens nothing any more.
        """
        if self._path is None:
            return None
        verifiers = self._verifiers(self._path)
        if isinstance(verifiers, Refusal):
            return verifiers
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return Refusal(status=401, why=_ASK)
        return None if fits(token.strip(), verifiers) else Refusal(status=401, why=_OTHER)

    def _verifiers(self, path: Path) -> tuple[str, ...] | Refusal:
        try:
            with path.open(encoding="utf-8") as file:
                verifiers = parse_verifiers(file.read(MOST_CHARACTERS))
        except (OSError, UnicodeDecodeError, VerifierError) as error:
            why = f"{path} cannot be used ({getattr(error, 'strerror', None) or error}); {_REMEDY}"
            self._say(why)
            return Refusal(status=503, why=why)
        self._told = None
        return verifiers

    def _say(self, why: str) -> None:
        if why != self._told:
            log.write(Line(event="report-closed", message=why, level="error", fields={"file": str(self._path)}))
        self._told = why
