"""What is looked at beyond the processes, each thing at its own pace.

In: a family with what was read of its server. Out: `Circumstances`. Rule: cheap facts at every look, dear ones seldom;
what was read at an earlier look is told until the next one of its kind. What the kernel refuses raises nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Finding, ProcessId
from wsgi_contract.settings import Setting
from wsgi_sidecar.capacity import read_dropped, read_efforts, read_pss
from wsgi_sidecar.cgroups import Cgroups
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.demand import Effort, demand, saturation, style
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.lint import lint
from wsgi_sidecar.core.lints.facts import Facts
from wsgi_sidecar.core.rules.rule import Terms
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.shared_sockets import SharedSockets
from wsgi_sidecar.surroundings import Surroundings, read_surroundings

DEMAND_EVERY_S: Final = 4.5
"""Five looks at the usual interval, whose jitter must not make six of them: the connections are dumped every fifth look
anyway, and one dump serves both."""
RESOURCES_EVERY_S: Final = 4.5
"""Limits and pressure; at once when the kernel's count of OOM kills has changed."""
PSS_EVERY_S: Final = 10.0
"""A leak takes minutes; the largest workers cost milliseconds to measure."""
SURROUNDINGS_EVERY_S: Final = 30.0
SETTLED_S: Final = 3.0
"""A server that was just started has workers that still open their files."""


