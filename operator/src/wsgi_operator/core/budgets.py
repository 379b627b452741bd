"""PodDisruptionBudgets, and what a workload's own roll does to them.

In: PodDisruptionBudgets and a workload as the API server gives them. Out: `Budget` values, how many pods the roll may
take away at once, and why to wait. Rule: a rolling update evicts nobody, so the API server holds no budget against it;
we hold it: no change of ours begins while a budget is used up by something else, or nobody can say whether it is. One
that leaves no room even when all pods are well would stop every roll for ever, its owner's own too: that is told, and
not waited for.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wsgi_operator.core.workload import Object

_DEFAULT_UNAVAILABLE: Final = "25%"
"""Kubernetes' own for a Deployment, rounded down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One PodDisruptionBudget.

    Attributes:
        name: its own.
        room: pods that may be away while all others are well; None: its controller has not looked at it yet.
        allowed: pods that may go now; None as above.
    """

    name: str
    room: int | None
    allowed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """The budgets of a namespace that we may not read: which there are is unknown.

    Attributes:
        why: the API server's words.
    """

    why: str


Budgets = Sequence[Budget] | Unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """All that is held of a PodDisruptionBudget; its body is many times that.

    Attributes:
        budget: as its controller saw it.
        selector: of pods; None: of none.
    """

    budget: Budget
    selector: Object | None


def held_of(bodies: Iterable[Object]) -> tuple[Held, ...]:
    """What is held of these."""
    return tuple(Held(budget=_budget(body), selector=body["spec"].get("selector")) for body in bodies)


def budgets_over(workload: Object, all_held: Iterable[Held]) -> tuple[Budget, ...]:
    """Those of the namespace's budgets that select the workload's pods."""
    labels = workload["spec"]["template"].get("metadata", {}).get("labels") or {}
    return tuple(one.budget for one in all_held if _selects(one.selector, labels))


def takes_away(workload: Object) -> int:
    """Pods that the workload's own strategy may take away at once: those by which it may fall below its replicas."""
    spec = workload["spec"]
    replicas = int(spec.get("replicas", 1))
    if workload["kind"] == "StatefulSet":
        strategy = spec.get("updateStrategy") or {}
        by_hand = strategy.get("type") == "OnDelete"
        most = (strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1)
        return 0 if by_hand else min(max(_amount(most, replicas, up=True), 1), replicas)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return replicas
    rolling = strategy.get("rollingUpdate") or {}
    surge = _amount(rolling.get("maxSurge", _DEFAULT_UNAVAILABLE), replicas, up=True)
    most = _amount(rolling.get("maxUnavailable", _DEFAULT_UNAVAILABLE), replicas, up=False)
    return min(most if most or surge else 1, replicas)


def exhausted(budgets: Budgets, takes: int) -> str | None:
    """Why a roll that takes pods away waits; None: it need not."""
    if not takes:
        return None
    if (why := unknown(budgets, takes)) is not None:
        return f"waits because {why}"
    used_up = [one.name for one in _seen(budgets) if one.allowed is not None and one.allowed <= 0 < (one.room or 0)]
    return f"waits until PodDisruptionBudget {used_up[0]} allows a disruption again" if used_up else None


def unknown(budgets: Budgets, takes: int) -> str | None:
    """Why nobody can say whether a roll that takes pods away keeps to the budgets; None: it can be said."""
    if not takes:
        return None
    if isinstance(budgets, Unread):
        return (
            f"the PodDisruptionBudgets over its pods cannot be read ({budgets.why}): let the operator's role list "
            "poddisruptionbudgets of the group policy, as the chart's does"
        )
    fresh = [one.name for one in budgets if one.room is None]
    return f"the disruption controller has not looked at PodDisruptionBudget {fresh[0]} yet" if fresh else None


def broken_by(budgets: Budgets, takes: int) -> tuple[Budget, ...]:
    """Those that the roll surely goes below, whoever begins it."""
    return tuple(one for one in _seen(budgets) if one.room is not None and takes > one.room)


def _seen(budgets: Budgets) -> Sequence[Budget]:
    return () if isinstance(budgets, Unread) else budgets


def _budget(body: Object) -> Budget:
    status: Mapping[str, Any] = body.get("status") or {}
    if status.get("observedGeneration", 0) < body["metadata"].get("generation", 0):
        return Budget(name=body["metadata"]["name"], room=None, allowed=None)
    room = max(status.get("expectedPods", 0) - status.get("desiredHealthy", 0), 0)
    return Budget(name=body["metadata"]["name"], room=room, allowed=status.get("disruptionsAllowed", 0))


def _selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """As Kubernetes selects; an absent selector of a policy/v1 budget selects nothing, an empty one all."""
    if selector is None:
        return False
    pairs = selector.get("matchLabels") or {}
    terms = selector.get("matchExpressions") or ()
    return all(labels.get(key) == value for key, value in pairs.items()) and all(_holds(t, labels) for t in terms)


def _holds(term: Object, labels: Mapping[str, str]) -> bool:
    key, values = term["key"], term.get("values") or ()
    match term["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels


def _amount(value: int | str, of: int, *, up: bool) -> int:
    """A number of pods, or a percentage of them, rounded as Kubernetes does: surge up, unavailable down."""
    if isinstance(value, int):
        return value
    exact = int(value.removesuffix("%")) * of / 100
    return math.ceil(exact) if up else math.floor(exact)
