"""The status of a WSGIServer, told so that `kubectl describe` is the whole story.

In: `Facts` of this round and the status before. Out: the status object. Rule: the same facts give the same status, to
the letter: nothing in it ticks, so nothing is written when nothing changed. Ready, Reconciling and Stalled follow the
rules of kstatus; a sentence says what is wrong and what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wsgi_operator.core.evidence import Evidence, InForce
from wsgi_operator.core.record import Change
from wsgi_operator.core.server import SPEC_NAMES, Obstacle, Server
from wsgi_operator.core.times import moment
from wsgi_operator.core.workload import Rollout

_MESSAGE_LENGTH: Final = 1024
_SILENT: Final = 20
_INCIDENTS: Final = 10
_CHANGES: Final = 10
_UNKNOWNS: Final = 10
_LOOKING: Final = (
    "the sidecar looks which GUNICORN_CMD_ARGS the image sets, so that nothing of it is lost; then the settings follow"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one round found.

    Attributes:
        generation: of the spec.
        obstacle: why nothing could be applied; None if all is applied.
        pending: whether the settings wait for what the pods report of the server's environment.
        rollout: how far the Deployment's roll is; None where there is an obstacle.
        evidence: what the pods say; None where there is an obstacle.
        image: the sidecar that the template carries; None where there is an obstacle.
        waiting: why it is not the one that it should be; None: it is.
        changes: when the last apply was (Unix seconds) and what it changed; None: there was none.
    """

    generation: int
    obstacle: Obstacle | None = None
    pending: bool = False
    rollout: Rollout | None = None
    evidence: Evidence | None = None
    image: str | None = None
    waiting: str | None = None
    changes: tuple[float, tuple[Change, ...]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One condition before it has a time: whether, why in a word, why in a sentence."""

    type: str
    status: bool
    reason: str
    message: str


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
    if evidence is not None:
        status |= {
            "effective": [_effective(setting) for setting in evidence.settings],
            "pods": _pods(evidence),
            "incidents": _incidents(evidence),
            "notVisible": [
                {"what": _clip(u.what), "why": _clip(u.why), "remedy": _clip(u.remedy), "pods": pods}
                for u, pods in evidence.unknowns()[:_UNKNOWNS]
            ],
        }
    changes = _changes(before.get("lastChanges") or (), facts.changes)
    return status | ({"lastChanges": changes} if changes else {})


def verdicts(server: Server | None, facts: Facts) -> tuple[Verdict, ...]:
    """The conditions, in the order in which a person reads them."""
    trouble = _trouble(facts)
    return (
        _ready(server, facts, trouble),
        _injected(server, facts),
        _reconciling(facts, trouble),
        _stalled(trouble),
        _degraded(facts),
    )


def _trouble(facts: Facts) -> Obstacle | None:
    """What will not pass by itself."""
    if facts.obstacle is not None:
        return facts.obstacle
    if facts.rollout is not None and facts.rollout.failed:
        return Obstacle(reason="RolloutFailed", message=facts.rollout.message)
    if facts.evidence is None or facts.rollout is None or not facts.rollout.done:
        return None
    if (missed := _unheeded(facts.evidence)) is not None:
        return missed
    pinned = [setting for setting in facts.evidence.settings if setting.pinned and setting.known and not setting.met]
    if pinned:
        return Obstacle(reason="SettingPinned", message="; ".join(_pinned(setting) for setting in pinned))
    return _blind(facts.evidence) if facts.pending else None


def _unheeded(evidence: Evidence) -> Obstacle | None:
    pods = evidence.unheeded()
    if not pods:
        return None
    return Obstacle(
        reason="PolicyMissing",
        message=f"{len(pods)} of {evidence.pods} pods, such as {pods[0].name}, were made without the settings that "
        "their annotations order: look whether the chart's MutatingAdmissionPolicy and its binding are there (kubectl "
        "get mutatingadmissionpolicies,mutatingadmissionpolicybindings; helm upgrade brings them back), then delete "
        "these pods or run kubectl rollout restart",
    )


def _blind(evidence: Evidence) -> Obstacle | None:
    """All pods report, and none could read what the settings have to be merged with."""
    if not evidence.heard or evidence.silent or evidence.without_server:
        return None
    whys = [f" ({u.why})" for u, _ in evidence.unknowns()][:1]
    return Obstacle(
        reason="CmdArgsUnknown",
        message=f"the sidecar cannot read the server's environment{''.join(whys)}, so a GUNICORN_CMD_ARGS that the "
        "image sets would be lost: write GUNICORN_CMD_ARGS into the container's env in the Deployment (it may be "
        "empty), and the settings are merged with that",
    )


def _pinned(setting: InForce) -> str:
    name, now = SPEC_NAMES[setting.name], ", ".join(str(value) for value in setting.values)
    return (
        f"{name} is pinned to {now} by {setting.said_by} on the container's command line, which is stronger than "
        "anything the operator can set: remove that flag from the command, args or image, or remove "
        f"spec.settings.{name}"
    )


def _ready(server: Server | None, facts: Facts, trouble: Obstacle | None) -> Verdict:
    def no(reason: str, message: str) -> Verdict:
        return Verdict(type="Ready", status=False, reason=reason, message=message)

    evidence, rollout = facts.evidence, facts.rollout
    if trouble is not None:
        return no(trouble.reason, trouble.message)
    if server is None or evidence is None or rollout is None:
        return no("Unknown", "nothing is known yet")
    if not rollout.done:
        return no("RollingOut", rollout.message)
    if evidence.silent:
        return no("PodsSilent", _silent(evidence))
    if evidence.without_server:
        return no("ServerNotFound", _without_server(evidence))
    if facts.pending:
        return no("LookingFirst", _LOOKING)
    unmet = [setting for setting in evidence.settings if setting.known and not setting.met]
    if unmet:
        return no("SettingsNotInForce", "; ".join(_unmet(setting) for setting in unmet))
    message = f"all {evidence.pods} pods report" if evidence.pods else "there are no pods to watch"
    return Verdict(type="Ready", status=True, reason="AsWanted", message=f"{message}; {_in_force(evidence)}")


def _in_force(evidence: Evidence) -> str:
    wanted = [setting for setting in evidence.settings if setting.wanted is not None and setting.known]
    if not wanted:
        return "no setting is wanted other than the owner's"
    return "in force: " + ", ".join(f"{SPEC_NAMES[setting.name]} {setting.value}" for setting in wanted)


def _unmet(setting: InForce) -> str:
    values = " and ".join(str(value) for value in setting.values)
    said = f" ({setting.source}: {setting.said_by})" if setting.said_by else ""
    return f"{SPEC_NAMES[setting.name]} is {values}{said}, wanted is {setting.wanted}"


def _injected(server: Server | None, facts: Facts) -> Verdict:
    if facts.obstacle is not None or server is None:
        obstacle = facts.obstacle or Obstacle(reason="Unknown", message="nothing is known yet")
        return Verdict(type="Injected", status=False, reason=obstacle.reason, message=obstacle.message)
    if facts.evidence is not None and (missed := _unheeded(facts.evidence)) is not None:
        return Verdict(type="Injected", status=False, reason=missed.reason, message=missed.message)
    message = f"the template of {server.kind} {server.workload} carries {facts.image or server.sidecar.image}"
    if facts.waiting is not None:
        message += f"; {facts.waiting}"
    return Verdict(type="Injected", status=True, reason="Applied", message=message)


def _reconciling(facts: Facts, trouble: Obstacle | None) -> Verdict:
    going = trouble is None and facts.rollout is not None and not facts.rollout.done
    if going and facts.rollout is not None:
        return Verdict(type="Reconciling", status=True, reason="RollingOut", message=facts.rollout.message)
    if facts.pending and trouble is None:
        return Verdict(type="Reconciling", status=True, reason="LookingFirst", message=_LOOKING)
    return Verdict(type="Reconciling", status=False, reason="Settled", message="nothing is being changed")


def _stalled(trouble: Obstacle | None) -> Verdict:
    if trouble is None:
        return Verdict(type="Stalled", status=False, reason="NotStalled", message="nothing is in the way")
    return Verdict(type="Stalled", status=True, reason=trouble.reason, message=trouble.message)


def _degraded(facts: Facts) -> Verdict:
    """What is wrong although the rest works; silent pods in the middle of a roll are only young."""
    evidence = facts.evidence
    if evidence is None:
        return Verdict(type="Degraded", status=False, reason="NotWatching", message="no pod is watched")
    told: list[tuple[str, str]] = []
    open_ones = [(pod, incident) for pod, incident in evidence.incidents() if incident.ended_at is None]
    if open_ones:
        told.append(("IncidentsOpen", "; ".join(f"{pod.name}: {_clip(i.summary)}" for pod, i in open_ones[:3])))
    if facts.rollout is not None and facts.rollout.done and evidence.silent:
        told.append(("PodsSilent", _silent(evidence)))
    if facts.rollout is not None and facts.rollout.done and evidence.without_server:
        told.append(("ServerNotFound", _without_server(evidence)))
    unknowns = evidence.unknowns()
    if unknowns:
        told.append(("NotVisible", "; ".join(f"{u.what}: {_clip(u.why)}; {_clip(u.remedy)}" for u, _ in unknowns[:3])))
    if not told:
        return Verdict(type="Degraded", status=False, reason="Well", message="no open incident, everything is visible")
    return Verdict(type="Degraded", status=True, reason=told[0][0], message=". ".join(message for _, message in told))


def _silent(evidence: Evidence) -> str:
    first = evidence.silent[0]
    return f"{len(evidence.silent)} of {evidence.pods} pods do not report; {first.pod.name}: {_clip(first.reason)}"


def _without_server(evidence: Evidence) -> str:
    pods = ", ".join(evidence.without_server[:3])
    return f"the sidecar sees no WSGI server in {pods}: is spec.workload.container the one that gunicorn runs in?"


def _conditions(found: Sequence[Verdict], generation: int, before: Mapping[str, Any], now: str) -> list[dict[str, Any]]:
    old = {condition["type"]: condition for condition in before.get("conditions") or ()}
    return [_condition(verdict, generation, old.get(verdict.type), now) for verdict in found]


def _condition(verdict: Verdict, generation: int, old: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    status = "True" if verdict.status else "False"
    since = old["lastTransitionTime"] if old is not None and old.get("status") == status else now
    return {
        "type": verdict.type,
        "status": status,
        "reason": verdict.reason,
        "message": _clip(verdict.message, 4 * _MESSAGE_LENGTH),
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


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
        line["saidBy"] = _clip(setting.said_by)
    if setting.state == "Mixed":
        line["values"] = [_word(value) for value in setting.values[:8]]
    return line


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else _clip(str(value))


def _pods(evidence: Evidence) -> dict[str, Any]:
    return {
        "total": evidence.pods,
        "reporting": len(evidence.heard),
        "summary": f"{len(evidence.heard)}/{evidence.pods}",
        "silent": [{"name": s.pod.name, "reason": _clip(s.reason)} for s in evidence.silent[:_SILENT]],
    }


def _incidents(evidence: Evidence) -> dict[str, Any]:
    lines = []
    for pod, incident in evidence.incidents()[:_INCIDENTS]:
        line = {"pod": pod.name, "kind": incident.kind, "summary": incident.summary, "action": incident.action}
        optional = {
            "since": moment(incident.since),
            "ended": moment(incident.ended_at),
            "outcome": incident.outcome,
        }
        lines.append({k: _clip(v) for k, v in (line | optional).items() if v is not None})
    counts = [answer.report.counts for answer in evidence.heard]
    return {
        "open": sum(incident.ended_at is None for _, incident in evidence.incidents()),
        "total": sum(count for one in counts for _, count in one.incidents),
        "kills": sum(kill.outcome in ("killed", "survived") for _, kill in evidence.kills()),
        "recent": lines,
    }


def _changes(
    before: Sequence[Mapping[str, Any]], last: tuple[float, tuple[Change, ...]] | None
) -> list[dict[str, Any]]:
    """The changes told so far and those of the last apply, unless they were told already."""
    told = [dict(line) for line in before]
    at, changes = last or (None, ())
    new = [_change(moment(at), change) for change in changes]
    return ([line for line in new if line not in told] + told)[:_CHANGES]


def _change(at: str | None, change: Change) -> dict[str, Any]:
    line = {"at": at, "what": change.name, "before": change.before, "after": change.after}
    return {key: value for key, value in line.items() if value is not None}


def _clip(text: str, length: int = _MESSAGE_LENGTH) -> str:
    """At most that much of a text that came from a pod: a status must fit into etcd whatever a pod says."""
    return text if len(text) <= length else text[: length - 1] + "…"
