"""What only running pods can tell of a workload, and no manifest.

In: reports. Out: `Seen`. Rule: only what all reports that can tell agree on is seen; all else stays None, and so do
flags that are better not taken from a report.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from wsgi_contract.report import Report
from wsgi_operator.core.hearsay import not_taken
from wsgi_operator.core.server import RUNS, Runs
from wsgi_operator.core.sidecar import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the reports say of the servers' surroundings.

    Attributes:
        identity: whom the servers run as, where that is not whom the sidecars run as; None: nobody is mistaken, or the
            servers do not agree.
        runs: which server runs; None: no report could tell, they differ, or we have no lever for it.
        cmd_args: the `GUNICORN_CMD_ARGS` that the servers have; None: no report could tell, they differ, or they hold
            what is not taken from a report.
    """

    identity: Identity | None = None
    runs: Runs | None = None
    cmd_args: str | None = None


def look_at(reports: Iterable[Report]) -> Seen:
    """What the reports agree on."""
    known = [(report.server, report.sidecar) for report in reports if report.server is not None]
    identities = {(server.uid, server.gid) for server, _ in known}
    mistaken = any((server.uid, server.gid) != (sidecar.uid, sidecar.gid) for server, sidecar in known)
    kinds = {server.kind for server, _ in known}
    runs = next((kind for kind in RUNS if kinds == {kind}), None)
    texts = {server.cmd_args for server, _ in known if server.cmd_args is not None}
    identity = None
    if mistaken and len(identities) == 1:
        uid, gid = identities.pop()
        identity = Identity(uid=uid, gid=gid)
    told = texts.pop() if len(texts) == 1 else None
    return Seen(identity=identity, runs=runs, cmd_args=None if told is None or not_taken(told) is not None else told)
