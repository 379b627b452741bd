"""What a change in place is decided on and with: means, scene, step.

In: nothing. Out: `Lever`, `Scene`, `Act`, `Change`, and what is in force now. Rule: values only; who decides stands in
`in_place` (whether and how an order is taken up) and `verifying` (what becomes of it).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from wsgi_contract.in_place import InPlaceOrder, Means, Named
from wsgi_contract.settings import Setting, SettingName, Wanted
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.journal import Journal

Verb = Literal["reload", "more", "fewer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """By what this server can be changed.

    Attributes:
        means: see `Means`.
        obstacle: why not all settings can be changed; None where all can.
        settings: what it reads now, or read at its start; for `config-file` alone.
        fixed: settings that stronger words give, with these words.
        least_workers: the least number that the server would start with, and why; None where any will do.
        reloads_by_itself: writing is enough.
    """

    means: Means
    obstacle: str | None = None
    settings: Wanted = field(default_factory=Wanted)
    fixed: Mapping[SettingName, str] = field(default_factory=dict)
    least_workers: tuple[int, str] | None = None
    reloads_by_itself: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One look, and what it is about.

    Attributes:
        order: the last good one; None where nothing is ordered.
        lever: None while there is no server.
        family: None while there is no server.
        settings: in force, as far as they could be read.
        at: wall clock.
        ticks: clock ticks since boot.
        hertz: ticks in a second.
        heard: settings that the server itself says it runs with; empty where it does not speak, or was not asked.
    """

    order: InPlaceOrder | None
    lever: Lever | None
    family: Family | None
    settings: tuple[Setting, ...]
    at: float
    ticks: int
    hertz: int = 100
    heard: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be done: the journal is written and read back first; only then the server is told."""

    journal: Journal
    verb: Verb | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How far things are.

    Attributes:
        journal: None before the first order.
        steady_since: ticks from which on all workers were up; None while they are not.
        pushed_ticks: when the last TTIN or TTOU was sent.
        pushed_at: how many workers there were then.
    """

    journal: Journal | None = None
    steady_since: int | None = None
    pushed_ticks: int = 0
    pushed_at: int | None = None


def in_force(settings: Wanted, scene: Scene) -> Named:
    """The settings of these names as they are now; by signals the number of workers is what is seen."""
    known = {setting.name: setting.value for setting in scene.settings}
    if scene.lever is not None and scene.lever.means == "signals" and scene.family is not None:
        known["workers"] = len(serving(scene.family))
    told = ((name, known.get(name)) for name, _ in settings.items())
    return tuple((name, value) for name, value in told if isinstance(value, int))


def serving(family: Family) -> list[Worker]:
    """The workers that are not on their way out."""
    return [worker for worker in family.workers if worker.state != "draining"]


def done(change: Change, journal: Journal) -> tuple[Change, Act]:
    """The end of an order: it is written, and nobody is told."""
    return replace(change, steady_since=None), Act(journal=journal, verb=None)
