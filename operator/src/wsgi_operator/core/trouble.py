"""What will not pass by itself.

In: `Facts`. Out: an `Obstacle` with what to do, or None. Rule: the one that stands before all others is told; while a
roll goes on nothing is said of pods that it replaces.
"""

from wsgi_operator.core.clip import clip
from wsgi_operator.core.evidence import Evidence, InForce
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.hearsay import not_taken
from wsgi_operator.core.server import RUNS, SPEC_NAMES, Obstacle, Runs
from wsgi_operator.core.words import undone_words


def trouble_of(facts: Facts) -> Obstacle | None:
    """What will not pass by itself."""
    if facts.obstacle is not None:
        return facts.obstacle
    if (failed := _failed(facts)) is not None:
        return failed
    if facts.stuck is not None:
        return facts.stuck
    if facts.trouble is not None:
        return facts.trouble
    if facts.evidence is None or facts.rollout is None or not facts.rollout.done:
        return None
    if (missed := unheeded_pods(facts.evidence)) is not None:
        return missed
    if (other := _other_server(facts.evidence, facts.runs)) is not None:
        return other
    if facts.standing is not None and facts.standing.phase == "Stopped":
        return Obstacle(reason="InPlaceStopped", message=facts.standing.reason)
    pinned = [setting for setting in facts.evidence.settings if setting.pinned and setting.known and not setting.met]
    if pinned:
        return Obstacle(reason="SettingPinned", message="; ".join(_pinned(setting, facts.runs) for setting in pinned))
    return _blind(facts.evidence) if facts.pending else None


def _failed(facts: Facts) -> Obstacle | None:
    """A roll that does not come to its end, or was undone for that."""
    again = facts.roll.why if facts.roll is not None and facts.roll.outcome == "Failed" else ""
    done = facts.rollout is None or facts.rollout.done
    if facts.undone is not None:
        message = undone_words(facts.undone)
        return Obstacle(reason="RolledBack", message=message if done or not again else f"{message}. {again}")
    if not done and again:
        return Obstacle(reason="RolloutFailed", message=again)
    if facts.rollout is not None and facts.rollout.failed:
        return Obstacle(reason="RolloutFailed", message=facts.rollout.message)
    return None


def unheeded_pods(evidence: Evidence) -> Obstacle | None:
    """Pods that were made without what their annotations order."""
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
    if (withheld := _withheld(evidence)) is not None:
        return withheld
    whys = [f" ({u.why})" for u, _ in evidence.unknowns()][:1]
    return Obstacle(
        reason="CmdArgsUnknown",
        message=f"the sidecar cannot read the server's environment{''.join(whys)}, so a GUNICORN_CMD_ARGS that the "
        "image sets would be lost: write GUNICORN_CMD_ARGS into the container's env in the Deployment (it may be "
        "empty), and the settings are merged with that",
    )


def _withheld(evidence: Evidence) -> Obstacle | None:
    """Flags that the image sets, and that no report may bring into a template."""
    for answer in evidence.heard:
        told = (answer.report.server.cmd_args if answer.report.server else None) or ""
        if (flag := not_taken(told)) is not None:
            return Obstacle(
                reason="CmdArgsNotTaken",
                message=f"the image sets GUNICORN_CMD_ARGS to {clip(told, 512)}, and {clip(flag, 64)} is not taken "
                "from a report into the template, since whoever takes over an app can have anything reported: write "
                "GUNICORN_CMD_ARGS into the container's env in the Deployment, and the settings are merged with that",
            )
    return None


def _other_server(evidence: Evidence, runs: Runs | None) -> Obstacle | None:
    """Settings are wanted, and no pod runs a server that could take them."""
    kinds, wanted = evidence.kinds(), any(setting.wanted is not None for setting in evidence.settings)
    if not wanted or not kinds or runs is None or runs in kinds:
        return None
    way = f"set spec.server to auto or {kinds[0]}" if kinds[0] in RUNS else "remove spec.settings; watching needs none"
    return Obstacle(
        reason="OtherServer",
        message=f"the pods run {', '.join(kinds)}, and spec.settings are written for {runs}, so nothing takes them: "
        f"{way}",
    )


def _pinned(setting: InForce, runs: Runs | None) -> str:
    name, now = SPEC_NAMES[setting.name], ", ".join(str(value) for value in setting.values)
    also = "; of a file that the command line names, name it in UWSGI_INI instead" if runs == "uwsgi" else ""
    return (
        f"{name} is pinned to {now} by {setting.said_by} on the container's command line, which is stronger than "
        f"anything the operator can set: remove that flag from the command, args or image{also}; or remove "
        f"spec.settings.{name}"
    )