class Rounds:
    """Goes round one server; starts anew when its master changes. Not thread-safe."""

    def __init__(self, reader: ProcReader, proc: str = "/proc") -> None:
        """Read nothing yet.

        Args:
            reader: took the look that a round completes.
            proc: where /proc is.
        """
        self._reader = reader
        self._proc = Path(proc)
        self._cgroups = Cgroups(self._proc)
        self._begin(None)

    def _begin(self, master: ProcessId | None) -> None:
        self._master = master
        self._sharing = SharedSockets(str(self._proc))
        self._surroundings: Surroundings | None = None
        self._surroundings_at = 0.0
        self._last = Circumstances()
        self._resources_at = float("-inf")
        self._kills: tuple[int, ...] = ()
        self._facts: Facts | None = None
        self._counted: Family | None = None
        self._threaded = False
        self._efforts: Mapping[ProcessId, Effort] = {}
        self._weighed_at = float("-inf")

    def close(self) -> None:
        """Let go of every descriptor; the next round opens them again."""
        self._cgroups.close()
        self._begin(None)

    def wants_connections(self, monotonic: float) -> bool:
        """Whether the round after a look at this time needs to know which connections wait."""
        return self._threaded and self._demand_is_due(monotonic)

    def _demand_is_due(self, monotonic: float) -> bool:
        # What could not be told is tried again at once: a server that starts has no workers yet.
        if self._counted is None or self._last.saturation is None:
            return True
        return monotonic - self._counted.monotonic >= DEMAND_EVERY_S

    def go(
        self, family: Family, terms: Terms, settings: tuple[Setting, ...], policy: Policy, grace_s: float | None = None
    ) -> Circumstances:
        """Go one round.

        Args:
            family: of this look.
            terms: what the server was told to be.
            settings: the same in full.
            policy: in force: memory is weighed only if it asks for that.
            grace_s: the pod's termination grace period; None where nobody told it.
        """
        if family.master.id != self._master:
            self._begin(family.master.id)
        around = self._with_resources(family)
        around = replace(
            around,
            oom_kills=self._oom_kills(around.pressure.oom_kills),
            shared=self._sharing.look(family, self._reader.sockets()),
            dropped=self._dropped(family),
            pss_bytes=self._weighed(family, policy),
        )
        around = self._counted_again(around, family, terms, settings)
        self._last = replace(around, findings=self._linted(around, family, terms, settings, grace_s))
        return self._last

    def _with_resources(self, family: Family) -> Circumstances:
        last, master = self._last, family.master.id
        old = family.monotonic - self._resources_at >= RESOURCES_EVERY_S
        if not old and self._cgroups.oom_kills(master) == last.pressure.oom_kills:
            return last
        self._resources_at = family.monotonic
        now = self._cgroups.read(master)
        return replace(last, limits=now.limits, pressure=now.pressure, unknowns=now.unknowns)

    def _dropped(self, family: Family) -> int | None:
        """Asked for while somebody waits: only a full queue turns anybody away."""
        waits = any(listener.queue for listener in family.listeners or ())
        return read_dropped(family.master.id.pid, self._proc) if waits else self._last.dropped

    def _oom_kills(self, counted: int | None) -> int:
        """How far the count rose over this look and the one before: whoever is killed may die a look later."""
        self._kills = (*self._kills[-2:], counted) if counted is not None else ()
        return max(0, self._kills[-1] - self._kills[0]) if self._kills else 0

    def _weighed(self, family: Family, policy: Policy) -> Mapping[ProcessId, int]:
        if not policy.memory_recycle_share:
            return {}
        if family.monotonic - self._weighed_at < PSS_EVERY_S:
            return self._last.pss_bytes
        self._weighed_at = family.monotonic
        return read_pss((worker.process.id for worker in family.workers), self._proc)

    def _counted_again(
        self, around: Circumstances, family: Family, terms: Terms, settings: tuple[Setting, ...]
    ) -> Circumstances:
        if not self._demand_is_due(family.monotonic):
            return around
        before, self._counted = self._counted, family
        self._threaded = style(terms.worker_class) == "gthread"
        self._efforts = self._efforts_of(family) if self._threaded else {}
        now = demand(family, before, terms, _threads(settings), self._efforts)
        if now is None:
            return replace(around, saturation=None, busy={})
        elapsed_s = family.monotonic - before.monotonic if before is not None else 0.0
        return replace(around, saturation=saturation(now, around.saturation, elapsed_s), busy=now.by_worker)

    def _efforts_of(self, family: Family) -> Mapping[ProcessId, Effort]:
        """Idle workers stay idle while nothing comes."""
        idle = not any(each.busy is None or each.busy or each.unread for each in self._efforts.values())
        if idle and self._efforts and self._reader.stood_still():
            return self._efforts
        return read_efforts(family, self._reader.unread(), str(self._proc))

    def _linted(
        self,
        around: Circumstances,
        family: Family,
        terms: Terms,
        settings: tuple[Setting, ...],
        grace_s: float | None,
    ) -> tuple[Finding, ...]:
        if family.at - family.master.started_at < SETTLED_S or not family.workers:
            return self._last.findings
        look = self._looked_around(family)
        facts = Facts(
            kind=family.kind,
            release=terms.release,
            settings=settings,
            limits=around.limits,
            machine_cpus=look.machine_cpus,
            heartbeat_filesystem=look.heartbeat_filesystem,
            somaxconn=look.somaxconn,
            shell=look.shell,
            termination_grace_s=grace_s,
            shared_peers=_peers(around),
        )
        if facts == self._facts:
            return self._last.findings
        self._facts = facts
        return lint(facts)

    def _looked_around(self, family: Family) -> Surroundings:
        """Once per master; again, seldom, while the heartbeat's file system is unknown."""
        known, age_s = self._surroundings, family.monotonic - self._surroundings_at
        if known is not None and (known.heartbeat_filesystem is not None or age_s < SURROUNDINGS_EVERY_S):
            return known
        worker = family.workers[0].process.id.pid
        self._surroundings = read_surroundings(family.master.id.pid, worker, self._proc)
        self._surroundings_at = family.monotonic
        return self._surroundings


def _threads(settings: tuple[Setting, ...]) -> int | None:
    value = next((setting.value for setting in settings if setting.name == "threads"), None)
    return value if isinstance(value, int) else None


def _peers(around: Circumstances) -> tuple[str, ...] | None:
    if around.shared is None:
        return None
    return tuple(sorted({f"{each.peer} ({each.service})" if each.service else each.peer for each in around.shared}))
