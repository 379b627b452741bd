"""What the operator remembers on the Deployment itself, so that a restart forgets nothing.

In: the Deployment's annotations. Out: `Record` (what we wrote last) and `Original` (what the owner had where we had to
override), and their JSON. Rule: both travel in the very apply that changes the template, so that they can never tell
of another template than the one they sit on.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from wsgi_contract import names
from wsgi_operator.core.noted import noted
from wsgi_operator.core.roll import Fields, Roll, Undone, Wish
from wsgi_operator.core.server import Runs
from wsgi_operator.core.sidecar import Identity
from wsgi_operator.core.workload import Object, Owner, annotations

ANNOTATION_APPLIED: Final = f"{names.GROUP}/applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that an apply changed, for people.

    Attributes:
        name: a setting as the resource calls it, or `sidecar`, `image`, `watchdog`, `identity`.
        before: None: it was left to the owner.
        after: None: it is left to the owner again.
    """

    name: str
    before: str | None
    after: str | None

    @property
    def words(self) -> str:
        """In a few words."""
        if self.before is None:
            return f"{self.name} {self.after}"
        return f"{self.name} {self.before} -> {self.after or 'as its owner has it'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What we applied last.

    Attributes:
        server: uid of the WSGIServer.
        generation: of its spec.
        config: hash of the applied configuration.
        variables: texts that we gave variables of the container in the template.
        share: whether we set shareProcessNamespace.
        settings: the wanted settings at that time.
        policy: the policy at that time.
        image: the sidecar's.
        learnt: whom the server was found to run as.
        runs: the server that the settings are written for.
        ordered: what pods get in their variables at their creation.
        requests: where the server's own count of its requests goes; None: it is not asked for one.
        app: image of the app whose workload we made; None: the workload is its owner's.
        inherited: the `GUNICORN_CMD_ARGS` that image or envFrom give the server; None: not seen yet.
        drifts: how many times in a row somebody else's change was undone.
        drift_at: when that was last, Unix seconds.
        at: when something changed last, Unix seconds.
        changes: what that was; status and Events tell it from here, so a crash right after the apply loses nothing.
        sidecar: all that was wished of the sidecar at that time; None: an operator wrote this that kept no wishes.
        roll: that this apply began, or the last one before it; None: none since this is kept.
        before: what to go back to if that roll fails; None: the owner's template alone.
        undone: the last change that was taken back; None: none, or something else was asked for since.
    """

    server: str
    generation: int
    config: str
    share: bool
    settings: Mapping[str, int]
    policy: str
    image: str
    learnt: Identity
    runs: Runs = "gunicorn"
    variables: Mapping[str, str] = field(default_factory=dict)
    ordered: Mapping[str, str] = field(default_factory=dict)
    requests: str | None = None
    app: str | None = None
    inherited: str | None = None
    drifts: int = 0
    drift_at: float = 0.0
    at: float = 0.0
    changes: tuple[Change, ...] = ()
    sidecar: Fields | None = None
    roll: Roll | None = None
    before: Wish | None = None
    undone: Undone | None = None

    @property
    def wish(self) -> Wish | None:
        """What was asked for; None where that was not kept."""
        if self.sidecar is None:
            return None
        return Wish(settings=self.settings, policy=self.policy, sidecar=self.sidecar, requests=self.requests)

    @property
    def out(self) -> bool:
        """Whether the sidecar was taken out again, so that nothing but this record is ours."""
        return self.undone is not None and self.undone.out

    def news(self, before: "Record") -> bool:
        """Whether there is a reason for a new template other than that somebody changed it.

        That is a new wish of the user's, or something learnt from the pods. The same wish and yet another template is
        an upgraded operator, an owner's change, or another operator at work.
        """
        asked = (self.server, self.generation, self.learnt, self.inherited, self.runs)
        return asked != (before.server, before.generation, before.learnt, before.inherited, before.runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One value of the owner's that we override.

    Attributes:
        value: None: the field was there, but empty.
        owners: who owned the field before.
    """

    value: str | bool | None
    owners: tuple[Owner, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """All that we override; None: the owner had nothing there.

    Attributes:
        container: the one whose environment is meant.
        variables: its variables that we override, by name.
        share: shareProcessNamespace, where the owner says false.
    """

    container: str
    variables: Mapping[str, Kept] = field(default_factory=dict)
    share: Kept | None = None

    def __bool__(self) -> bool:
        return bool(self.variables) or self.share is not None


def all_told(changes: Iterable[Change]) -> str:
    """All of them in one line."""
    return ", ".join(change.words for change in changes)


def dump(value: Record | Original) -> str:
    """As stable JSON."""
    return json.dumps(asdict(value), sort_keys=True, separators=(",", ":"))


def record_of(deployment: Object) -> Record | None:
    """What we applied last; None if nothing, or if the annotation was spoilt: then it is written anew."""
    return noted(Record, annotations(deployment).get(ANNOTATION_APPLIED))


def original_of(deployment: Object) -> Original | None:
    """What the owner had; None if we override nothing."""
    return noted(Original, annotations(deployment).get(names.ANNOTATION_ORIGINAL))
