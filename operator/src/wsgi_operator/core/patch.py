"""What to apply to a Deployment so that its pods carry the sidecar and the wanted settings.

In: a `Server`, the live Deployment, whom the reports saw the server run as. Out: `Plan` (a server-side apply
configuration, and whether it changes anything), or an `Obstacle`. Rule: only what we add stands in the configuration;
where the owner's own value must give way, it is kept beside, to the letter, and comes back with `restore`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wsgi_contract import names
from wsgi_contract.policy import dump_policy
from wsgi_contract.servers.gunicorn import CMD_ARGS, ArgumentsError, merge_cmd_args
from wsgi_operator.core.admission import orders
from wsgi_operator.core.contest import undo
from wsgi_operator.core.cover import covers
from wsgi_operator.core.record import ANNOTATION_APPLIED, Change, Kept, Original, Record, dump, original_of, record_of
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import SPEC_NAMES, Obstacle, Server
from wsgi_operator.core.sidecar import (
    POLICY_VOLUME,
    Identity,
    believed,
    combine,
    declared_identity,
    missing,
    pod_annotations,
    policy_volume,
    sidecar_container,
)
from wsgi_operator.core.upgrade import is_upgrade
from wsgi_operator.core.workload import (
    SHARE_PATH,
    Object,
    all_containers,
    env_entry,
    env_path,
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
        record: what the Deployment will tell of it.
        pending: whether the settings must wait until a report has told what `GUNICORN_CMD_ARGS` image or envFrom set:
            a variable in the template would silently replace them.
        upgrade: whether it would roll a workload of which nobody asked that.
        held_back: why that does not happen now; None: it may.
    """

    config: Mapping[str, Any]
    needed: bool
    record: Record
    pending: bool
    upgrade: bool = False
    held_back: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _CmdArgs:
    """`GUNICORN_CMD_ARGS`.

    Attributes:
        ours: as we want it in the template; None: left alone there.
        flags: what pods get behind the owner's at their creation; None: nothing.
        kept: the owner's in the template, if it is overridden.
        inherited: what image or envFrom set; None: not seen yet.
        pending: whether ours have to wait for that.
    """

    ours: str | None = None
    flags: str | None = None
    kept: Kept | None = None
    inherited: str | None = None
    pending: bool = False


def plan(
    server: Server, deployment: Object, *, seen: Seen | None = None, now: float = 0.0, admission: bool = False
) -> Plan | Obstacle:
    """Decide what to apply.

    Args:
        server: what is wanted.
        deployment: as it is now.
        seen: what the pods of this very template report; None: nobody was asked.
        now: Unix seconds; ends up in the record if something changes.
        admission: whether the cluster has the policy that gives pods their flags at creation. A template that
            overrides a value of its owner's already stays with that way: to put the value back would hand it to nobody.
    """
    admission = admission and original_of(deployment) is None
    container = find_container(deployment, server.container)
    if isinstance(container, Obstacle):
        return container
    record = record_of(deployment)
    obstacle = _in_the_way(server, deployment, record)
    if obstacle is not None:
        return obstacle
    server = _with_its_image(server, record)
    args = _cmd_args(server, deployment, container, record, seen, admission=admission)
    if isinstance(args, Obstacle):
        return args
    share, share_kept = _share(deployment, record, admission=admission)
    declared = declared_identity(server, deployment, container)
    identity = seen.identity if seen else None
    learnt = missing(declared, believed(identity or (record.learnt if record else Identity()), deployment, container))
    template = _template(server, container, args, share, combine(declared, learnt))
    if admission:
        template["metadata"]["annotations"] |= orders(container["name"], args.flags, args.inherited)
    original = Original(container=container["name"], cmd_args=args.kept, share=share_kept)
    ours = _told(record, _record(server, template, args, share, learnt), now)
    config = _configuration(server, template, ours, original)
    needed = not covers(deployment, config) or not any(map(is_ours, deployment["metadata"].get("managedFields") or ()))
    if needed and record is not None and not ours.news(record) and not covers(deployment, {"spec": config["spec"]}):
        undone = undo(ours, record, deployment, now)
        if isinstance(undone, Obstacle):
            return undone
        ours, config = undone, _configuration(server, template, undone, original)
    upgrade = needed and is_upgrade(record, ours) and _carries_sidecar(deployment)
    return Plan(config=config, needed=needed, record=ours, pending=args.pending, upgrade=upgrade)


