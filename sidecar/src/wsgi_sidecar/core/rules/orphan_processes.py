"""What a worker leaves behind when it is killed: children that nobody ends (gunicorn #3326).

In: the family's orphans, look after look. Out: one fault for all of them together. Rule: an orphan is ended, with its
whole tree, when its root's worker is known to be dead, or when it may only come from a dead one: it is proven to come
from a worker, no worker that lives was there at its birth, and one that was is gone, or it was there before our first
look and the master cannot have started it. One whose worker lives was set free on purpose (a daemon); it is told and
left alone, as whatever is in doubt. A worker lives until its process ends: one that leaves in good order waits for its
children. What the user exempts by name is not even told.

gunicorn ends the worker, never its tree. SIGTERM does not end multiprocessing's forks, which inherit gunicorn's handler
and only set a flag in it: so SIGKILL, through the whole tree of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, Orphan, ProcessId
from wsgi_sidecar.core.descent import Descent
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict
from wsgi_sidecar.core.snapshot import Closeup

MOST_DEAD = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What earlier looks told of who comes from whom.

    Attributes:
        owners: living processes once seen in a worker's tree, with that worker.
        inherited: orphans that were there at the first look.
        dead: workers seen alive and gone since; a server that served alone and has workers now is not gone.
        alive: workers at the last look, those that were leaving included.
        first: monotonic time at which each orphan was first seen.
    """

    owners: Mapping[ProcessId, ProcessId] = field(default_factory=dict)
    inherited: frozenset[ProcessId] = frozenset()
    dead: frozenset[ProcessId] = frozenset()
    alive: frozenset[ProcessId] = frozenset()
    first: Mapping[ProcessId, float] = field(default_factory=dict)


def suspects(sight: Sight, memory: Lineage | None) -> frozenset[ProcessId]:
    """The orphans: a kill looks at its victim twice."""
    return frozenset(orphan.process for orphan in _told(sight))


def _told(sight: Sight) -> tuple[Orphan, ...]:
    patterns = sight.policy.orphan_exempt
    orphans = sight.family.orphans or ()
    return tuple(each for each in orphans if not any(fnmatchcase(each.name, pattern) for pattern in patterns))


def judge(sight: Sight, memory: Lineage | None) -> Verdict:
    """Say who was left behind for longer than the grace."""
    lineage = _remembered(sight, memory)
    orphans = _told(sight)
    if not orphans:
        return Verdict(faults=(), memory=lineage)
    now, grace_s = sight.family.monotonic, sight.policy.orphan_grace_s
    ripe = [each for each in orphans if now - lineage.first[each.process] >= grace_s]
    unripe = [lineage.first[each.process] + grace_s for each in orphans if each not in ripe]
    bereft = tuple(each for each in ripe if _bereft(_descent(each.process, sight), lineage, sight.terms))
    freed = tuple(each for each in ripe if each not in bereft)
    faults = tuple(_fault(group, sight, freed=group is freed) for group in (bereft, freed) if group)
    return Verdict(faults=faults, memory=lineage, again_at=min(unripe, default=None))


def _remembered(sight: Sight, memory: Lineage | None) -> Lineage:
    family, before = sight.family, memory or Lineage()
    orphans = {orphan.process for orphan in family.orphans or ()}
    alive = family.memory.workers | {worker.process.id for worker in family.workers}
    known = family.memory.kin | orphans
    trees = {child.id: worker.process.id for worker in family.workers for child in worker.tree}
    return Lineage(
        owners={who: owner for who, owner in before.owners.items() if who in known} | trees,
        inherited=frozenset(orphans) if memory is None else before.inherited & orphans,
        dead=_newest(before.dead | (before.alive - alive - {family.master.id})),
        alive=alive,
        first={who: before.first.get(who, family.monotonic) for who in orphans},
    )


def _newest(dead: frozenset[ProcessId]) -> frozenset[ProcessId]:
    """Few are enough: an orphan is at most a grace old when it is judged, and memory must not grow with each death."""
    return frozenset(sorted(dead, key=lambda worker: worker.started)[-MOST_DEAD:])


def _descent(orphan: ProcessId, sight: Sight) -> Descent:
    return sight.family.descents.get(orphan) or Descent(root=orphan, origin="worker")


def _bereft(descent: Descent, lineage: Lineage, terms: Terms) -> bool:
    root = descent.root
    owner = lineage.owners.get(root)
    if owner is not None:
        return owner not in lineage.alive
    if descent.origin != "worker":
        return descent.origin == "dead worker"
    if any(worker.started <= root.started for worker in lineage.alive):
        return False
    if any(worker.started <= root.started for worker in lineage.dead):
        return True
    return root in lineage.inherited and not (descent.maybe_masters and terms.master_loads)


def _fault(orphans: tuple[Orphan, ...], sight: Sight, *, freed: bool) -> Fault:
    eldest = min(orphans, key=lambda orphan: (orphan.process.started, orphan.process.pid))
    rss = [orphan.rss_bytes for orphan in orphans if orphan.rss_bytes is not None]
    held = f"{sum(rss) / 2**20:.0f} MiB" if rss else "an unknown amount"
    names = ", ".join(sorted({orphan.name for orphan in orphans}))
    pids = ", ".join(str(orphan.process.pid) for orphan in orphans[:8]) + (", ..." if len(orphans) > 8 else "")
    return Fault(
        kind="orphan-processes",
        process=eldest.process,
        slot=None,
        since=min(orphan.since for orphan in orphans),
        summary=_sentence(orphans, f"{names}; pid {pids}", held, freed=freed),
        evidence=(
            Evidence(name="orphans", value=len(orphans), unit="processes"),
            Evidence(name="resident memory", value=sum(rss) if rss else "unknown", unit="bytes" if rss else ""),
            Evidence(name="names", value=names),
        ),
        target="orphan",
        spare=_why_spared(sight.policy, freed=freed),
        others=tuple(orphan.process for orphan in orphans if orphan is not eldest),
    )


def _sentence(orphans: tuple[Orphan, ...], which: str, held: str, *, freed: bool) -> str:
    one = len(orphans) == 1
    who = f"{len(orphans)} process{'' if one else 'es'} ({which})"
    if freed:
        return (
            f"{who} hang{'s' if one else ''} beside the server without a parent and hold{'s' if one else ''} {held} of "
            f"memory; nothing proves that a dead worker left {'it' if one else 'them'}"
        )
    return (
        f"{who} outlived the worker that started {'it' if one else 'them'} and hold{'s' if one else ''} {held} of "
        "memory; gunicorn ends a worker without its children, and SIGTERM alone does not end them (gunicorn #3326)"
    )


def _why_spared(policy: Policy, *, freed: bool) -> str | None:
    if freed:
        return (
            "a worker that could have started it still lives, or it is none's, or the master's: it may be a daemon, "
            "set free on purpose"
        )
    if not policy.end_orphans:
        return "the policy says to tell orphans, not to end them (end_orphans)"
    return None


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Nothing gives an orphan back to its worker: that it still lives is enough."""
    return None


RULE = Rule(kind="orphan-processes", target="orphan", blank=None, suspects=suspects, judge=judge, doubt=doubt)
