"""What to apply to a workload so that its pods carry the sidecar and the wanted settings.

In: a `Server`, the live workload, what the reports saw. Out: `Plan` (a server-side apply configuration, and whether it
changes anything), or an `Obstacle`. Rule: only what we add stands in the configuration; where the owner's own value
must give way, it is kept beside, to the letter, and comes back with `restore`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from wsgi_contract import names
from wsgi_contract.policy import dump_policy
from wsgi_operator.core.admission import orders
from wsgi_operator.core.begun import Reason, kind_of, remembered
from wsgi_operator.core.boot import booted
from wsgi_operator.core.changes import told
from wsgi_operator.core.contest import undo
from wsgi_operator.core.cover import covers
from wsgi_operator.core.digest import digest
from wsgi_operator.core.in_the_way import in_the_way
from wsgi_operator.core.lever import Lever, lever_of, place_of
from wsgi_operator.core.record import ANNOTATION_APPLIED, Kept, Original, Record, dump, original_of, record_of
from wsgi_operator.core.roll import COUNTED, Undone, wished_sidecar
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Runs, Server
from wsgi_operator.core.sidecar import (
    ANNOTATION_CONFIG,
    Identity,
    believed,
    combine,
    declared_identity,
    missing,
    pod_annotations,
    server_mounts,
    sidecar_container,
    volumes,
)
from wsgi_operator.core.standing import ANNOTATION_STANDING, Standing, dump_standing, standing_of
from wsgi_operator.core.workload import (
    SHARE_PATH,
    Object,
    find_container,
    is_ours,
    owners,
    pod_spec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to apply.

    Attributes:
        config: the apply configuration.
        needed: whether it would change the live object.
        record: what the workload will tell of it.
        pending: whether the settings must wait until a report has told what `GUNICORN_CMD_ARGS` image or envFrom set:
            a variable in the template would silently replace them.
        kind: why the template changes; `repair` where somebody else changed it, None where it stays.
        held: why that does not happen now; None: it may.
        told: what was wanted and cannot be had.
        stuck: what is in the way, so that the workload stays as it is and only its pods are listened to; None: nothing.
        handed_over: what somebody else's field manager must hold before, so that our giving it up does not remove it.
    """

    config: Mapping[str, Any]
    needed: bool
    record: Record
    pending: bool = False
    kind: Reason | None = None
    held: str | None = None
    told: tuple[Obstacle, ...] = ()
    stuck: Obstacle | None = None
    handed_over: Mapping[str, Any] | None = None

    def rolls(self, live: Object) -> bool:
        """Whether applying it changes the template."""
        return self.needed and not covers(live, {"spec": self.config["spec"]})


def plan(
    server: Server,
    deployment: Object,
    *,
    seen: Seen | None = None,
    now: float = 0.0,
    admission: bool = False,
    undone: Undone | None = None,
) -> Plan | Obstacle:
    """Decide what to apply to a workload of somebody's.

    Args:
        server: what is wanted.
        deployment: as it is now.
        seen: what the pods of this very template report; None: nobody was asked.
        now: Unix seconds; ends up in the record if something changes.
        admission: whether the cluster has the policy that gives pods their settings at creation. A template that
            overrides a value of its owner's already stays with that way: to put the value back would hand it to nobody.
        undone: what this takes back; None: it takes nothing back.
    """
    admission = admission and original_of(deployment) is None
    container = find_container(deployment, server.container)
    if isinstance(container, Obstacle):
        return container
    record = applied_to(deployment)
    obstacle = in_the_way(server, deployment, record)
    if obstacle is not None:
        return obstacle
    server, runs = with_its_image(server, record), runs_of(server, record, seen)
    lever = lever_of(server, place_of(deployment, container), runs, seen, admission=admission)
    if isinstance(lever, Obstacle):
        return lever
    lever = booted(server, place_of(deployment, container), lever, runs, admission=admission)
    share, share_kept = _share(deployment, record, admission=admission)
    declared = declared_identity(server, deployment, container)
    learnt = learnt_of(declared, record, seen, deployment, container)
    template = _template(server, container, lever, share, combine(declared, learnt), admission=admission)
    if admission:
        template["metadata"]["annotations"] |= orders(container["name"], lever.ordered, lever.inherited)
    original = Original(container=container["name"], variables=lever.kept, share=share_kept)
    ours = replace(record_for(server, template, lever, learnt, runs), share=share)
    standing = standing_of(deployment) if server.apply == "InPlace" else None
    made = settled(
        ours,
        deployment,
        lambda record: _configuration(server, template, record, original, standing),
        now,
        undone=undone,
    )
    return made if isinstance(made, Obstacle) else replace(made, told=lever.told, pending=lever.pending)


def runs_of(server: Server, record: Record | None, seen: Seen | None) -> Runs:
    """Which server it is: what the spec says, what the pods report, what was known before; else gunicorn."""
    return server.runs or (seen.runs if seen else None) or (record.runs if record else "gunicorn")


