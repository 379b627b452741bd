"""How settings reach a server: by which variables of its container, written where.

In: a `Server`, the container as it is, what we wrote there before, what the reports tell. Out: `Lever`, or an
`Obstacle`. Rule: gunicorn's lever is `GUNICORN_CMD_ARGS`, where our flags stand behind the owner's; uWSGI's are its
`UWSGI_*` variables, one per setting. Either stands in the template or, better, is ordered of the admission policy; the
owner's own words stay, or are kept to the letter. What a server has no lever for is told, never dropped.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from wsgi_contract import names
from wsgi_contract.servers.gunicorn import CMD_ARGS, ArgumentsError, merge_cmd_args
from wsgi_contract.servers.gunicorn_statsd import point_statsd, statsd_host
from wsgi_contract.servers.uwsgi import SettingsError, merge_environment
from wsgi_contract.servers.uwsgi_options import PREFIX
from wsgi_operator.core.record import Kept, Original, Record, original_of, record_of
from wsgi_operator.core.seen import Seen
from wsgi_operator.core.server import Obstacle, Runs, Server
from wsgi_operator.core.workload import Object, env_entry, env_path, owners

STATSD_ADDRESS: Final = f"127.0.0.1:{names.STATSD_PORT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """What has to be written.

    Attributes:
        template: variables as we want them in the template; those that are not here are left alone there.
        ordered: what pods get at their creation: flags behind the owner's, or a variable's value.
        kept: the owner's own, where the template overrides it.
        inherited: the `GUNICORN_CMD_ARGS` that image or envFrom give the server; None: not seen yet.
        pending: whether the settings have to wait for that.
        statsd: whether the server is pointed at the sidecar's statsd.
        told: what was wanted and cannot be had.
        boot: text of the config file by which settings change in place; None: they come by flags.
    """

    template: Mapping[str, str] = field(default_factory=dict)
    ordered: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    inherited: str | None = None
    pending: bool = False
    statsd: bool = False
    told: tuple[Obstacle, ...] = ()
    boot: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The server's container in a live workload, and what we wrote there before."""

    workload: Object
    container: Object
    record: Record | None
    original: Original | None

    def theirs(self, variable: str) -> Kept | None:
        """The owner's own: what stands there, unless we wrote it ourselves; then what we kept."""
        entry = env_entry(self.container, variable)
        if entry is None:
            return None
        if self._is_ours(variable, entry):
            return self.original.variables.get(variable) if self.original else None
        return Kept(value=entry.get("value"), owners=owners(self.workload, env_path(self.container["name"], variable)))

    def refers(self, variable: str) -> Object | None:
        """Where the owner takes the variable from, if it is no plain value."""
        source: Object | None = (env_entry(self.container, variable) or {}).get("valueFrom")
        return source

    def wrote(self, variable: str) -> bool:
        """Whether the server has something of ours in that variable already."""
        return self.record is not None and (variable in self.record.variables or variable in self.record.ordered)

    def words(self) -> Iterator[str]:
        """The container's command line, as far as the manifest says it."""
        yield from self.container.get("command") or ()
        yield from self.container.get("args") or ()

    def kept_beside(self, wanted: Mapping[str, str]) -> Mapping[str, Kept]:
        """What the owner had in variables that we override, or did until now: those get their own value again."""
        ours = self.record.variables if self.record else {}
        found = {name: self.theirs(name) for name in (*wanted, *ours)}
        return {name: kept for name, kept in found.items() if kept is not None and (name in wanted or self._ours(name))}

    def _ours(self, variable: str) -> bool:
        entry = env_entry(self.container, variable)
        return entry is not None and self._is_ours(variable, entry)

    def _is_ours(self, variable: str, entry: Object) -> bool:
        wrote = self.record.variables if self.record else {}
        return variable in wrote and entry.get("value") == (wrote[variable] or None)


def place_of(workload: Object, container: Object) -> Place:
    """The container with what the workload's annotations tell of it."""
    return Place(workload=workload, container=container, record=record_of(workload), original=original_of(workload))


def lever_of(server: Server, place: Place, runs: Runs, seen: Seen | None, *, admission: bool) -> Lever | Obstacle:
    """What to write for this server.

    Args:
        server: what is wanted.
        place: where.
        runs: which server it is.
        seen: what the pods of this very template report; None: nobody was asked.
        admission: whether pods get at their creation what is ordered.
    """
    if runs == "uwsgi":
        return _uwsgi(server, place, admission=admission)
    return _gunicorn(server, place, seen, admission=admission)


def _in_template(place: Place, wanted: Mapping[str, str], lever: Lever) -> Lever:
    """Written into the template; the owner gets back what we do not override any more."""
    kept = place.kept_beside(wanted)
    back = {name: str(one.value or "") for name, one in kept.items() if name not in wanted}
    return replace(lever, template={**back, **wanted}, kept=kept)


