"""What goes to the log: one line per thing that happened, for a person at night.

In: the ledger and the view before and after one look. Out: `Line`s. Rule: a line is written when something begins,
ends, or is decided anew; a state that lasts writes nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

from wsgi_contract.in_place import Named
from wsgi_contract.report import Incident, Kill
from wsgi_sidecar.core.account import Ledger, told
from wsgi_sidecar.core.telling import View

Level = Literal["info", "warning", "error"]

LOGGED_STACKS: Final = 16
"""Threads of a killed process whose stacks are logged; the Report has more."""
SETTLING_S: Final = 3.0
"""A server that was just started does not listen yet: what is unknown of it now need not wake anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the log.

    Attributes:
        event: a word that does not change, to search and count by.
        message: for a person.
        level: how much it matters.
        fields: the same as values, for a machine.
    """

    event: str
    message: str
    level: Level = "info"
    fields: Mapping[str, object] = field(default_factory=dict)


def lines(before: Ledger, after: Ledger) -> tuple[Line, ...]:
    """The lines of one look's incidents and kills, in the order in which things happen."""
    return (*_incidents(before, after), *_kills(before, after), *_ends(before, after))


def _incidents(before: Ledger, after: Ledger) -> Iterator[Line]:
    for incident in after.open.values():
        known = before.open.get(incident.id)
        if known is None or known.action != incident.action:
            yield _incident(incident)


def _kills(before: Ledger, after: Ledger) -> Iterator[Line]:
    for deed in after.deeds:
        if int(deed.kill.id.rpartition("-")[2]) > before.struck:
            yield _kill(deed.kill)
            yield from _stacks(deed.kill)


def _ends(before: Ledger, after: Ledger) -> Iterator[Line]:
    for incident in after.ended:
        if incident.id in before.open:
            lasted = (incident.ended_at or incident.since) - incident.since
            yield Line(
                event="incident-ended",
                message=f"{incident.kind}{_where(incident.slot)} ended after {lasted:.1f} s: {incident.outcome}",
                fields={"id": incident.id, "kind": incident.kind, "slot": incident.slot, "outcome": incident.outcome},
            )


def _incident(incident: Incident) -> Line:
    return Line(
        event="incident",
        message=f"{incident.kind}: {incident.summary}. What is done: {incident.action}",
        level="warning",
        fields={
            "id": incident.id,
            "kind": incident.kind,
            "slot": incident.slot,
            "pid": incident.process.pid if incident.process else None,
            "since": incident.since,
            "action": incident.action,
            "evidence": {e.name: f"{e.value} {e.unit}".strip() if e.unit else e.value for e in incident.evidence},
        },
    )


def _kill(kill: Kill) -> Line:
    fields = asdict(kill)
    return Line(
        event="kill",
        message=f"{kill.outcome}: {kill.target}{_where(kill.slot)} (pid {kill.process.pid}) for {kill.reason}: "
        f"{told(kill)}",
        level="error" if kill.outcome in ("survived", "refused") else "warning",
        # `message` is the line's own; the kill's is the reason.
        fields={name: fields[name] for name in fields if name not in ("message", "stack")}
        | {"pid": kill.process.pid, "why": kill.message},
    )


def _stacks(kill: Kill) -> Iterator[Line]:
    """One line for each thread: what it was at right before the first signal, innermost function first."""
    threads = re.split(r"\n(?! )", kill.stack) if kill.stack else []
    for thread in threads[:LOGGED_STACKS]:
        head, *frames = (part.strip() for part in thread.split("\n"))
        stack = f"{head}: {' < '.join(frames)}" if frames else head
        yield Line(
            event="stack",
            message=f"python stack of {kill.target}{_where(kill.slot)} (pid {kill.process.pid}), {stack}",
            fields={"id": kill.id, "pid": kill.process.pid, "stack": stack},
        )


def _where(slot: int | None) -> str:
    return "" if slot is None else f" in slot {slot}"


def server_lines(before: View | None, now: View) -> tuple[Line, ...]:
    """The lines about the server itself, what cannot be seen of it, and what was changed in it."""
    return (*_server(before, now), *_unknowns(before, now), *_findings(before, now), *_in_place(before, now))


def _server(before: View | None, now: View) -> Iterator[Line]:
    then = before.family.master.id if before and before.family else None
    master = now.family.master if now.family else None
    if then is not None and (master is None or master.id != then):
        yield Line(event="server-lost", message=f"the server (pid {then.pid}) has ended", fields={"pid": then.pid})
    if now.family is not None and master is not None and master.id != then:
        what = f"{now.family.kind} {now.release or 'of unknown release'}"
        yield Line(
            event="server-found",
            message=f"watching {what}, master pid {master.id.pid}, {_workers(len(now.family.workers))}",
            fields={"kind": now.family.kind, "release": now.release, "pid": master.id.pid},
        )


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


def _unknowns(before: View | None, now: View) -> Iterator[Line]:
    known = before.unknowns if before and _settled(before) else ()
    for unknown in now.unknowns if _settled(now) else ():
        if unknown not in known:
            yield Line(
                event="unknown",
                message=f"{unknown.what} unknown: {unknown.why}; {unknown.remedy}",
                level="warning",
                fields=asdict(unknown),
            )


def _findings(before: View | None, now: View) -> Iterator[Line]:
    known = {finding.id for finding in before.around.findings} if before and before.around else set()
    for finding in now.around.findings if now.around else ():
        if finding.id not in known:
            yield Line(
                event="finding",
                message=f"{finding.id}: {finding.what}; {finding.why}. To mend it: {finding.fix} ({finding.link})",
                level="warning",
                fields=asdict(finding),
            )


def _in_place(before: View | None, now: View) -> Iterator[Line]:
    """One line when an order is taken up, and one for each thing that comes of it."""
    told, then = now.in_place, before.in_place if before else None
    if told is None or told.order is None:
        return
    if then is not None and (then.order, then.state, then.reason) == (told.order, told.state, told.reason):
        return
    yield Line(
        event="in-place",
        message=f"order {told.order} ({_named(told.ordered)}): {told.state}: {told.reason}",
        level="info" if told.state in ("Verifying", "Applied") else "warning",
        fields={
            "order": told.order, "state": told.state, "means": told.means, "ordered": dict(told.ordered),
            "before": dict(told.before), "after": dict(told.after), "why": told.reason,
        },
    )  # fmt: skip


def _named(settings: Named) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings) or "all back to its owner"


def _settled(view: View) -> bool:
    """Whether the server, if there is one, has had time to open its sockets and write what can be read of it."""
    return view.family is None or view.at - view.family.master.started_at >= SETTLING_S
