"""Why a roll of this workload loses requests, said before any roll.

In: the workload as its owner wrote it, the settings in force, disruption budgets. Out: `Hazard` values, the gravest
first. Rule: only what is inevitable is told, with what to write instead; what cannot be seen (how long a request takes,
what an opaque preStop does) is not guessed at.

A pod that ends is told so at the same time as everybody who sends it requests, and they take a second or two to heed
it. So it must go on listening for that time (preStop sleeps), then finish what it has (graceful timeout), and only then
be killed (termination grace). A pod that begins must not count before it serves (readiness).
"""

import re
from dataclasses import dataclass
from typing import Final

from wsgi_operator.core.budgets import Budgets, broken_by, takes_away
from wsgi_operator.core.evidence import Evidence
from wsgi_operator.core.server import Obstacle
from wsgi_operator.core.workload import Object, find_container, pod_spec

_DEFAULT_GRACE_S: Final = 30
"""Kubernetes' own."""

_SLEEP: Final = re.compile(r"\bsleep\s+(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """One reason.

    Attributes:
        reason: in a word, for programs.
        message: what is lost, and what to write instead.
    """

    reason: str
    message: str


def hazards_of(workload: Object, container: str | None, evidence: Evidence, budgets: Budgets) -> tuple[Hazard, ...]:
    """All that are there; none for a workload without pods, whose roll nobody notices."""
    server = find_container(workload, container)
    if not workload["spec"].get("replicas", 1) or isinstance(server, Obstacle):
        return ()
    found = (
        _gap(workload),
        _unready(server),
        _no_time_to_leave(workload, server),
        _abrupt(evidence),
        _grace(workload, server, _graceful_s(evidence)),
        _below_budget(workload, budgets),
    )
    return tuple(hazard for hazard in found if hazard is not None)


def leaving_s(container: Object) -> float | None:
    """Seconds that the preStop hook sleeps; 0: there is none; None: there is one that does not say."""
    hook = (container.get("lifecycle") or {}).get("preStop")
    if not hook:
        return 0.0
    if "sleep" in hook:
        return float(hook["sleep"].get("seconds", 0))
    slept = _SLEEP.search(" ".join((hook.get("exec") or {}).get("command") or ()))
    return float(slept.group(1)) if slept else None


def _gap(workload: Object) -> Hazard | None:
    spec, which = workload["spec"], f"{workload['kind']} {workload['metadata']['name']}"
    replicas = spec.get("replicas", 1)
    if (spec.get("strategy") or {}).get("type") == "Recreate":
        return Hazard(
            reason="Recreate",
            message=f"{which} has strategy Recreate: all pods end before the first new one starts, and nobody serves "
            "meanwhile. Use RollingUpdate",
        )
    if takes_away(workload) < replicas:
        return None
    remedy = (
        "give it 2 replicas or more"
        if workload["kind"] == "StatefulSet"
        else "set strategy.rollingUpdate to maxUnavailable 0 and maxSurge 1"
    )
    pods = "its only pod ends" if replicas == 1 else f"all {replicas} pods may end"
    return Hazard(reason="NobodyServes", message=f"{which}: {pods} before a new one is ready: {remedy}")


def _unready(container: Object) -> Hazard | None:
    if container.get("readinessProbe"):
        return None
    return Hazard(
        reason="NoReadinessProbe",
        message=f"container {container['name']} has no readinessProbe: a new pod gets requests before gunicorn "
        "listens. Add one, for example httpGet of a cheap page",
    )


def _no_time_to_leave(workload: Object, container: Object) -> Hazard | None:
    if leaving_s(container) != 0 or pod_spec(workload).get("readinessGates"):
        return None
    return Hazard(
        reason="NoPreStop",
        message=f"container {container['name']} has no preStop hook that sleeps: it stops listening while requests "
        'are still sent to it. Add lifecycle.preStop, for example exec: {command: [sleep, "5"]}',
    )


def _graceful_s(evidence: Evidence) -> float | None:
    """The longest graceful timeout in force; None: no pod tells one."""
    told = [s for s in evidence.settings if s.name == "graceful_timeout_s"]
    values = [float(v) for s in told for v in s.values if isinstance(v, int | float) and not isinstance(v, bool)]
    return max(values, default=None)


def _abrupt(evidence: Evidence) -> Hazard | None:
    if _graceful_s(evidence) != 0:
        return None
    return Hazard(
        reason="NotGraceful",
        message="graceful_timeout is 0: requests under way are cut off when a pod ends. Set it to longer than a "
        "request takes, for example spec.settings.gracefulTimeoutSeconds: 25",
    )


def _grace(workload: Object, container: Object, graceful_s: float | None) -> Hazard | None:
    grace_s = pod_spec(workload).get("terminationGracePeriodSeconds", _DEFAULT_GRACE_S)
    leaving = leaving_s(container) or 0.0
    if graceful_s is None or leaving + graceful_s < grace_s:
        return None
    return Hazard(
        reason="GraceTooShort",
        message=f"terminationGracePeriodSeconds is {grace_s}, and preStop ({leaving:g} s) with graceful_timeout "
        f"({graceful_s:g} s) may take all of it: a request that gunicorn would finish is cut off by the kubelet's "
        f"kill. Set it to {int(leaving + graceful_s) + 5}, or lower graceful_timeout",
    )


def _below_budget(workload: Object, budgets: Budgets) -> Hazard | None:
    takes = takes_away(workload)
    broken = broken_by(budgets, takes)
    if not broken:
        return None
    pods = "1 pod" if takes == 1 else f"{takes} pods"
    return Hazard(
        reason="BelowBudget",
        message=f"a roll may take away {pods} at once, and PodDisruptionBudget {broken[0].name} allows "
        f"{broken[0].room} even when all are well; a rolling update evicts nobody, so nothing holds it to that. Lower "
        "maxUnavailable of the strategy, or the budget's minAvailable",
    )