def _with_its_image(server: Server, record: Record | None) -> Server:
    """Where upgrades are manual, the image stays what it is until the WSGIServer names another."""
    if record is None or server.sidecar.upgrade != "Manual" or server.sidecar.named:
        return server
    return replace(server, sidecar=replace(server.sidecar, image=record.image))


def _carries_sidecar(deployment: Object) -> bool:
    return any(container["name"] == names.SIDECAR_CONTAINER for container in all_containers(deployment))


def _record(server: Server, template: Object, args: _CmdArgs, share: bool, learnt: Identity) -> Record:
    return Record(
        server=server.uid,
        generation=server.generation,
        config=_digest(template),
        cmd_args=args.ours,
        flags=args.flags,
        share=share,
        settings={} if args.pending else dict(server.wanted.items()),
        policy=dump_policy(server.policy),
        image=server.sidecar.image,
        learnt=learnt,
        inherited=args.inherited,
    )


def _told(before: Record | None, ours: Record, now: float) -> Record:
    """The new record with what it changes; where it changes nothing, it tells of the last change still."""
    changes = _changes(before, ours)
    if before is not None:
        ours = replace(ours, drifts=before.drifts, drift_at=before.drift_at)
    if before is not None and not changes:
        return replace(ours, at=before.at, changes=before.changes)
    return replace(ours, at=now, changes=changes)


def _in_the_way(server: Server, deployment: Object, record: Record | None) -> Obstacle | None:
    which, spec = f"{server.kind} {deployment['metadata']['name']}", pod_spec(deployment)
    if spec.get("hostPID"):
        return Obstacle(
            reason="HostPID",
            message=f"{which} has hostPID: true, which Kubernetes does not allow together with "
            "shareProcessNamespace, which the sidecar needs to see the server: remove hostPID",
        )
    if record is None and any(c["name"] == names.SIDECAR_CONTAINER for c in all_containers(deployment)):
        return Obstacle(
            reason="SidecarPresent",
            message=f"{which} already has a container {names.SIDECAR_CONTAINER} that is not ours: remove it "
            "from the manifest, and the operator adds its own",
        )
    if record is None and any(volume["name"] == POLICY_VOLUME for volume in spec.get("volumes") or ()):
        return Obstacle(
            reason="VolumePresent",
            message=f"{which} already has a volume {POLICY_VOLUME}, a name the sidecar needs: rename it",
        )
    return _port_taken(server, deployment)


def _port_taken(server: Server, deployment: Object) -> Obstacle | None:
    port = server.sidecar.port
    for container in all_containers(deployment):
        taken = any(p.get("containerPort") == port for p in container.get("ports") or ())
        if taken and container["name"] != names.SIDECAR_CONTAINER:
            return Obstacle(
                reason="PortTaken",
                message=f"container {container['name']} already uses port {port}: give the sidecar another one in "
                "spec.sidecar.port",
            )
    return None


def _cmd_args(
    server: Server,
    deployment: Object,
    container: Object,
    record: Record | None,
    seen: Seen | None,
    *,
    admission: bool,
) -> _CmdArgs | Obstacle:
    entry, wanted = env_entry(container, CMD_ARGS), server.wanted
    inherited = record.inherited if record else None
    if entry is not None and "valueFrom" in entry:
        return _from_reference(server, container, entry, admission=admission)
    theirs = _theirs(deployment, container, entry, record)
    overridden = record is not None and (record.cmd_args is not None or record.flags is not None)
    if not wanted.items() and (admission or not (theirs and overridden)):
        return _CmdArgs(inherited=inherited)
    if entry is None and not overridden and seen is not None:
        inherited = seen.cmd_args if seen.cmd_args is not None else inherited
    if theirs is None and inherited is None:
        return _CmdArgs(pending=True)
    try:
        ours = merge_cmd_args(str(theirs.value or "") if theirs else inherited or "", wanted)
    except ArgumentsError as error:
        return _unreadable(container, error)
    if admission:
        return _CmdArgs(flags=merge_cmd_args("", wanted), inherited=None if theirs else inherited)
    return _CmdArgs(ours=ours, kept=theirs, inherited=inherited)


