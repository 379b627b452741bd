"""Whether a change in place took effect, seen from outside; one that did not is taken back.

In: the journal of an order that is not settled, and one look. Out: the next journal, and at most one `Act`. Rule: a
change counts when as many workers as there should be were born after the server was told, have loaded the application,
and stayed for `STEADY_S`; one that does not get there within its bound, or under which the server ends, is taken back.
Old workers may finish their requests meanwhile: nobody waits for them, and nobody hurries them. A new master is told
once it hears: SIGHUP ends one that has not set its signal handlers yet.
"""

from dataclasses import replace
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.journal import Journal
from wsgi_sidecar.core.ordering import Act, Change, Scene, done, serving

STEADY_S: Final = 5.0
"""A worker whose timeout is too short for its own import is ended and born again meanwhile."""
HEARS_S: Final = 1.0
"""A worker this old proves a master with signal handlers: uWSGI's sets them a moment after it forked."""
PUSH_AGAIN_S: Final = 10.0
"""After a TTIN or TTOU that nothing came of: an arbiter heeds one within a second, on a starved machine within some."""


def followed(change: Change, journal: Journal, scene: Scene) -> tuple[Change, Act | None]:
    """An order that is not settled: verified, or taken back."""
    if scene.family is None or scene.family.master.id != journal.master:
        return _bereft(change, journal, scene)
    waited_s = (scene.ticks - journal.told_ticks) / scene.hertz
    steady = _steady(change, journal, scene.family, scene)
    change = replace(change, steady_since=steady)
    if steady is not None and (scene.ticks - steady) / scene.hertz >= STEADY_S:
        return _settled(change, journal, scene, waited_s)
    if waited_s > journal.within_s + STEADY_S:
        return _overdue(change, journal, scene.family, scene)
    return _pushed(change, journal, scene.family, scene) if journal.means == "signals" else (change, None)


def _settled(change: Change, journal: Journal, scene: Scene, waited_s: float) -> tuple[Change, Act | None]:
    if journal.state == "Verifying" and (against := _contradicted(journal, scene)):
        return _taken_back(change, journal, f"the server itself says {against}", scene, told=True)
    if journal.state == "Verifying":
        reason = (
            f"all {_wanted(journal, scene)} workers run with it, and have for {STEADY_S:g} s; it took {waited_s:.0f} s"
        )
        return done(change, journal.now("Applied", reason, at=scene.at, good=journal.settings, settled=True))
    return done(change, replace(journal, reason=f"{journal.reason}; the workers are up with them", settled=True))


def _contradicted(journal: Journal, scene: Scene) -> str:
    """What the server says otherwise than it was ordered; empty where it says nothing.

    Of signals it says nothing: TTIN and TTOU change what it runs, not what it was set to.
    """
    if journal.means == "signals":
        return ""
    heard = {setting.name: setting.value for setting in scene.heard}
    return ", ".join(
        f"{name} {heard[name]}" for name, value in journal.ordered.items() if heard.get(name, value) != value
    )


def _steady(change: Change, journal: Journal, family: Family, scene: Scene) -> int | None:
    """Since when all workers that there should be are up; None if they are not."""
    wanted, living, by_signals = _wanted(journal, scene), serving(family), journal.means == "signals"
    young = living if by_signals else [each for each in living if each.process.id.started >= journal.told_ticks]
    up = sum(worker.state == "alive" for worker in young)
    churns = any(setting.name == "max_requests" and setting.value for setting in scene.settings)
    if up >= wanted and (not by_signals or len(living) == wanted):
        return scene.ticks if change.steady_since is None else change.steady_since
    # Where max_requests replaces workers there is nearly always one that boots.
    return change.steady_since if churns and up > 0 and 2 * up >= wanted else None


