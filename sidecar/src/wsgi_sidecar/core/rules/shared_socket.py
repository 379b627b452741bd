"""Workers that use one connection together and read each other's answers (gunicorn #3206).

In: the shared connections of a look. Out: a fault once two living processes were seen using the same one. Rule: a
connection that was inherited and that nobody uses, or only one process, is a risk and not an incident: an application
that reconnects after the fork (SQLAlchemy's dispose(close=False)) keeps the inherited descriptor open for ever. The
lint tells the risk. That bytes moved is no proof either: they may all be one process's.

Once proven, a connection is remembered by its inode for as long as it is shared: a worker that dies takes its proof
along, and the next one inherits the connection and uses it as the dead one did. A look that has nothing to compare (no
worker lives, or one's files could not be read) changes nothing.

Nothing is killed: a restart brings the same state back.
"""

from dataclasses import dataclass
from typing import Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Evidence, ProcessId, SharedSocket
from wsgi_sidecar.core.rules.rule import Fault, Rule, Sight, Terms, Verdict
from wsgi_sidecar.core.snapshot import Closeup

FIX: Final = (
    "a kill would bring the same back: connect in each worker (post_fork: engine.dispose(close=False) with "
    "SQLAlchemy, connections.close_all() with Django, or reconnect) or switch preload_app off"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the last look that could compare had found.

    Attributes:
        inodes: of shared connections that several processes were seen using, at that look or before.
        fault: that it told.
    """

    inodes: frozenset[int] = frozenset()
    fault: Fault | None = None


def suspects(sight: Sight, memory: Proof) -> frozenset[ProcessId]:
    """None: the round found them already."""
    return frozenset()


def judge(sight: Sight, memory: Proof) -> Verdict:
    """One fault for the server, whatever the number of connections."""
    shared, told = sight.around.shared, memory.fault
    if (shared is None or not sight.family.workers) and told and told.process == sight.family.master.id:
        return Verdict(faults=(told,), memory=memory)
    used = tuple(each for each in shared or () if len(each.users) > 1 or each.inode in memory.inodes)
    fault = _fault(used, sight) if used else None
    proof = Proof(inodes=frozenset(each.inode for each in used if each.inode is not None), fault=fault)
    return Verdict(faults=(fault,) if fault else (), memory=proof)


def _fault(used: tuple[SharedSocket, ...], sight: Sight) -> Fault:
    first = max(used, key=lambda each: len(each.users))
    slots = {worker.process.id: worker.slot for worker in sight.family.workers}
    users = [_name(user, slots) for user in first.users]
    seen = ", ".join(users) if len(users) > 1 else " and ".join((*users, "processes that hold it no more"))
    more = f" (and {len(used) - 1} more connections)" if len(used) > 1 else ""
    return Fault(
        kind="shared-socket",
        process=sight.family.master.id,
        slot=None,
        since=sight.family.at,
        summary=(
            f"{len(first.holders)} processes of the server hold one connection to {_peer(first)}{more}, opened before "
            f"the workers were forked, and {seen} were seen using it: each may read the other's answer, which is "
            f"wrong data without an error (gunicorn #3206)"
        ),
        evidence=(
            Evidence(name="peer", value=_peer(first)),
            Evidence(name="connections", value=len(used), unit="connections"),
            Evidence(name="holders", value=len(first.holders), unit="processes"),
            Evidence(name="users among them", value=len(first.users), unit="processes"),
        ),
        target=None,
        spare=FIX,
    )


def _peer(shared: SharedSocket) -> str:
    return f"{shared.peer} ({shared.service})" if shared.service else shared.peer


def _name(process: ProcessId, slots: dict[ProcessId, int]) -> str:
    slot = slots.get(process)
    return f"the master (pid {process.pid})" if slot is None else f"worker {slot} (pid {process.pid})"


def doubt(earlier: Closeup, later: Closeup, terms: Terms, policy: Policy) -> str | None:
    """Never asked: nothing is killed."""
    return "a shared connection is never mended by a kill"


RULE: Final = Rule(kind="shared-socket", target=None, blank=Proof(), suspects=suspects, judge=judge, doubt=doubt)