def learnt_of(
    declared: Identity, record: Record | None, seen: Seen | None, workload: Object, container: Object
) -> Identity:
    """Whom the server was found to run as, where nobody declares it and the manifests allow it: now, or before."""
    identity = (seen.identity if seen else None) or (record.learnt if record else Identity())
    return missing(declared, believed(identity, workload, container))


def with_its_image(server: Server, record: Record | None) -> Server:
    """Where upgrades are manual, the image stays what it is until the WSGIServer names another."""
    if record is None or server.sidecar.upgrade != "Manual" or server.sidecar.named:
        return server
    return replace(server, sidecar=replace(server.sidecar, image=record.image))


def record_for(server: Server, content: Object, lever: Lever, learnt: Identity, runs: Runs) -> Record:
    """What we would remember of applying this content."""
    requests = server.monitoring.requests
    return Record(
        server=server.uid,
        generation=server.generation,
        config=digest(content),
        runs=runs,
        variables=lever.template,
        ordered=lever.ordered,
        share=False,
        settings={} if lever.pending else dict(server.wanted.items()),
        policy=dump_policy(server.policy),
        image=server.sidecar.image,
        sidecar=wished_sidecar(server),
        learnt=learnt,
        inherited=lever.inherited,
        requests=None if requests is None or not lever.statsd else requests.forward or COUNTED,
        app=server.app.image if server.app else None,
    )


def applied_to(live: Object) -> Record | None:
    """What the template carries of ours by the record; None: nothing, also where it was taken out again."""
    record = record_of(live)
    return None if record is None or record.out else record


def settled(
    record: Record,
    live: Object,
    write: Callable[[Record], Mapping[str, Any]],
    now: float,
    *,
    undone: Undone | None = None,
) -> Plan | Obstacle:
    """The plan, once it is known whether anything changes, and why.

    Args:
        record: what we would remember.
        live: the workload.
        write: the apply configuration with a record in it.
        now: Unix seconds.
        undone: what this takes back; None: it takes nothing back.
    """
    before = applied_to(live)
    ours = told(before, record, now)
    template = write(ours)["spec"]["template"]
    stays = covers(live, {"spec": {"template": template}})
    kind = "undo" if undone is not None else kind_of(before, ours, live, template, stays=stays)
    ours = remembered(ours, live, before=before, kind=kind, undone=undone, now=now)
    config = write(ours)
    untouched = not any(map(is_ours, live["metadata"].get("managedFields") or ()))
    needed = untouched or not covers(live, config)
    if needed and kind in ("upgrade", "repair") and before is not None and not ours.news(before) and not stays:
        contested = undo(ours, before, live, now, by_us=kind == "upgrade")
        if isinstance(contested, Obstacle):
            return contested
        ours, config = contested, write(contested)
    return Plan(config=config, needed=needed, record=ours, kind=kind)


def _share(deployment: Object, record: Record | None, *, admission: bool) -> tuple[bool, Kept | None]:
    """Whether we set shareProcessNamespace, and the owner's `false`, if it has one."""
    live = pod_spec(deployment).get("shareProcessNamespace")
    if live and record is not None and record.share:
        original = original_of(deployment)
        return True, original.share if original else None
    if live or (live is False and admission):
        return False, None
    return True, None if live is None else Kept(value=False, owners=owners(deployment, SHARE_PATH))


def _template(
    server: Server, container: Object, lever: Lever, share: bool, identity: Identity, *, admission: bool
) -> dict[str, Any]:
    in_place = lever.boot is not None
    spec: dict[str, Any] = {
        "initContainers": [sidecar_container(server, container, identity, statsd=lever.statsd, in_place=in_place)],
        "volumes": volumes(server.sidecar, in_place=in_place),
    }
    if share:
        spec["shareProcessNamespace"] = True
    if lever.template:
        env = [{"name": name} | ({"value": text} if text else {}) for name, text in lever.template.items()]
        mounts = {"volumeMounts": server_mounts()} if in_place and not admission else {}
        spec["containers"] = [{"name": container["name"], "env": env} | mounts]
    metadata = marks(server)
    if lever.boot is not None:
        metadata["annotations"][ANNOTATION_CONFIG] = lever.boot
    return {"metadata": metadata, "spec": spec}


def marks(server: Server) -> dict[str, Any]:
    """Labels and annotations of ours on each pod."""
    return {
        "labels": {names.LABEL_SERVER: server.name},
        "annotations": pod_annotations(server),
    }


def _configuration(
    server: Server, template: Object, record: Record, original: Original, standing: Standing | None
) -> dict[str, Any]:
    annotations = {ANNOTATION_APPLIED: dump(record)}
    if standing is not None:
        annotations[ANNOTATION_STANDING] = dump_standing(standing)
    if original:
        annotations[names.ANNOTATION_ORIGINAL] = dump(original)
    return {
        "apiVersion": "apps/v1",
        "kind": server.kind,
        "metadata": {"name": server.workload, "namespace": server.namespace, "annotations": annotations},
        "spec": {"template": template},
    }
