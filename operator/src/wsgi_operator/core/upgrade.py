"""When a workload that is well gets a new sidecar: by policy, and never all workloads at once.

In: what one workload would get, the policy, who has the turn. Out: whether it may roll now, or why not. Rule: an
upgrade is a new template that nobody asked for in this WSGIServer and no pod has told us to make: another image by
default, or another operator's idea of the container. It waits for its turn, which one workload has at a time; a
workload whose roll does not end keeps the turn, so that a bad image stops at the first one.
"""

from dataclasses import dataclass
from typing import Final

from wsgi_operator.core.record import Record
from wsgi_operator.core.server import Server
from wsgi_operator.core.workload import Rollout

SILENT_FOR_S: Final = 600.0
"""How long pods that do not report after a roll keep the turn: a bad image is seen by then, and one team's
NetworkPolicy does not stop the fleet's upgrade."""


@dataclass(slots=True)
class Turn:
    """Which workload is being upgraded; in memory alone: after a restart one more may begin before the first is done.

    Attributes:
        uid: of its WSGIServer; None: none is.
        name: of its WSGIServer, for others to say whom they wait for.
        since: when it got the turn, Unix seconds.
    """

    uid: str | None = None
    name: str = ""
    since: float = 0.0

    def take(self, server: Server, now: float) -> bool:
        """Whether it is this one's turn, or becomes so."""
        if self.uid is None:
            self.uid, self.name, self.since = server.uid, f"{server.namespace}/{server.name}", now
        return self.uid == server.uid

    def settle(self, uid: str, rollout: Rollout, *, silent: bool, now: float) -> None:
        """Give the turn on once the roll is done and its pods report."""
        if rollout.done and (not silent or now - self.since > SILENT_FOR_S):
            self.give(uid)

    def give(self, uid: str) -> None:
        """Done, or gone."""
        if self.uid == uid:
            self.uid = None


def is_upgrade(before: Record | None, after: Record) -> bool:
    """Whether the template changes without anybody having asked for it here."""
    return before is not None and not after.news(before) and after.config != before.config


def left_behind(server: Server, record: Record) -> str | None:
    """Why the workload has another image than it would get if it were new; None: it has not, or that changes now."""
    return _by_hand(server) if server.sidecar.upgrade == "Manual" and record.image != server.sidecar.image else None


def _by_hand(server: Server) -> str:
    return (
        f"the sidecar {server.sidecar.image} waits for spec.sidecar.image to name it (spec.sidecar.upgrade is Manual)"
    )


def held_back(server: Server, rollout: Rollout, turn: Turn, now: float) -> str | None:
    """Why an upgrade does not begin now; None: it may, and has the turn."""
    new = f"the sidecar {server.sidecar.image}"
    if server.sidecar.upgrade == "Manual":
        return _by_hand(server)
    if server.sidecar.upgrade == "OnNextChange":
        return f"{new} comes with the next change of this WSGIServer's spec (spec.sidecar.upgrade is OnNextChange)"
    if not rollout.done:
        return f"{new} waits until the roll that is under way has ended: {rollout.message}"
    if not turn.take(server, now):
        return f"{new} waits its turn: WSGIServer {turn.name} is being upgraded"
    return None
