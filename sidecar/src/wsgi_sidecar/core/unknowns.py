"""What cannot be seen of a server, why, and what to do.

In: the family, the sources of its settings, whom the sidecar runs as. Out: `Unknown` values, at most one per cause.
Rule: a reason names numbers or files; a remedy is something to type.
"""

from collections.abc import Iterator
from typing import Final

from wsgi_contract.report import Unknown
from wsgi_contract.servers.gunicorn import Sources, may_hold_secrets
from wsgi_sidecar.core.adopted import REMEDY
from wsgi_sidecar.core.command import role
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.snapshot import Process

Identity = tuple[int, int]
"""User id and group id."""


def tell_unknowns(
    family: Family, sources: Sources | None, release: str | None, *, uid: int, gid: int
) -> tuple[Unknown, ...]:
    """What cannot be seen now.

    Args:
        family: of this look.
        sources: of the settings; None where nobody tried to read them.
        release: of the server; None where it could not be read.
        uid: user id of the sidecar.
        gid: group id of the sidecar.
    """
    master = family.master
    if master.heartbeats is None:
        # Everything else that is refused is refused for the same reason: say it once.
        return (_refused("heartbeats, connections, listeners, settings and release", master, uid, gid),)
    return (
        *_about_workers(family),
        *_about_sockets(family),
        *_about_settings(master, sources),
        *_about_release(release),
        *_about_orphans(family),
    )


def tell_doubt(family: Family | None, others: str | None) -> tuple[Unknown, ...]:
    """Whether the server that is watched is the right one, and why none is although there are some.

    Args:
        family: None where none is watched.
        others: servers that belong to other containers; None where there are none.
    """
    if family is not None and family.doubt is not None:
        return (Unknown(what="whether this is the adopted server", why=family.doubt, remedy=REMEDY),)
    if family is None and others is not None:
        return (
            Unknown(
                what="the adopted server",
                why=f"none runs in its container; what runs in others is not watched: {others}",
                remedy="if one of them is meant, name its container in spec.workload.container (or by --container)",
            ),
        )
    return ()


_ITS_RIGHTS: Final = (
    "let the server run as its user from the start (runAsUser), without capabilities that the sidecar lacks, instead "
    "of dropping privileges itself (gunicorn -u), or give the sidecar SYS_PTRACE and KILL and run it as root"
)


def remedy_for(theirs: Identity, ours: Identity) -> str:
    """What opens a process to us that the kernel does not let us look into.

    Args:
        theirs: uid and gid of the process.
        ours: the sidecar's.
    """
    if theirs == ours:
        return _ITS_RIGHTS
    return f"run the sidecar with runAsUser: {theirs[0]} and runAsGroup: {theirs[1]}"


def _refused(what: str, process: Process, uid: int, gid: int) -> Unknown:
    theirs, ours = (process.uid, process.gid), (uid, gid)
    whose = f"the server runs as uid {process.uid} and gid {process.gid}"
    why = f"the sidecar runs as uid {uid} and gid {gid}, {whose}"
    if theirs == ours:
        why = f"the kernel refuses to show the files of process {process.id.pid}, although {whose} like the sidecar"
    return Unknown(what=what, why=why, remedy=remedy_for(theirs, ours))


def _about_workers(family: Family) -> Iterator[Unknown]:
    """Whoever sees the master but not its workers would see no master if it ran as the workers do."""
    hidden = [worker.process for worker in family.workers if worker.process.heartbeats is None]
    if hidden:
        yield Unknown(
            what="heartbeats and connections of the workers",
            why=f"the server's master runs as uid {family.master.uid}, its workers as uid {hidden[0].uid}, and the "
            "kernel refuses to show theirs",
            remedy=_ITS_RIGHTS,
        )


def _about_sockets(family: Family) -> Iterator[Unknown]:
    if family.listeners is None:
        yield Unknown(
            what="accept queue and connections",
            why="the kernel shows neither sock_diag nor /proc/net",
            remedy="allow the sidecar AF_NETLINK sockets in its seccomp profile (RuntimeDefault does)",
        )
    elif not family.listeners:
        yield Unknown(
            what="accept queue and connections",
            why="no listening socket of the server is in the sidecar's network namespace (or it does not listen yet)",
            remedy="run the sidecar in the pod of the server",
        )
    elif any(listener.backlog is None for listener in family.listeners):
        yield Unknown(
            what="limit of the accept queue",
            why="the kernel refuses sock_diag, and /proc/net does not tell the backlog",
            remedy="allow the sidecar AF_NETLINK sockets in its seccomp profile (RuntimeDefault does)",
        )


def _about_settings(master: Process, sources: Sources | None) -> Iterator[Unknown]:
    if sources is None:
        return
    if role(master.command) == "master":
        yield Unknown(
            what="settings",
            why="the app's image has setproctitle, which overwrites the command line and environment of the server",
            remedy="remove setproctitle from the image",
        )
    elif sources.cmd_args is None:
        yield Unknown(
            what="settings given by GUNICORN_CMD_ARGS",
            why="the environment of the server could not be read",
            remedy="run the sidecar as the server's user and group",
        )
    elif may_hold_secrets(sources.cmd_args):
        yield Unknown(
            what="the whole of GUNICORN_CMD_ARGS, to whoever reads the report",
            why="it sets variables (--env) or names an address with a password, which must not leave the pod",
            remedy="move secrets to the container's env, or write GUNICORN_CMD_ARGS in the Deployment",
        )
    elif sources.config_file is None:
        yield Unknown(
            what="settings given by the config file",
            why="it is a Python module (python:...), or unreadable, or gunicorn left its first folder (--chdir)",
            remedy="give the config file by an absolute path (-c), or the settings by GUNICORN_CMD_ARGS",
        )


def _about_release(release: str | None) -> Iterator[Unknown]:
    if release is None:
        yield Unknown(
            what="release",
            why="no gunicorn-*.dist-info was found where the server's Python looks for packages",
            remedy="install gunicorn with pip, uv or the distribution's package",
        )


def _about_orphans(family: Family) -> Iterator[Unknown]:
    if not family.sees_all_orphans:
        yield Unknown(
            what="some orphans",
            why="the server shares its cgroup with others, so only processes seen while their worker lived are told",
            remedy="run the server in a container, or start it with `wsgi-sidecar run`",
        )
