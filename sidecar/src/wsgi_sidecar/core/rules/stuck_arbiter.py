"""An arbiter that blocks in its own loop: it respawns nobody, ends nobody, hears no signal (gunicorn #3299, #445).

In: a closeup of the master, look after look. Out: a fault once its main thread slept through the whole window. Rule:
a gunicorn arbiter (and uWSGI's master) wakes up once a second whatever happens; one whose context switches stand still
for `stuck_window_s` while it *sleeps* is stuck. A stopped one (a debugger), a starved one (it would be running) and one
in a frozen cgroup are not. TCP probes stay green meanwhile: the kernel still accepts connections.

One that comes or goes may sleep long in what its owner wrote (an import, `on_starting`, `on_exit`), and is given
`LOADING_S`. It comes until it was seen with a worker: a start-up runs on a CPU before it sleeps. Without workers
gunicorn leaves when it holds no listener, and uWSGI, which keeps its sockets, may be loading its app again after a
SIGHUP.

Ending it ends the server, so what is lost is weighed: with nobody left to serve, at once if it waits where the known
faults do. While workers still serve, only once harm was done that the arbiter should have mended (fewer workers than
when it last woke up, or one past its timeout). `PATIENCE_S` goes by before that, as before anything else that may be a
hook of the owner's, or the import of a preloaded app at SIGHUP: it comes back.
"""

from dataclasses import dataclass, replace
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId
from wsgi_sidecar.core.descent import LOADING_S
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict, Wishes
from wsgi_sidecar.core.snapshot import Closeup
from wsgi_sidecar.core.wchans import by_wchan

PATIENCE_S: Final = 60.0
LONGER_THAN_A_BEAT_S: Final = 2.0
ASLEEP: Final = ("S", "D")
FROZEN_CGROUP: Final = ("__refrigerator", "do_freezer_trap", "cgroup_freeze_task", "get_signal")
"""Where the kernels of the last years keep a frozen task; not one of v1's freezer that waits for a lock."""
KNOWN_WAITS: Final = ("events", "pipe")
"""Where stuck arbiters were met: eventlet's hub (#3299), and the log that nobody reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vigil:
    """How long the master has been asleep.

    Attributes:
        process: the master.
        switches: context switches of its main thread; None while it is awake and nobody looked closely.
        since: monotonic time at which they last changed, or of the first look.
        up: it was seen with a worker at least once.
        workers: how many it had when it was last seen awake.
    """

    process: ProcessId
    switches: int | None
    since: float
    up: bool
    workers: int


def suspects(sight: Sight, memory: Vigil | None) -> frozenset[ProcessId]:
    """The master, unless it was given a CPU since the look before, which a sleeper is not."""
    asked = sight.family.has_arbiter and not _ran(sight)
    return frozenset({sight.family.master.id}) if asked else frozenset()


def wishes(sight: Sight, memory: Vigil | None) -> Wishes:
    """Whether it is frozen, once it slept longer than a healthy one does, and so before each judgement."""
    if memory is None or memory.process != sight.family.master.id or _ran(sight):
        return Wishes()
    return Wishes(freezer=sight.family.monotonic - memory.since > LONGER_THAN_A_BEAT_S)


def _ran(sight: Sight) -> bool:
    turns = sight.family.master.turns
    before = sight.before.master.turns if sight.before is not None else None
    return turns is not None and before is not None and turns != before


def judge(sight: Sight, memory: Vigil | None) -> Verdict:
    """Carry the vigil on, or begin it anew; one as long as the window is a fault."""
    known = memory if memory is not None and memory.process == sight.family.master.id else None
    if _ran(sight):
        return Verdict(faults=(), memory=_begun(sight, known))
    closeup = sight.closeups.get(sight.family.master.id)
    switches = main_switches(closeup) if closeup else None
    if closeup is None or switches is None:
        return Verdict(faults=(), memory=None)
    vigil = _watched(known, closeup, switches, sight)
    asleep_s = closeup.monotonic - vigil.since
    window_s = _window_s(vigil, closeup, sight)
    if asleep_s < window_s:
        # Only a vigil that outlasted a whole beat is worth an extra look: a healthy arbiter begins one each second.
        again_at = vigil.since + window_s if asleep_s > LONGER_THAN_A_BEAT_S else None
        return Verdict(faults=(), memory=vigil, again_at=again_at)
    return Verdict(faults=(_fault(vigil, asleep_s, closeup, sight),), memory=vigil)


def _begun(sight: Sight, known: Vigil | None) -> Vigil:
    family = sight.family
    count = len(family.workers)
    up = bool(count) or (known is not None and known.up)
    return Vigil(process=family.master.id, switches=None, since=family.monotonic, up=up, workers=count)


def _watched(known: Vigil | None, closeup: Closeup, switches: int, sight: Sight) -> Vigil:
    anew = replace(_begun(sight, known), switches=switches, since=closeup.monotonic)
    if known is None or known.switches not in (None, switches):
        return anew
    if not _sleeps(closeup, sight):
        return replace(anew, workers=known.workers)
    return replace(known, switches=switches, up=anew.up)


def _sleeps(closeup: Closeup, sight: Sight) -> bool:
    return sight.family.master.state in ASLEEP and not sight.frozen and closeup.threads[0].wchan not in FROZEN_CGROUP


def _window_s(vigil: Vigil, closeup: Closeup, sight: Sight) -> float:
    least_s = sight.policy.stuck_window_s
    return least_s if vigil.up and not _comes_or_goes(sight.family, closeup) else max(least_s, LOADING_S)


def _comes_or_goes(family: Family, closeup: Closeup) -> bool:
    """Whether a master that was up may be leaving, or (uWSGI, which executes itself) be starting again."""
    if family.workers:
        return False
    return _waits(closeup) != "pipe" if family.kind == "uwsgi" else not family.listeners


def _waits(closeup: Closeup) -> str:
    return (by_wchan(closeup.threads[0].wchan) or ("unknown", ""))[0]


def main_switches(closeup: Closeup) -> int | None:
    """Context switches of the main thread; gunicorn's control socket (25.1 and later) lives in a thread of its own."""
    return closeup.threads[0].switches if closeup.threads else None


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Why the master is not stuck after all; None where it slept on."""
    before, after = main_switches(earlier), main_switches(later)
    if later.threads and later.threads[0].wchan in FROZEN_CGROUP:
        return "its cgroup is frozen"
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
        spare=_why_spared(family, closeup, harmed=bool(missing or overdue), asleep_s=asleep_s),
    )


def _why_spared(family: Family, closeup: Closeup, *, harmed: bool, asleep_s: float) -> str | None:
    serving = sum(worker.state in ("alive", "draining") for worker in family.workers)
    if serving and not harmed:
        return f"{serving} workers still serve and none was lost yet, so the server is not ended; look at its arbiter"
    if asleep_s >= PATIENCE_S:
        return None
    if serving:
        return f"{serving} workers still serve; it is ended when none does, or once it slept {PATIENCE_S:g} s"
    if any(worker.state == "booting" for worker in family.workers):
        return f"its workers still load the application; it is ended once it slept {PATIENCE_S:g} s"
    if _waits(closeup) not in KNOWN_WAITS:
        return f"it may be in a hook of its own that comes back; it is ended once it slept {PATIENCE_S:g} s"
    return None


RULE: Final = Rule(
    kind="stuck-arbiter",
    target="server",
    blank=None,
    suspects=suspects,
    judge=judge,
    doubt=doubt,
    wishes=wishes,
)