def _gunicorn(server: Server, place: Place, seen: Seen | None, *, admission: bool) -> Lever | Obstacle:
    theirs, reference = place.theirs(CMD_ARGS), place.refers(CMD_ARGS)
    inherited = place.record.inherited if place.record else None
    if theirs is None and not place.wrote(CMD_ARGS) and seen is not None and seen.cmd_args is not None:
        inherited = seen.cmd_args
    existing = "" if reference is not None else inherited if theirs is None else str(theirs.value or "")
    try:
        taken = statsd_taken(server, existing or "", place.words())
        merged, flags = (with_flags(text, server, statsd=not taken) for text in (existing or "", ""))
    except ArgumentsError as error:
        return unreadable(place.container["name"], error)
    base = Lever(inherited=inherited, statsd=server.monitoring.requests is not None and not taken, told=taken)
    if not flags:
        return base if admission else _in_template(place, {}, base)
    if reference is not None:
        return _from_reference(place, reference, flags, base, admission=admission)
    if existing is None:
        return Lever(pending=True, told=taken)
    if admission:
        return replace(base, ordered={CMD_ARGS: flags}, inherited=inherited if theirs is None else None)
    return _in_template(place, {CMD_ARGS: merged}, base)


def statsd_taken(server: Server, existing: str, words: Iterable[str]) -> tuple[Obstacle, ...]:
    """That the owner sends statsd somewhere already, if he does: by the variable, or by the command line.

    Raises:
        ArgumentsError: the variable's text is none that a shell could split.
    """
    if server.monitoring.requests is None:
        return ()
    theirs = statsd_host(shlex.join(words)) or statsd_host(existing)
    if theirs is None:
        return ()
    return (
        Obstacle(
            reason="StatsdTaken",
            message=f"requests are not counted: the server sends its statsd to {theirs} already. Take that flag away "
            f"and write spec.monitoring.requests.forward: {theirs.removeprefix('udp://')}, and each datagram goes on "
            "there; or remove spec.monitoring.requests",
        ),
    )


def with_flags(existing: str, server: Server, *, statsd: bool) -> str:
    """The owner's text with our flags behind it; the very text where there are none.

    Raises:
        ArgumentsError: gunicorn would refuse the text, or not see what stands behind it.
    """
    merged = merge_cmd_args(existing, server.wanted) if server.wanted.items() else existing
    if server.monitoring.requests is None or not statsd:
        return merged
    return point_statsd(merged, STATSD_ADDRESS).cmd_args


def unreadable(container: str, error: ArgumentsError) -> Obstacle:
    """That the owner's variable is none that gunicorn would start with."""
    return Obstacle(
        reason="CmdArgsUnreadable",
        message=f"container {container} has a {CMD_ARGS} that gunicorn itself would refuse ({error}): mend it in the "
        "Deployment, or in the image if it comes from there",
    )


def _from_reference(place: Place, source: Object, flags: str, base: Lever, *, admission: bool) -> Lever | Obstacle:
    if admission and surely_there(source):
        return replace(base, ordered={CMD_ARGS: flags}, inherited=None)
    return from_reference(place.container["name"])


def surely_there(source: Object) -> bool:
    """Whether `$(NAME)` of this source has a value: without one these very letters would reach gunicorn."""
    return not any(isinstance(key, Mapping) and key.get("optional") for key in source.values())


def from_reference(container: str) -> Obstacle:
    """That a variable taken from elsewhere cannot be continued."""
    return Obstacle(
        reason="CmdArgsFromReference",
        message=f"container {container} takes {CMD_ARGS} from a ConfigMap, Secret or field (valueFrom), which "
        "cannot be merged with spec.settings: write it as a plain value in the Deployment, or as $(NAME) of another "
        "variable that is taken from there, or leave spec.settings empty",
    )


def _uwsgi(server: Server, place: Place, *, admission: bool) -> Lever | Obstacle:
    own = [entry["name"] for entry in place.container.get("env") or () if entry["name"].startswith(PREFIX)]
    existing = {name: str(kept.value or "") for name in own if (kept := place.theirs(name)) is not None}
    try:
        wanted = merge_environment(existing, server.wanted)
    except SettingsError as error:
        return Obstacle(reason="SettingsRefused", message=f"spec.settings cannot be had from this server: {error}")
    base = Lever(told=_no_statsd(server))
    if admission:
        return replace(base, ordered=wanted)
    referred = [name for name in wanted if place.refers(name) is not None]
    if referred:
        return Obstacle(
            reason="VariableFromReference",
            message=f"container {place.container['name']} takes {', '.join(referred)} from a ConfigMap, Secret or "
            "field (valueFrom), which cannot be overridden in the template: write a plain value in its place, or "
            "remove the setting from spec.settings",
        )
    return _in_template(place, wanted, base)


def _no_statsd(server: Server) -> tuple[Obstacle, ...]:
    if server.monitoring.requests is None:
        return ()
    return (
        Obstacle(
            reason="StatsdUnknown",
            message="spec.monitoring.requests is gunicorn's: uWSGI tells its requests by its stats server, which the "
            "sidecar asks by itself; give it one (UWSGI_STATS=127.0.0.1:1717) and remove spec.monitoring.requests",
        ),
    )
