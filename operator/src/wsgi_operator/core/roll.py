"""What is remembered of a roll that we began: enough to tell its end, and to go back.

In: nothing. Out: `Wish`, `Roll`, `Undone`. Rule: they travel in the workload's record, in the very apply that begins
the roll, so an operator that dies at any moment forgets nothing. A newer release may have written them: its words for
kinds and outcomes are kept, and are none of ours.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Final, Literal

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


Fields = Annotated[Mapping[str, Any], Sidecar]
"""Some fields of a `Sidecar`, by name: as many as were said."""


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
    sidecar: Fields
    requests: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """The last roll that we began.

    Attributes:
        kind: why: a `Kind`, or a newer release's word.
        began: Unix seconds.
        theirs: digest of the owner's part of the template then; another one since means that the owner rolls, too.
        calm: whether all pods were ready then: where they were not, a roll that fails says nothing against the change.
        ended: Unix seconds; None while it is under way.
        outcome: an `Outcome`, or a newer release's word; None while it is under way.
        why: what the pods said where they did not become ready.
    """

    kind: str
    began: float
    theirs: str
    calm: bool
    ended: float | None = None
    outcome: str | None = None
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
        kind: of its roll, likewise.
        out: whether it was the adoption, so that the sidecar was taken out again.
    """

    generation: int
    wish: Wish
    at: float
    tried: str
    why: str
    kind: str
    out: bool = False

    def answers(self, server: Server) -> bool:
        """Whether what is asked for now is what failed: the same spec, and for an upgrade the same image."""
        another = self.kind == "upgrade" and self.wish.sidecar.get("image") != server.sidecar.image
        return self.generation == server.generation and not another


COUNTED: Final = "counted"
"""What a record says of requests that are counted and go nowhere else."""


def wished_sidecar(server: Server) -> dict[str, Any]:
    """The sidecar as a wish keeps it."""
    return {name: value for name, value in asdict(server.sidecar).items() if value is not None}


def wished_again(server: Server, wish: Wish, generation: int) -> Server | None:
    """The WSGIServer as it asked at that time; None where this operator cannot read that wish any more."""
    try:
        policy = parse_policy(wish.policy)
    except PolicyError:
        return None
    sidecar = Sidecar(**wish.sidecar)
    return replace(server, generation=generation, wanted=wanted_of(wish.settings), policy=policy, sidecar=sidecar)


def wanted_of(settings: Mapping[str, int]) -> Wanted:
    """The settings that were noted, as far as this release knows them."""
    return Wanted(**{name: value for name, value in settings.items() if name in Wanted.__dataclass_fields__})
