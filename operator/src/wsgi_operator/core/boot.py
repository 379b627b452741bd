"""What a template carries so that the settings of its pods can change in place.

In: a `Server`, the live workload, the `Lever` of a roll. Out: the lever with a config file of ours in the place of
flags, or why that cannot be. Rule: the config file holds the settings that the template was rolled with, so a pod is
right from its start, with or without its sidecar; what changes later reaches the sidecar by an annotation of the pod,
never of the template: a template that changed would roll. So a template says what it was rolled with until it rolls for
another reason.
"""

from dataclasses import replace
from typing import Final

from wsgi_contract.in_place import BOUNDS
from wsgi_contract.servers.gunicorn import CMD_ARGS, ArgumentsError, parse_cmd_args
from wsgi_contract.servers.gunicorn_in_place import FLAG, Boot, point_config, render_boot
from wsgi_contract.settings import Wanted
from wsgi_operator.core.lever import Lever, Place, with_flags
from wsgi_operator.core.record import record_of
from wsgi_operator.core.roll import wanted_of
from wsgi_operator.core.server import Obstacle, Runs, Server
from wsgi_operator.core.sidecar import ANNOTATION_CONFIG, CONFIG_PATH, LIVE_PATH
from wsgi_operator.core.standing import standing_of
from wsgi_operator.core.workload import Object

OURS: Final = f"{FLAG}={CONFIG_PATH}"


def boots(workload: Object) -> bool:
    """Whether the template's pods can be changed in place."""
    return ANNOTATION_CONFIG in (workload["spec"]["template"]["metadata"].get("annotations") or {})


def as_template(server: Server, workload: Object) -> Server:
    """What the template shall say now: where settings change in place, those that it says already."""
    standing, record = standing_of(workload), record_of(workload)
    if server.apply != "InPlace" or (standing is not None and standing.phase == "Unable"):
        return server
    if record is None or record.server != server.uid or not boots(workload):
        return server
    return replace(server, wanted=wanted_of(record.settings))


def at_a_roll(server: Server, workload: Object) -> Server:
    """What the template shall say when it rolls for another reason: what its pods were proved to run with."""
    standing = standing_of(workload)
    proved = standing.settings if standing is not None and standing.phase == "Applied" else None
    return server if proved is None else replace(server, wanted=Wanted(**proved))


def booted(server: Server, place: Place, lever: Lever, runs: Runs, *, admission: bool) -> Lever:
    """The lever with a config file in the place of flags; as it was, where that cannot be."""
    if server.apply != "InPlace":
        return lever
    why = _why_not(place, lever, runs)
    if why is not None:
        return replace(lever, told=(*lever.told, *by_a_roll(server, why)))
    existing = _existing(place, lever)
    plain = replace(server, wanted=Wanted())
    text = render_boot(Boot(live=LIVE_PATH, settings=server.wanted))
    if admission:
        flags = point_config(with_flags("", plain, statsd=lever.statsd), CONFIG_PATH)
        theirs = place.theirs(CMD_ARGS) is not None or place.refers(CMD_ARGS) is not None
        inherited = None if theirs else existing
        return replace(lever, ordered={**lever.ordered, CMD_ARGS: flags}, inherited=inherited, boot=text)
    merged = point_config(with_flags(existing or "", plain, statsd=lever.statsd), CONFIG_PATH)
    kept = place.theirs(CMD_ARGS)
    beside = {**lever.kept, CMD_ARGS: kept} if kept is not None else lever.kept
    return replace(lever, template={**lever.template, CMD_ARGS: merged}, kept=beside, boot=text)


def by_a_roll(server: Server, why: str) -> tuple[Obstacle, ...]:
    """That settings come by a roll where in place was asked for; nothing where there is no reason yet."""
    if server.apply != "InPlace" or not why:
        return ()
    return (Obstacle(reason="InPlaceUnable", message=f"settings are changed by a roll, not in place: {why}"),)


def _existing(place: Place, lever: Lever) -> str | None:
    """The owner's own words: in the template, or in the image, as far as that is known."""
    if place.refers(CMD_ARGS) is not None:
        return ""
    theirs = place.theirs(CMD_ARGS)
    if theirs is not None:
        return str(theirs.value or "")
    return place.record.inherited if lever.inherited is None and place.record is not None else lever.inherited


def _why_not(place: Place, lever: Lever, runs: Runs) -> str | None:
    """Why there is no config file of ours; empty where there will be; None where there is."""
    standing = standing_of(place.workload)
    if standing is not None and standing.phase == "Unable":
        return f"{standing.reason}; to try again, set spec.tuning.apply to RollingUpdate and back"
    if runs != "gunicorn":
        return f"{runs} reads its settings at its start"
    existing = _existing(place, lever)
    if lever.pending or existing is None:
        return ""  # what the image has in the variable is not known yet: the settings wait for that, too
    try:
        said = parse_cmd_args(existing or "").settings
    except ArgumentsError:
        return "GUNICORN_CMD_ARGS cannot be read"
    stronger = [f"{words} in the owner's GUNICORN_CMD_ARGS" for name, _, words in said if name in BOUNDS]
    return f"{', '.join(stronger)} is stronger than any config file" if stronger else None
