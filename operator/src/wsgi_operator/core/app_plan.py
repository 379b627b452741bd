"""The Deployment of an app that the operator makes, with the sidecar in it from the start.

In: a `Server` with an `App`, the live Deployment if there is one, what the reports saw. Out: `Plan`, or an `Obstacle`.
Rule: the whole template is ours, so what goes from the spec goes from the template: the record that is applied with it
names its content. Replicas are ours only where the spec names them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from wsgi_contract import names
from wsgi_contract.servers.gunicorn import CMD_ARGS, ArgumentsError
from wsgi_operator.core.admission import OWNERS_VARIABLE
from wsgi_operator.core.app import App
from wsgi_operator.core.app_pod import app_container, app_deployment
from wsgi_operator.core.boot import by_a_roll
from wsgi_operator.core.in_the_way import in_the_way
from wsgi_operator.core.lever import Lever, from_reference, statsd_taken, surely_there, unreadable, with_flags
from wsgi_operator.core.made import is_made_by, not_made_by
from wsgi_operator.core.patch import Plan, learnt_of, marks, record_for, settled, with_its_image
from wsgi_operator.core.record import ANNOTATION_APPLIED, Record, dump, record_of
from wsgi_operator.core.roll import Undone
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Server
from wsgi_operator.core.sidecar import combine, declared_identity, policy_volume, sidecar_container
from wsgi_operator.core.workload import Object, env_entry, is_ours

HANDED_OVER: Final = f"{names.FIELD_MANAGER}-handed-over"
"""The field manager that holds `replicas` from our giving it up until whoever scales takes it."""


def plan_app(
    server: Server,
    app: App,
    live: Object | None,
    *,
    seen: Seen | None = None,
    now: float = 0.0,
    undone: Undone | None = None,
) -> Plan | Obstacle:
    """Decide what to apply to the Deployment that we made, or make.

    Args:
        server: what is wanted.
        app: the app of it.
        live: the Deployment of that name; None: there is none.
        seen: what the pods of this very template report; None: nobody was asked.
        now: Unix seconds; ends up in the record if something changes.
        undone: what this takes back; None: it takes nothing back.
    """
    if live is not None and not is_made_by(server, live):
        return not_made_by(server, "Deployment")
    record = record_of(live) if live is not None else None
    server, container = with_its_image(server, record), app_container(app)
    lever = _lever(server, container)
    if isinstance(lever, Obstacle):
        return lever
    container |= _environment(container, lever)
    content = app_deployment(server, app, container)
    obstacle = in_the_way(server, content, None)
    if obstacle is not None:
        return obstacle
    declared = declared_identity(server, content, container)
    learnt = learnt_of(declared, record, seen, content, container)
    _carry(content, server, sidecar_container(server, container, combine(declared, learnt), statsd=lever.statsd))
    ours = replace(record_for(server, content, lever, learnt, "gunicorn"), share=True)
    there = live or {"metadata": {}}
    made = settled(ours, there, lambda told: _remembering(content, told), now, undone=undone)
    if isinstance(made, Obstacle):
        return made
    told = (*lever.told, *by_a_roll(server, "spec.app is made anew for each change"))
    return replace(made, told=told, handed_over=_handed_over(app, live))


def _lever(server: Server, container: Object) -> Lever | Obstacle:
    """Our flags behind those that the spec's own env has; what only the image has in that variable gives way."""
    entry = env_entry(container, CMD_ARGS) or {}
    reference, existing = entry.get("valueFrom"), str(entry.get("value") or "")
    if reference is not None:
        existing = f"$({OWNERS_VARIABLE})"
    try:
        taken = statsd_taken(server, existing, (*container["command"], *container["args"]))
        text = with_flags(existing, server, statsd=not taken)
    except ArgumentsError as error:
        return unreadable(container["name"], error)
    if text == existing:
        return Lever(told=taken)
    if reference is not None and not surely_there(reference):
        return from_reference(container["name"])
    counted = server.monitoring.requests is not None and not taken
    return Lever(template={CMD_ARGS: text}, statsd=counted, told=taken)


def _environment(container: Object, lever: Lever) -> dict[str, Any]:
    """The env with ours in it, at the owner's place, since `$(NAME)` of variables before it is expanded."""
    if not lever.template:
        return {}
    env, ours = list(container.get("env") or ()), {"name": CMD_ARGS, "value": lever.template[CMD_ARGS]}
    entry = env_entry(container, CMD_ARGS)
    if entry is None:
        return {"env": [*env, ours]}
    place = env.index(entry)
    theirs = [{"name": OWNERS_VARIABLE, "valueFrom": entry["valueFrom"]}] if "valueFrom" in entry else []
    return {"env": [*env[:place], *theirs, ours, *env[place + 1 :]]}


def _carry(content: dict[str, Any], server: Server, sidecar: Object) -> None:
    """Put the sidecar into the template."""
    template, ours = content["spec"]["template"], marks(server)
    spec, metadata = template["spec"], template["metadata"]
    metadata["labels"] |= ours["labels"]
    metadata["annotations"] = ours["annotations"]
    spec["initContainers"] = [sidecar]
    spec["volumes"].append(policy_volume(server.sidecar))
    spec["shareProcessNamespace"] = True


def _remembering(content: Object, record: Record) -> dict[str, Any]:
    return {**content, "metadata": {**content["metadata"], "annotations": {ANNOTATION_APPLIED: dump(record)}}}


def _handed_over(app: App, live: Object | None) -> Mapping[str, Any] | None:
    """The replicas that the spec named until now: given up by their only owner, they would fall back to 1."""
    entries = (live or {"metadata": {}})["metadata"].get("managedFields") or ()
    held = any(is_ours(entry) and "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {}) for entry in entries)
    if live is None or app.replicas is not None or not held:
        return None
    metadata = {key: live["metadata"][key] for key in ("name", "namespace")}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"replicas": live["spec"]["replicas"]},
    }
