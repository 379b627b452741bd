"""An arbiter that blocks in its own loop: it respawns nobody, ends nobody, hears no signal (gunicorn #3299, #445).

In: a closeup of the master, look after look. Out: a fault once its main thread slept through the whole window. Rule:
a gunicorn arbiter (and uWSGI's master) wakes up once a second whatever happens; one whose context switches stand still
for `stuck_window_s` while it *sleeps* is stuck. A stopped one (a debugger), a starved one (it would be running) and one
in a frozen cgroup are not. TCP probes stay green meanwhile: the kernel still accepts connections.

Ending it ends the server, so what is lost is weighed: with nobody left to serve, at once. While workers still serve,
only once harm was done that the arbiter should have mended (fewer workers than when it last woke up, or one past its
timeout) and `PATIENCE_S` went by: an arbiter that imports a preloaded app at SIGHUP may sleep long in that import, and
comes back. One that was never seen awake may still import its app at its start: it is given `BOOT_S`.
"""

from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_sidecar.core.family import Worker
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict
from wsgi_sidecar.core.snapshot import Closeup

PATIENCE_S: Final = 60.0
BOOT_S: Final = 180.0
ASLEEP: Final = ("S", "D")
FROZEN_CGROUP: Final = ("__refrigerator", "do_freezer_trap", "cgroup_freeze_task")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vigil:
    """How long the master has been asleep.

    Attributes:
        process: the master.
        switches: context switches of its main thread; None while it is awake and nobody looked closely.
        since: monotonic time at which they last changed, or of the first look.
        awake: it was seen awake at least once.
        workers: how many it had when it was last seen awake.
    """

    process: ProcessId
    switches: int | None
    since: float
    awake: bool
    workers: int


def suspects(sight: Sight, memory: Vigil | None) -> frozenset[ProcessId]:
    """The master, unless it was given a CPU since the look before, which a sleeper is not."""
    asked = sight.family.has_arbiter and not _ran(sight)
    return frozenset({sight.family.master.id}) if asked else frozenset()


def _ran(sight: Sight) -> bool:
    turns = sight.family.master.turns
    before = sight.before.master.turns if sight.before is not None else None
    return turns is not None and before is not None and turns != before


def judge(sight: Sight, memory: Vigil | None) -> Verdict:
    """Carry the vigil on, or begin it anew; one as long as the window is a fault."""
    if _ran(sight):
        return Verdict(faults=(), memory=_awake(sight))
    closeup = sight.closeups.get(sight.family.master.id)
    switches = main_switches(closeup) if closeup else None
    if closeup is None or switches is None:
        return Verdict(faults=(), memory=None)
    vigil = _watched(memory, closeup, switches, sight)
    asleep_s = closeup.monotonic - vigil.since
    window_s = sight.policy.stuck_window_s if vigil.awake else BOOT_S
    if asleep_s < window_s:
        # Only a vigil that outlasted a whole beat is worth an extra look: a healthy arbiter begins one each second.
        again_at = vigil.since + window_s if asleep_s > 2.0 else None
        return Verdict(faults=(), memory=vigil, again_at=again_at)
    return Verdict(faults=(_fault(vigil, asleep_s, closeup, sight),), memory=vigil)


def _awake(sight: Sight) -> Vigil:
    family = sight.family
    return Vigil(
        process=family.master.id, switches=None, since=family.monotonic, awake=True, workers=len(family.workers)
    )


def _watched(memory: Vigil | None, closeup: Closeup, switches: int, sight: Sight) -> Vigil:
    count = len(sight.family.workers)
    anew = Vigil(process=closeup.process, switches=switches, since=closeup.monotonic, awake=False, workers=count)
    if memory is None or memory.process != closeup.process:
        return anew
    if memory.switches is not None and memory.switches != switches:
        return replace(anew, awake=True)
    if not _sleeps(closeup, sight):
        return replace(anew, awake=memory.awake, workers=memory.workers)
    return replace(memory, switches=switches)


def _sleeps(closeup: Closeup, sight: Sight) -> bool:
    return sight.family.master.state in ASLEEP and closeup.threads[0].wchan not in FROZEN_CGROUP


def main_switches(closeup: Closeup) -> int | None:
    """Context switches of the main thread; gunicorn's control socket (25.1 and later) lives in a thread of its own."""
    return closeup.threads[0].switches if closeup.threads else None


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Why the master is not stuck after all; None where it slept on."""
    before, after = main_switches(earlier), main_switches(later)
    if before is None or after is None:
        return "the context switches of the arbiter could not be read"
    return f"the arbiter woke up ({after - before} context switches)" if after != before else None


def _fault(vigil: Vigil, asleep_s: float, closeup: Closeup, sight: Sight) -> Fault:
    family, waits_in = sight.family, closeup.threads[0].wchan or "an unknown place"
    serving = [worker for worker in family.workers if worker.state in ("alive", "draining")]
    overdue = [worker for worker in family.workers if worker.state == "overdue"]
    missing = max(0, vigil.workers - len(family.workers))
    return Fault(
        kind="stuck-arbiter",
        process=family.master.id,
        slot=None,
        since=family.at - asleep_s,
        summary=(
            f"the arbiter (pid {family.master.id.pid}) is stuck: it has slept in {waits_in} for {asleep_s:.1f} s "
            f"without one context switch, where a healthy one wakes up every second; it hears no signal and "
            f"respawns nobody ({len(serving)} workers still serve, {missing} that died were not replaced, "
            f"{len(overdue)} are past their timeout and not ended)"
        ),
        evidence=(
            Evidence(name="asleep", value=round(asleep_s, 3), unit="s"),
            Evidence(name="context switches", value=0),
            Evidence(name="waits in", value=waits_in),
            Evidence(name="workers serving", value=len(serving), unit="workers"),
            Evidence(name="workers missing", value=missing, unit="workers"),
            Evidence(name="workers overdue", value=len(overdue), unit="workers"),
            Evidence(name="release", value=sight.terms.release or "unknown"),
        ),
        target="server",
        spare=_why_spared(serving, harmed=bool(missing or overdue), asleep_s=asleep_s),
    )


def _why_spared(serving: list[Worker], *, harmed: bool, asleep_s: float) -> str | None:
    if not serving:
        return None
    if not harmed:
        return (
            f"{len(serving)} workers still serve and none was lost yet, so the server is not ended; look at its arbiter"
        )
    if asleep_s < PATIENCE_S:
        return f"{len(serving)} workers still serve; it is ended when none does, or once it slept {PATIENCE_S:g} s"
    return None


RULE: Final = Rule(kind="stuck-arbiter", target="server", blank=None, suspects=suspects, judge=judge, doubt=doubt)
