"""The status of a WSGIServer, told so that `kubectl describe` is the whole story.

In: `Facts` of this round and the status before. Out: the status object. Rule: the same facts give the same status, to
the letter: nothing in it ticks, so nothing is written when nothing changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from wsgi_operator.core.clip import MESSAGE_LENGTH, clip
from wsgi_operator.core.conditions import Verdict, verdicts
from wsgi_operator.core.evidence import Evidence, InForce
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.history import history
from wsgi_operator.core.server import SPEC_NAMES, Server
from wsgi_operator.core.times import moment

_OLDER: Final = (
    "the CustomResourceDefinition in this cluster is older than the operator, so only these conditions can be told: "
    "kubectl apply --server-side -f charts/wsgi-operator/crds, of the operator's release (Helm upgrades no CRD)"
)
TRYING_AGAIN: Final = "TryingAgain"
_SILENT: Final = 20
_INCIDENTS: Final = 10
_UNKNOWNS: Final = 10
_WORD: Final = 128
_COUNTABLE: Final = 2**53 - 1  # a pod may count as far as JSON does, ten thousand such pods further than an int64
_MOVED: Final = 0.2


def status_of(server: Server | None, facts: Facts, before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The whole status.

    Args:
        server: None where the object could not be read.
        facts: of this round.
        before: the status as it stands.
        now: RFC 3339; used only for conditions that change.
    """
    evidence = facts.evidence
    status: dict[str, Any] = {
        "observedGeneration": facts.generation,
        "conditions": _conditions(verdicts(server, facts), facts.generation, before, now),
    }
    if server is not None:
        status["workload"] = f"{server.kind}/{server.workload}"
    if evidence is not None:
        status |= {
            "effective": [_effective(setting) for setting in evidence.settings],
            "pods": _pods(evidence),
            "incidents": _incidents(evidence),
            "notVisible": [
                {"what": clip(u.what), "why": clip(u.why), "remedy": clip(u.remedy), "pods": pods}
                for u, pods in evidence.unknowns()[:_UNKNOWNS]
            ],
        }
    saturation = _saturation(evidence, before.get("saturation"))
    if saturation is not None:
        status["saturation"] = saturation
    changes = history(before.get("lastChanges") or (), facts)
    return status | ({"lastChanges": changes} if changes else {})


def _conditions(found: Sequence[Verdict], generation: int, before: Mapping[str, Any], now: str) -> list[dict[str, Any]]:
    old = {condition["type"]: condition for condition in before.get("conditions") or ()}
    return [_condition(verdict, generation, old.get(verdict.type), now) for verdict in found]


def _condition(verdict: Verdict, generation: int, old: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    status = "Unknown" if verdict.status is None else str(verdict.status)
    since = old["lastTransitionTime"] if old is not None and old.get("status") == status else now
    return {
        "type": verdict.type,
        "status": status,
        "reason": verdict.reason,
        "message": clip(verdict.message, 4 * MESSAGE_LENGTH),
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def cut_down(status: Mapping[str, Any], before: Mapping[str, Any], why: str, now: str) -> dict[str, Any]:
    """What every CustomResourceDefinition knows of a status, and in Degraded why there is no more.

    Args:
        status: the whole one.
        before: the status as it stands.
        why: the API server's words.
        now: RFC 3339.
    """
    generation, message = status["observedGeneration"], f"{_OLDER}; the API server says: {clip(why)}"
    verdict = Verdict(type="Degraded", status=True, reason="CustomResourceDefinitionTooOld", message=message)
    old = next((c for c in before.get("conditions") or () if c["type"] == verdict.type), None)
    told = _condition(verdict, generation, old, now)
    conditions = [told if c["type"] == verdict.type else c for c in status["conditions"]]
    return {"observedGeneration": generation, "conditions": conditions}


def broken_off(before: Mapping[str, Any], generation: int, why: str, now: str) -> dict[str, Any]:
    """The status as it stands, but that it is not known to be true any more, and why.

    Args:
        before: the status as it stands; empty where nothing was ever told.
        generation: of the spec.
        why: what keeps us from knowing.
        now: RFC 3339.
    """
    message = f"nothing newer is known, and it is tried again: {why}"
    told = (
        Verdict(type="Ready", status=False, reason=TRYING_AGAIN, message=message),
        Verdict(type="Reconciling", status=True, reason=TRYING_AGAIN, message=message),
    )
    others = [c for c in before.get("conditions") or () if c["type"] not in ("Ready", "Reconciling")]
    return {**before, "conditions": [*_conditions(told, generation, before, now), *others]}


def _effective(setting: InForce) -> dict[str, Any]:
    line: dict[str, Any] = {
        "name": SPEC_NAMES[setting.name],
        "state": setting.state,
        "source": setting.source,
        "pinned": setting.pinned,
    }
    if setting.value is not None:
        line["value"] = _word(setting.value)
    if setting.wanted is not None:
        line["wanted"] = str(setting.wanted)
    if setting.said_by:
        line["saidBy"] = clip(setting.said_by)
    if setting.state == "Mixed":
        line["values"] = [_word(value) for value in setting.values[:8]]
    return line


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else clip(str(value), _WORD)


def _pods(evidence: Evidence) -> dict[str, Any]:
    return {
        "total": evidence.pods,
        "reporting": len(evidence.heard),
        "summary": f"{len(evidence.heard)}/{evidence.pods}",
        "silent": [{"name": s.pod.name, "reason": clip(s.reason)} for s in evidence.silent[:_SILENT]],
        "denied": [{"name": pod.name, "reason": clip(reason)} for pod, reason in evidence.denied()[:_SILENT]],
    }


def _saturation(evidence: Evidence | None, before: str | None) -> str | None:
    """The fullest pod's, in tenths, and only anew once it has moved by two of them or over the edge of 1.

    It moves all the time; a status that followed it would be written with every look.
    """
    ratio = evidence.saturation() if evidence is not None else None
    if ratio is None:
        return None
    told = float(before) if before is not None else None
    if told is not None and abs(ratio - told) < _MOVED and (ratio >= 1) == (told >= 1):
        return before
    return f"{ratio:.1f}" if (ratio >= 1) == (round(ratio, 1) >= 1) else "0.9"


def _incidents(evidence: Evidence) -> dict[str, Any]:
    lines, found = [], evidence.incidents()
    for pod, incident in found[:_INCIDENTS]:
        line = {"pod": pod.name, "kind": incident.kind, "summary": incident.summary, "action": incident.action}
        optional = {
            "since": moment(incident.since),
            "ended": moment(incident.ended_at),
            "outcome": incident.outcome,
        }
        lines.append({k: clip(v) for k, v in (line | optional).items() if v is not None})
    counts = [answer.report.counts for answer in evidence.heard]
    return {
        "open": sum(incident.ended_at is None for _, incident in found),
        "total": min(sum(count for one in counts for _, count in one.incidents), _COUNTABLE),
        "kills": sum(kill.outcome in ("killed", "survived") for _, kill in evidence.kills()),
        "recent": lines,
    }