def _unreadable(container: Object, error: ArgumentsError) -> Obstacle:
    return Obstacle(
        reason="CmdArgsUnreadable",
        message=f"container {container['name']} has a {CMD_ARGS} that gunicorn itself would refuse ({error}): mend "
        "it in the Deployment, or in the image if it comes from there",
    )


def _from_reference(server: Server, container: Object, entry: Object, *, admission: bool) -> _CmdArgs | Obstacle:
    if not server.wanted.items():
        return _CmdArgs()
    surely = not any(isinstance(source, Mapping) and source.get("optional") for source in entry["valueFrom"].values())
    if admission and surely:  # $(NAME) of a key that may be absent would reach gunicorn as these very letters
        return _CmdArgs(flags=merge_cmd_args("", server.wanted))
    return Obstacle(
        reason="CmdArgsFromReference",
        message=f"container {container['name']} takes {CMD_ARGS} from a ConfigMap, Secret or field (valueFrom), which "
        "cannot be merged with spec.settings: write it as a plain value in the Deployment, or as $(NAME) of another "
        "variable that is taken from there, or leave spec.settings empty",
    )


def _theirs(deployment: Object, container: Object, entry: Object | None, record: Record | None) -> Kept | None:
    """The owner's own value: what stands there, unless we wrote it ourselves; then what we kept."""
    if entry is None:
        return None
    if record is not None and record.cmd_args is not None and entry.get("value") == record.cmd_args:
        original = original_of(deployment)
        return original.cmd_args if original else None
    return Kept(value=entry.get("value"), owners=owners(deployment, env_path(container["name"], CMD_ARGS)))


def _share(deployment: Object, record: Record | None, *, admission: bool) -> tuple[bool, Kept | None]:
    """Whether we set shareProcessNamespace, and the owner's `false`, if it has one."""
    live = pod_spec(deployment).get("shareProcessNamespace")
    if live and record is not None and record.share:
        original = original_of(deployment)
        return True, original.share if original else None
    if live or (live is False and admission):
        return False, None
    return True, None if live is None else Kept(value=False, owners=owners(deployment, SHARE_PATH))


def _template(server: Server, container: Object, args: _CmdArgs, share: bool, identity: Identity) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "initContainers": [sidecar_container(server, container, identity)],
        "volumes": [policy_volume(server.sidecar)],
    }
    if share:
        spec["shareProcessNamespace"] = True
    if args.ours is not None:
        entry = {"name": CMD_ARGS} | ({"value": args.ours} if args.ours else {})
        spec["containers"] = [{"name": container["name"], "env": [entry]}]
    metadata = {
        "labels": {names.LABEL_SERVER: server.name},
        "annotations": pod_annotations(server),
    }
    return {"metadata": metadata, "spec": spec}


def _configuration(server: Server, template: Object, record: Record, original: Original) -> dict[str, Any]:
    annotations = {ANNOTATION_APPLIED: dump(record)}
    if original:
        annotations[names.ANNOTATION_ORIGINAL] = dump(original)
    return {
        "apiVersion": "apps/v1",
        "kind": server.kind,
        "metadata": {"name": server.workload, "namespace": server.namespace, "annotations": annotations},
        "spec": {"template": template},
    }


def _digest(template: Object) -> str:
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _changes(before: Record | None, after: Record) -> tuple[Change, ...]:
    if before is None:
        return (Change(name="sidecar", before=None, after=after.image), *_setting_changes({}, after.settings))
    others = (
        ("watchdog", before.policy, after.policy),
        ("image", before.image, after.image),
        ("identity", _words(before.learnt), _words(after.learnt)),
    )
    return _setting_changes(before.settings, after.settings) + tuple(
        Change(name=name, before=old, after=new) for name, old, new in others if old != new
    )


def _setting_changes(before: Mapping[str, int], after: Mapping[str, int]) -> tuple[Change, ...]:
    return tuple(
        Change(name=spec_name, before=_text(before.get(name)), after=_text(after.get(name)))
        for name, spec_name in SPEC_NAMES.items()
        if before.get(name) != after.get(name)
    )


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)


def _words(identity: Identity) -> str | None:
    return None if identity == Identity() else f"uid {identity.uid}, gid {identity.gid}"
