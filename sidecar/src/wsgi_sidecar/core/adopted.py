"""Which of the servers in sight is the one to be watched.

In: the processes of one look, and by what ours can be told: a process at or above it, or the name of its container.
Out: `Found`, or None. Rule: when in doubt, nothing is touched. A container's cgroup is its own: servers in more than
one are servers of several containers, of which one is adopted. The kubelet mounts a file of each container's own into
it, which names it (`Process.container`): whoever is named otherwise is never taken for ours, not even while ours is
away. Where no name tells, there is doubt, and it outlasts the others: the one that is left may be the wrong one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.descent import shares_cgroup
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.leaders import Leader, find_leaders, foremost
from wsgi_sidecar.core.snapshot import Process

REMEDY: Final = (
    "run one server in a pod, or tell the sidecar which one is meant: --container (set by the operator; it needs the "
    "kubelet's own mount in each container, which sandboxed runtimes may hide), or --pid on a machine"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The server that is watched.

    Attributes:
        leader: its leading process.
        doubt: why it may be another's; None where nothing speaks against it.
        certain: whether it was told by what is its own, so that no earlier doubt holds.
    """

    leader: Leader
    doubt: str | None = None
    certain: bool = False


def find_adopted(
    processes: Iterable[Process],
    kinship: Kinship,
    *,
    within: int | None = None,
    container: str | None = None,
    preferred: ProcessId | None = None,
    observer: Process | None = None,
) -> Found | None:
    """The server to be watched; None while there is none.

    Args:
        processes: all of the look.
        kinship: of the same processes.
        within: pid of a process that leads it or is above it: tells it, whatever else there is; None: nobody said.
        container: name of its container; None: nobody said.
        preferred: the leading process of the look before: stays it while it lives.
        observer: the sidecar itself: where its own container has a name, others' have one, too.
    """
    leaders = find_leaders(processes, kinship, within=within)
    if within is not None:
        leader = foremost(leaders, kinship, preferred=preferred)
        return Found(leader=leader, certain=True) if leader else None
    named = [each for each in leaders if container is not None and each.process.container == container]
    possible = named or [each for each in leaders if container is None or each.process.container is None]
    leader = foremost(possible, kinship, preferred=preferred)
    if leader is None:
        return None
    doubt = _several(named or leaders)
    if doubt is None and container is not None and not named and observer is not None and observer.container:
        doubt = _nameless(leader)
    return Found(leader=leader, doubt=doubt, certain=bool(named) and doubt is None)


def passed_over(processes: Collection[Process], container: str | None) -> str | None:
    """Which servers are not watched because they are other containers'; None where there are none."""
    others = [
        each for each in find_leaders(processes, Kinship(processes)) if each.process.container not in (None, container)
    ]
    return _listed(others) if container is not None and others else None


def _several(leaders: Collection[Leader]) -> str | None:
    cgroups = {each.process.cgroup for each in leaders}
    apart = [one for one in cgroups if not any(one != other and shares_cgroup(one, other) for other in cgroups)]
    if len(apart) < 2:
        return None
    return (
        f"servers of {len(apart)} containers were seen in this pod ({_listed(leaders)}), and which of them is the "
        "adopted one is not known: none of them is touched"
    )


def _nameless(leader: Leader) -> str:
    return (
        f"{_described(leader)} does not show in which container it runs, although others here do (it may have changed "
        "its root), so whether it is the adopted one is not known: it is not touched"
    )


def _listed(leaders: Iterable[Leader]) -> str:
    return ", ".join(_described(each) for each in sorted(leaders, key=lambda each: each.process.id))


def _described(leader: Leader) -> str:
    name = leader.process.container
    return f"{leader.kind} as process {leader.process.id.pid}" + (f" in container {name}" if name else "")
