"""What all pods of one workload say, put together.

In: one answer per pod, a Report or Silence. Out: `Evidence`. Rule: a pod that did not answer says nothing, and nothing
is made up for it; where pods differ, it is said that they differ, and never averaged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from wsgi_contract.report import Incident, Kill, Report, ServerKind, Unknown
from wsgi_contract.settings import SETTING_NAMES, Setting, SettingName, Source, Value, Wanted

State = Literal["Agreed", "Mixed", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that carries the sidecar.

    Attributes:
        name: its own.
        uid: tells it from an earlier one of the same name.
        ip: None while it has none.
        waiting: why it cannot answer yet; None if it should answer.
        unheeded: whether it was made without the settings that its annotations order.
        verifiers: of the tokens that open its report; empty: it answers anybody.
        token: the one that we have; None: it needs none.
        order: id of the order to change settings in place that it was given; None: none.
        workload: kind and name of what it was made for; None: nobody's, somebody made it by hand.
        created: Unix seconds; 0: not told.
        ready_since: Unix seconds; None: it is not ready.
        restarts: of all its containers.
        trouble: what keeps it from being ready, in the kubelet's words; None: nothing that anybody tells of.
        hopeless: whether that trouble will not pass by itself.
        revision: of the template that it was made from, where a StatefulSet says so.
    """

    name: str
    uid: str
    ip: str | None
    waiting: str | None = None
    unheeded: bool = False
    verifiers: tuple[str, ...] = ()
    token: str | None = field(default=None, repr=False)
    order: str | None = None
    workload: tuple[str, str] | None = None
    created: float = 0.0
    ready_since: float | None = None
    restarts: int = 0
    trouble: str | None = None
    hopeless: bool = False
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A pod's Report."""

    pod: Pod
    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A pod that did not answer, and why, as far as could be told."""

    pod: Pod
    reason: str


Answer = Heard | Silence


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """One setting over all pods.

    Attributes:
        name: which.
        state: whether the pods agree.
        value: None unless they agree.
        values: all different values, sorted as text.
        source: who gave it, in the first pod that knows.
        said_by: the words that gave it, likewise.
        pinned: whether any pod's command line gives it.
        wanted: what the spec wants; None: nothing.
    """

    name: SettingName
    state: State
    value: Value | None
    values: tuple[Value, ...]
    source: Source
    said_by: str | None
    pinned: bool
    wanted: int | None

    @property
    def met(self) -> bool:
        """Whether what is wanted is in force, or nothing is wanted; unknown is not met, but see `known`."""
        return self.wanted is None or (self.state == "Agreed" and self.value == self.wanted)

    @property
    def known(self) -> bool:
        """Whether any pod could tell."""
        return self.state != "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the pods say together.

    Attributes:
        pods: all that carry the sidecar.
        heard: those that reported, by name.
        silent: those that did not, by name.
        settings: in force, one per setting that any pod mentions.
        without_server: names of pods whose sidecar sees no server.
    """

    pods: int
    heard: tuple[Heard, ...]
    silent: tuple[Silence, ...]
    settings: tuple[InForce, ...]
    without_server: tuple[str, ...]

    def incidents(self) -> tuple[tuple[Pod, Incident], ...]:
        """Open ones first, then the ended ones; the latest first in both."""
        found = [(answer.pod, incident) for answer in self.heard for incident in answer.report.incidents]
        return tuple(sorted(found, key=lambda pair: (pair[1].ended_at is not None, -pair[1].since, pair[0].name)))

    def all_pods(self) -> tuple[Pod, ...]:
        """Those that reported, and those that did not."""
        answers: tuple[Answer, ...] = (*self.heard, *self.silent)
        return tuple(answer.pod for answer in answers)

    def unheeded(self) -> tuple[Pod, ...]:
        """The pods that were made without the settings that their annotations order."""
        return tuple(pod for pod in self.all_pods() if pod.unheeded)

    def ajar(self) -> tuple[Pod, ...]:
        """The pods that answer anybody, although they were told to ask for a token."""
        return tuple(a.pod for a in self.heard if a.pod.verifiers and not a.report.sidecar.guarded)

    def denied(self) -> tuple[tuple[Pod, str], ...]:
        """Pods whose sidecar runs as somebody else than the server, and who is who: the kernel shows it little then."""
        known = [(answer.pod, answer.report.server, answer.report.sidecar) for answer in self.heard]
        return tuple(
            (pod, f"the sidecar runs as {sidecar.uid}:{sidecar.gid}, the server as {server.uid}:{server.gid}")
            for pod, server, sidecar in known
            if server is not None and (server.uid, server.gid) != (sidecar.uid, sidecar.gid)
        )

    def kinds(self) -> tuple[ServerKind, ...]:
        """Which servers run, by name."""
        return tuple(sorted({answer.report.server.kind for answer in self.heard if answer.report.server is not None}))

    def saturation(self) -> float | None:
        """That of the fullest pod; None where no pod can tell."""
        told = (answer.report.saturation for answer in self.heard)
        return max((one.ratio for one in told if one is not None), default=None)

    def kills(self) -> tuple[tuple[Pod, Kill], ...]:
        """All that the reports still list."""
        return tuple((answer.pod, kill) for answer in self.heard for kill in answer.report.kills)

    def unknowns(self) -> tuple[tuple[Unknown, int], ...]:
        """What cannot be seen, and in how many pods; the most frequent first."""
        counted: dict[Unknown, int] = {}
        for answer in self.heard:
            for unknown in set(answer.report.unknowns):
                counted[unknown] = counted.get(unknown, 0) + 1
        return tuple(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0].what, pair[0].why)))


def gather(answers: Iterable[Answer], wanted: Wanted) -> Evidence:
    """Put the answers together.

    Args:
        answers: one per pod that carries the sidecar.
        wanted: the settings that the spec wants.
    """
    by_name = sorted(answers, key=lambda answer: answer.pod.name)
    heard = tuple(answer for answer in by_name if isinstance(answer, Heard))
    silent = tuple(answer for answer in by_name if isinstance(answer, Silence))
    return Evidence(
        pods=len(by_name),
        heard=heard,
        silent=silent,
        settings=_in_force([answer.report for answer in heard], dict(wanted.items())),
        without_server=tuple(answer.pod.name for answer in heard if answer.report.server is None),
    )


def _in_force(reports: Sequence[Report], wanted: Mapping[SettingName, int]) -> tuple[InForce, ...]:
    told = {name: [s for r in reports if r.server is not None and (s := r.setting(name))] for name in SETTING_NAMES}
    return tuple(_one(name, told[name], wanted.get(name)) for name in SETTING_NAMES if told[name] or name in wanted)


def _one(name: SettingName, told: Sequence[Setting], wanted: int | None) -> InForce:
    known = [setting for setting in told if setting.value is not None]
    values = tuple(sorted({s.value for s in known if s.value is not None}, key=str))
    voice = next(iter(known or told), None)
    return InForce(
        name=name,
        state="Unknown" if not values else "Agreed" if len(values) == 1 else "Mixed",
        value=values[0] if len(values) == 1 else None,
        values=values,
        source=voice.source if voice else "unknown",
        said_by=voice.said_by if voice else None,
        pinned=any(setting.pinned for setting in told),
        wanted=wanted,
    )