def _wanted(journal: Journal, scene: Scene) -> int:
    if scene.lever is not None and scene.lever.least_workers is not None:
        return scene.lever.least_workers[0] - 1  # the others are spawned when there is work for them
    if (said := journal.settings.workers or journal.ordered.workers) is not None and journal.state == "Verifying":
        return said
    configured = next((setting.value for setting in scene.settings if setting.name == "workers"), None)
    return configured if isinstance(configured, int) and configured > 0 else journal.count


def _pushed(change: Change, journal: Journal, family: Family, scene: Scene) -> tuple[Change, Act | None]:
    """One more or one fewer, until there are as many as there should be."""
    count = len(serving(family))
    missing = (journal.ordered.workers or 0) - count
    # Two at once may count as one, and one that is only slow must not be followed by another.
    heeded = change.pushed_at != count or scene.ticks - change.pushed_ticks >= PUSH_AGAIN_S * scene.hertz
    if missing == 0 or not heeded:
        return change, None
    pushed = replace(change, pushed_ticks=scene.ticks, pushed_at=count)
    return pushed, Act(journal=journal, verb="more" if missing > 0 else "fewer")


def _overdue(change: Change, journal: Journal, family: Family, scene: Scene) -> tuple[Change, Act | None]:
    up = sum(worker.state == "alive" for worker in serving(family))
    why = f"{up} of {_wanted(journal, scene)} workers were up after {journal.within_s:g} s"
    if journal.state == "RolledBack":
        return done(change, journal.now("Failed", f"{journal.reason}, but {why}", at=scene.at, settled=True))
    if journal.means == "signals":
        # TTOU would end the eldest worker, which serves, and leave the one that does not come up.
        reason = f"{why}; nothing is undone, for the server would end one that serves"
        return done(change, journal.now("Failed", reason, at=scene.at, settled=True))
    return _taken_back(change, journal, why, scene, told=True)


def _bereft(change: Change, journal: Journal, scene: Scene) -> tuple[Change, Act | None]:
    """The master that was told is gone: what follows must not start with what it perhaps died of."""
    if journal.means == "signals":
        reason = "the server ended while its number of workers was changed; it is not tried again"
        return done(change, journal.now("Failed", reason, at=scene.at, settled=True))
    hears = scene.family is not None and _hears(scene.family, journal, scene)
    if journal.state == "Verifying":
        return _taken_back(change, journal, "the server ended under it", scene, told=hears)
    # It read what stood there when it started: the last good settings, if they were written before.
    stale = scene.family is not None and scene.family.master.id.started < journal.told_ticks
    if scene.family is None or (stale and not hears):
        return replace(change, steady_since=None), None
    master = scene.family.master.id
    heir = replace(journal, master=master, told_ticks=scene.ticks if stale else master.started)
    return replace(change, steady_since=None), Act(journal=heir, verb="reload" if stale else None)


def _hears(family: Family, journal: Journal, scene: Scene) -> bool:
    """Whether a new master has set its signal handlers.

    A worker that beats proves it. Where none ever does, perhaps for the very settings that are to be taken back, one
    that boots will do after the time that all of them had: gunicorn forks nobody before.
    """
    if any(worker.state != "booting" and _age_s(worker.process.id, scene) >= HEARS_S for worker in family.workers):
        return True
    return bool(family.workers) and _age_s(family.master.id, scene) > journal.within_s + STEADY_S


def _age_s(process: ProcessId, scene: Scene) -> float:
    return (scene.ticks - process.started) / scene.hertz


def _taken_back(change: Change, journal: Journal, why: str, scene: Scene, *, told: bool) -> tuple[Change, Act | None]:
    """The last good settings, written; whoever could not be told yet is nobody's master before it is."""
    back = journal.now(
        "RolledBack",
        f"{why}, so the last good settings were written again",
        at=scene.at,
        settings=journal.good,
        master=scene.family.master.id if scene.family is not None and told else journal.master,
        told_ticks=scene.ticks,
        settled=False,
    )
    return replace(change, steady_since=None), Act(journal=back, verb="reload" if told else None)
