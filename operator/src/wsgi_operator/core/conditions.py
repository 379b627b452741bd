"""The conditions of a WSGIServer: what holds, why in a word, why in a sentence.

In: a `Server` and `Facts`. Out: `Verdict` values. Rule: Ready, Reconciling and Stalled follow the rules of kstatus; a
sentence says what is wrong and what to do, and holds nothing that ticks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Evidence, InForce, Pod
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.server import SPEC_NAMES, Obstacle, Server
from wsgi_operator.core.trouble import trouble_of, unheeded_pods

_LOOKING: Final = (
    "the sidecar looks which GUNICORN_CMD_ARGS the image sets, so that nothing of it is lost; then the settings follow"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One condition before it has a time: whether (None: unknown), why in a word, why in a sentence."""

    type: str
    status: bool | None
    reason: str
    message: str


def verdicts(server: Server | None, facts: Facts) -> tuple[Verdict, ...]:
    """The conditions, in the order in which a person reads them."""
    trouble = trouble_of(facts)
    return (
        _ready(server, facts, trouble),
        _injected(server, facts),
        _tuned(server, facts, trouble),
        _reconciling(facts, trouble),
        _stalled(trouble),
        _degraded(facts),
        *_roll_safe(facts),
    )


def _ready(server: Server | None, facts: Facts, trouble: Obstacle | None) -> Verdict:
    def no(reason: str, message: str) -> Verdict:
        return Verdict(type="Ready", status=False, reason=reason, message=message)

    evidence, rollout = facts.evidence, facts.rollout
    if trouble is not None:
        return no(trouble.reason, trouble.message)
    if server is None or evidence is None or rollout is None:
        return no("Unknown", "nothing is known yet")
    if facts.held is not None:
        return no("Waiting", facts.held)
    if not rollout.done:
        return no("RollingOut", rollout.message)
    if evidence.silent:
        return no("PodsSilent", _silent(evidence))
    if evidence.without_server:
        return no("ServerNotFound", _without_server(evidence))
    if facts.pending:
        return no("LookingFirst", _LOOKING)
    if facts.changing:
        return no("ChangingInPlace", facts.changing)
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
    if facts.evidence is not None and (missed := unheeded_pods(facts.evidence)) is not None:
        return Verdict(type="Injected", status=False, reason=missed.reason, message=missed.message)
    if facts.image is None:
        trouble = trouble_of(facts) or Obstacle(reason="Waiting", message=facts.held or "nothing is known yet")
        return Verdict(type="Injected", status=False, reason=trouble.reason, message=trouble.message)
    message = f"the template of {server.kind} {server.workload} carries {facts.image}"
    if facts.waiting is not None:
        message += f"; {facts.waiting}"
    return Verdict(type="Injected", status=True, reason="Applied", message=message)


def _tuned(server: Server | None, facts: Facts, trouble: Obstacle | None) -> Verdict:
    """Whether the settings in force are the wanted ones, and whether somebody chooses them as he is asked to."""

    def told(status: bool, reason: str, message: str) -> Verdict:
        return Verdict(type="Tuned", status=status, reason=reason, message=message)

    evidence = facts.evidence
    if server is None or evidence is None:
        lacks = trouble or Obstacle(reason="Unknown", message="nothing is known yet")
        return told(False, lacks.reason, lacks.message)
    if facts.pending:
        return told(False, trouble.reason if trouble else "LookingFirst", trouble.message if trouble else _LOOKING)
    unmet = [setting for setting in evidence.settings if not setting.met]
    words = "; ".join(_unmet(setting) if setting.known else _untold(setting) for setting in unmet)
    if server.tuner != "Off":
        return told(False, "NoTuner", f"spec.tuning.mode is {server.tuner}, and this version has no tuner: settings "
                    f"are those of spec.settings; {words or _in_force(evidence)}")  # fmt: skip
    if not unmet:
        return told(True, "AsWanted", _in_force(evidence))
    reason = "SettingPinned" if any(setting.pinned for setting in unmet) else "SettingsNotInForce"
    return told(False, reason if any(setting.known for setting in unmet) else "SettingsUnknown", words)


def _untold(setting: InForce) -> str:
    return f"{SPEC_NAMES[setting.name]} is told by no pod yet, wanted is {setting.wanted}"


def _reconciling(facts: Facts, trouble: Obstacle | None) -> Verdict:
    if facts.held is not None and trouble is None:
        return Verdict(type="Reconciling", status=True, reason="Waiting", message=facts.held)
    going = trouble is None and facts.rollout is not None and not facts.rollout.done
    if going and facts.rollout is not None:
        return Verdict(type="Reconciling", status=True, reason="RollingOut", message=facts.rollout.message)
    if facts.pending and trouble is None:
        return Verdict(type="Reconciling", status=True, reason="LookingFirst", message=_LOOKING)
    if facts.changing and trouble is None:
        return Verdict(type="Reconciling", status=True, reason="ChangingInPlace", message=facts.changing)
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
        told.append(("IncidentsOpen", "; ".join(f"{pod.name}: {clip(i.summary)}" for pod, i in open_ones[:3])))
    if facts.rollout is not None and facts.rollout.done and evidence.silent:
        told.append(("PodsSilent", _silent(evidence)))
    if facts.rollout is not None and facts.rollout.done and evidence.without_server:
        told.append(("ServerNotFound", _without_server(evidence)))
    if ajar := evidence.ajar():
        told.append(("ReportsOpen", _ajar(ajar)))
    told += [(one.reason, one.message) for one in facts.told]
    unknowns = evidence.unknowns()
    if unknowns:
        told.append(("NotVisible", "; ".join(f"{u.what}: {clip(u.why)}; {clip(u.remedy)}" for u, _ in unknowns[:3])))
    if not told:
        return Verdict(type="Degraded", status=False, reason="Well", message="no open incident, everything is visible")
    return Verdict(type="Degraded", status=True, reason=told[0][0], message=". ".join(message for _, message in told))


def _ajar(pods: Sequence[Pod]) -> str:
    return (
        f"{len(pods)} pods, such as {pods[0].name}, give their report to anybody although they were told to ask for a "
        "token: their sidecar is older than that; let spec.sidecar.image name a newer one"
    )


def _silent(evidence: Evidence) -> str:
    first = evidence.silent[0]
    return f"{len(evidence.silent)} of {evidence.pods} pods do not report; {first.pod.name}: {clip(first.reason)}"


def _without_server(evidence: Evidence) -> str:
    pods = ", ".join(evidence.without_server[:3])
    return f"the sidecar sees no WSGI server in {pods}: is spec.workload.container the one that it runs in?"


def _roll_safe(facts: Facts) -> tuple[Verdict, ...]:
    """Whether a roll of this workload, whoever begins it, loses requests; nothing where nobody looked."""
    if facts.hazards is None:
        return ()
    if not facts.hazards and facts.unsure is not None:
        return (Verdict(type="RollSafe", status=None, reason="BudgetsUnknown", message=facts.unsure),)
    if not facts.hazards:
        message = "nothing in the manifest makes a roll lose requests"
        return (Verdict(type="RollSafe", status=True, reason="Drained", message=message),)
    message = ". ".join(hazard.message for hazard in facts.hazards)
    return (Verdict(type="RollSafe", status=False, reason=facts.hazards[0].reason, message=message),)
