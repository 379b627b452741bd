"""What is remembered of a roll that we began: enough to tell its end, and to go back.

In: nothing. Out: `Wish`, `Roll`, `Undone`, and how they are read from JSON. Rule: they travel in the workload's record,
in the very apply that begins the roll, so an operator that dies at any moment forgets nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from wsgi_contract.policy import PolicyError, parse_policy
from wsgi_contract.settings import Wanted
from wsgi_operator.core.server import Server, Sidecar

Kind = Literal["adoption", "staged", "settings", "identity", "upgrade", "undo"]
"""Why a roll began. adoption: the sidecar came. staged: the settings that had to wait at adoption until the pods told
what the image sets. settings: the spec changed. identity: the pods told whom the server runs as. upgrade: another
sidecar, or another operator's idea of it. undo: back to what was before."""

Outcome = Literal["Kept", "Undone", "Failed"]
"""Kept: its pods became ready. Undone: they did not, and what was before is applied again. Failed: they did not, and
there is nothing of ours that undoing could mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for at one time, whole enough to ask for it again.

    Attributes:
        settings: by our names.
        policy: as text.
        sidecar: the fields of a `Sidecar`.
        requests: where the server's own count of its requests goes, or `counted`; None: it is not asked for one.
    """

    settings: Mapping[str, int]
    policy: str
    sidecar: Mapping[str, Any]
    requests: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """The last roll that we began.

    Attributes:
        kind: why.
        began: Unix seconds.
        theirs: digest of the owner's part of the template then; another one since means that the owner rolls, too.
        calm: whether all pods were ready then: where they were not, a roll that fails says nothing against the change.
        ended: Unix seconds; None while it is under way.
        outcome: None while it is under way.
        why: what the pods said where they did not become ready.
    """

    kind: Kind
    began: float
    theirs: str
    calm: bool
    ended: float | None = None
    outcome: Outcome | None = None
    why: str = ""

    @property
    def open(self) -> bool:
        """Whether it is under way."""
        return self.ended is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """A change that was taken back, and is not tried again while the same is asked for.

    Attributes:
        generation: of the spec that asked for it.
        wish: what it was.
        at: when it was tried, Unix seconds.
        tried: what it changed, for people.
        why: what the pods said.
        kind: of its roll.
        out: whether it was the adoption, so that the sidecar was taken out again.
    """

    generation: int
    wish: Wish
    at: float
    tried: str
    why: str
    kind: Kind
    out: bool = False

    def answers(self, server: Server) -> bool:
        """Whether what is asked for now is what failed: the same spec, and for an upgrade the same image."""
        another = self.kind == "upgrade" and self.wish.sidecar.get("image") != server.sidecar.image
        return self.generation == server.generation and not another


COUNTED: Final = "counted"
"""What a record says of requests that are counted and go nowhere else."""

_SIDECAR: Final = frozenset(Sidecar.__dataclass_fields__)


def wished_sidecar(server: Server) -> dict[str, Any]:
    """The sidecar as a wish keeps it."""
    return {name: value for name, value in asdict(server.sidecar).items() if value is not None}


def wished_again(server: Server, wish: Wish, generation: int) -> Server | None:
    """The WSGIServer as it asked at that time; None where this operator cannot read that wish any more."""
    settings = {name: value for name, value in wish.settings.items() if name in Wanted.__dataclass_fields__}
    sidecar = {name: value for name, value in wish.sidecar.items() if name in _SIDECAR}
    try:
        policy = parse_policy(wish.policy)
    except PolicyError:
        return None
    return replace(server, generation=generation, wanted=Wanted(**settings), policy=policy, sidecar=Sidecar(**sidecar))


def wish_from(raw: Mapping[str, Any] | None) -> Wish | None:
    """From JSON.

    Raises:
        TypeError: somebody spoilt it.
    """
    if raw is None:
        return None
    wish = Wish(**raw)
    settings_fit = isinstance(wish.settings, dict) and all(isinstance(value, int) for value in wish.settings.values())
    sidecar_fits = isinstance(wish.sidecar, dict) and isinstance(wish.sidecar.get("image"), str)
    if not settings_fit or not sidecar_fits or not isinstance(wish.policy, str):
        raise TypeError("this is no wish")
    return wish


def roll_from(raw: Mapping[str, Any] | None) -> Roll | None:
    """From JSON.

    Raises:
        TypeError: somebody spoilt it.
    """
    return None if raw is None else Roll(**raw)


def undone_from(raw: Mapping[str, Any] | None) -> Undone | None:
    """From JSON.

    Raises:
        TypeError: somebody spoilt it.
    """
    return None if raw is None else Undone(**(dict(raw) | {"wish": wish_from(raw.get("wish"))}))
