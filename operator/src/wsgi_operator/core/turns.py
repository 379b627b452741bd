"""How many workloads we roll at once, and who has to wait.

In: who asks to begin, what the workloads' own records tell. Out: None (begin), or why not yet. Rule: the records are
the truth; this is only their count. It is filled from them before the first round after a start, so a restart begins
nothing that would be one too many.

A new sidecar, which nobody asked for in a WSGIServer, goes to one workload after the other, within that number: a bad
image stops at the first one, also after that one was rolled back.
"""

from dataclasses import dataclass, field
from typing import Final

from wsgi_operator.core.record import Record
from wsgi_operator.core.server import Server

UNLOOKED_S: Final = 60.0
"""Seconds after our start for which a roll counts that only a workload's record tells of. By then whoever follows it
has looked and speaks for itself; what is left belongs to no WSGIServer that we serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seat:
    """Somebody who rolls: the name, for others to say whom they wait for, and whether it is an upgrade."""

    name: str
    upgrade: bool


@dataclass(slots=True, kw_only=True)
class Turns:
    """Who rolls.

    Attributes:
        at_once: how many may.
    """

    at_once: int = 1
    _seats: dict[str, _Seat] = field(default_factory=dict)
    _stopped: dict[str, tuple[str, str]] = field(default_factory=dict)
    _told: dict[str, _Seat] = field(default_factory=dict)
    _looked: set[str] = field(default_factory=set)
    _waiting: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _since: float | None = None

    def told(self, record: Record, name: str) -> None:
        """What a workload's record says, before anybody has looked at it closely."""
        if record.server in self._looked or record.roll is None:
            return
        if record.undone is not None and record.undone.kind == "upgrade":
            self._stopped[record.server] = (name, str(record.undone.wish.sidecar.get("image")))
        if record.roll.open:
            self._told[record.server] = _Seat(name=name, upgrade=record.roll.kind == "upgrade")

    def take(self, server: Server, now: float, *, upgrade: bool = False) -> str | None:
        """Begin, unless it has to wait: then why."""
        others = self._others(server.uid, now)
        if upgrade and (why := self._stopping(server, others)) is not None:
            return why
        if server.uid not in self._seats and len(others) >= self.at_once:
            self._waiting.setdefault(server.uid, (server.namespace, server.kind, server.workload))
            return f"waits its turn: as many workloads as may roll at once ({self.at_once}) roll already"
        self.hold(server, upgrade=upgrade)
        return None

    def hold(self, server: Server, *, upgrade: bool) -> None:
        """It rolls, whoever began that."""
        self._look(server.uid)
        self._waiting.pop(server.uid, None)
        self._seats[server.uid] = _Seat(name=f"{server.namespace}/{server.name}", upgrade=upgrade)

    def give(self, uid: str) -> tuple[str, str, str] | None:
        """Done, or gone; whose bell to ring then: the one that waits longest."""
        self._look(uid)
        if self._seats.pop(uid, None) is None or not self._waiting:
            return None
        return self._waiting.pop(next(iter(self._waiting)))

    def stop(self, server: Server, image: str | None) -> None:
        """Its upgrade to this image was undone, so the others do not try; None: that is over."""
        if image is None:
            self._stopped.pop(server.uid, None)
        else:
            self._stopped[server.uid] = (f"{server.namespace}/{server.name}", image)

    def forget(self, uid: str) -> tuple[str, str, str] | None:
        """This WSGIServer is gone; whose bell to ring then."""
        self._stopped.pop(uid, None)
        self._waiting.pop(uid, None)
        rung = self.give(uid)
        self._looked.discard(uid)
        return rung

    def _look(self, uid: str) -> None:
        self._looked.add(uid)
        self._told.pop(uid, None)

    def _others(self, uid: str, now: float) -> list[_Seat]:
        self._since = now if self._since is None else self._since
        if now - self._since > UNLOOKED_S:
            self._told.clear()
            self._stopped = {uid: stopped for uid, stopped in self._stopped.items() if uid in self._looked}
        return [seat for other, seat in (self._told | self._seats).items() if other != uid]

    def _stopping(self, server: Server, others: list[_Seat]) -> str | None:
        failed = [name for name, image in self._stopped.values() if image == server.sidecar.image]
        if failed:
            return (
                f"waits because WSGIServer {failed[0]} was rolled back from it: mend what its Stalled condition says, "
                "or have this one name the image in spec.sidecar.image"
            )
        upgraded = next((seat.name for seat in others if seat.upgrade), None)
        return None if upgraded is None else f"waits its turn: WSGIServer {upgraded} is being upgraded"
