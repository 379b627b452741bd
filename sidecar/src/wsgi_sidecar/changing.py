"""Settings changed in place: an order read, carried out, and told, one step at each look.

In: the family and the settings of a look. Out: the contract's `InPlace`. Rule: what `core/in_place` decides is carried
out here: written, read back, and only then is the server told, by one signal through a pidfd. What cannot be written or
told is refused, and what stood there before stands there again.
"""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wsgi_contract.in_place import InPlace, InPlaceOrder, State
from wsgi_contract.servers.uwsgi_options import Sources
from wsgi_contract.settings import Setting
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.in_place import advance
from wsgi_sidecar.core.journal import Journal
from wsgi_sidecar.core.ordering import Act, Change, Lever, Scene, Verb, in_force
from wsgi_sidecar.kill import send
from wsgi_sidecar.levers import Live, WriteError, gunicorn_lever, read_journal, uwsgi_lever, write_journal
from wsgi_sidecar.orders import OrderFile
from wsgi_sidecar.server_files import ServerFiles
from wsgi_sidecar.server_words import heard_settings

HERTZ: Final = os.sysconf("SC_CLK_TCK")
SIGNALS: Final[Mapping[Verb, signal.Signals]] = {
    "reload": signal.SIGHUP,
    "more": signal.SIGTTIN,
    "fewer": signal.SIGTTOU,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one look brought.

    Attributes:
        in_place: for the Report.
        ended: how an order ended at this look; None where none did.
        trouble: why the order file was not followed; None where it was.
    """

    in_place: InPlace
    ended: State | None = None
    trouble: str | None = None


class Changing:
    """Follows the orders for one server. Not thread-safe."""

    def __init__(self, orders: OrderFile, folder: Path | None, files: ServerFiles) -> None:
        """Take up what an earlier sidecar left.

        Args:
            orders: where they come from.
            folder: where the file is written that the server reads; None where there is none.
            files: what the server was told to be.
        """
        self._orders = orders
        self._folder = folder
        self._files = files
        self._change = Change(journal=read_journal(folder) if folder else None)
        left = self._change.journal
        self._reloaded_ticks = left.told_ticks if left is not None and not left.settled else None

    @property
    def reloaded_ticks(self) -> int | None:
        """When the server was last told to reload; None where it never was."""
        return self._reloaded_ticks

    def go(
        self, family: Family | None, settings: tuple[Setting, ...], at: float, *, uwsgi: Sources | None = None
    ) -> Told:
        """One step.

        Args:
            family: None where there is no server.
            settings: in force.
            at: wall clock.
            uwsgi: all that a uWSGI was told.
        """
        order, trouble = self._orders.read()
        lever, live = self._lever(family, settings, uwsgi)
        before = self._change.journal
        scene = Scene(
            order=order,
            lever=lever,
            family=family,
            settings=settings,
            at=at,
            ticks=now_ticks(),
            hertz=HERTZ,
            heard=self._heard(family) if before is not None and before.state == "Verifying" else (),
        )
        self._change, act = advance(self._change, scene)
        if act is not None:
            self._change = replace(self._change, journal=self._carry_out(act, scene, live))
        after = self._change.journal
        return Told(in_place=_told(after, scene, order), ended=_ended(before, after), trouble=trouble)

    def _lever(
        self, family: Family | None, settings: tuple[Setting, ...], uwsgi: Sources | None
    ) -> tuple[Lever | None, Live | None]:
        if family is None:
            return None, None
        if family.doubt is not None:
            return Lever(means="none", obstacle=family.doubt), None
        if family.kind == "gunicorn":
            return gunicorn_lever(family, self._files.read(family.master), settings, self._folder)
        if family.kind == "uwsgi":
            return uwsgi_lever(family, uwsgi, self._folder)
        return Lever(means="none", obstacle=family.untouchable), None

    def _heard(self, family: Family | None) -> tuple[Setting, ...]:
        """What the server says of itself, once all its workers are up: an answer costs it 2 ms."""
        if family is None or family.kind != "gunicorn" or self._change.steady_since is None:
            return ()
        return heard_settings(family.master.id.pid, self._files.read(family.master))

    def _carry_out(self, act: Act, scene: Scene, live: Live | None) -> Journal:
        family = scene.family
        journal = act.journal if act.verb != "reload" else replace(act.journal, told_ticks=now_ticks())
        try:
            if act.verb == "reload" and live is None:
                raise WriteError("the server reads no file of ours, so it is not told to reload")
            self._write(journal, family, live)
            if act.verb is not None and family is not None:
                if scene.lever is None or not scene.lever.reloads_by_itself:
                    _tell(act.verb, family)
                self._reloaded_ticks = journal.told_ticks if act.verb == "reload" else self._reloaded_ticks
        except WriteError as error:
            return self._undone(journal, str(error)) if act.verb is not None else journal
        return journal

    def _write(self, journal: Journal, family: Family | None, live: Live | None) -> None:
        if journal.means != "config-file" or self._folder is None:
            return
        if family is not None and live is not None:
            live.write(journal, family.master)
        else:
            write_journal(self._folder, journal)

    def _undone(self, journal: Journal, why: str) -> Journal:
        """Nobody was told: what the server reads at its next start must be what it came up with."""
        state: State = "Refused" if journal.state == "Verifying" else "Failed"
        undone = journal.now(state, why, at=journal.since, settings=journal.good, settled=True)
        with suppress(WriteError):
            self._write(undone, None, None)
        return undone


def now_ticks() -> int:
    """The moment as `ProcessId.started` counts it."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * HERTZ)


def _tell(verb: Verb, family: Family) -> None:
    number = SIGNALS[verb]
    sent = send(family.master.id, number)
    if sent != "sent":
        raise WriteError(f"{number.name} could not be sent to the server (pid {family.master.id.pid}): {sent}")


def _ended(before: Journal | None, after: Journal | None) -> State | None:
    if after is None or after.state == "Verifying":
        return None
    same = before is not None and (before.order, before.state) == (after.order, after.state)
    return None if same else after.state


def _told(journal: Journal | None, scene: Scene, order: InPlaceOrder | None) -> InPlace:
    lever = scene.lever
    means, obstacle = (lever.means, lever.obstacle) if lever else ("none", "there is no server")
    if journal is None:
        reason = "nothing was ordered" if order is None else "the order waits until the server is up"
        return InPlace(means=means, obstacle=obstacle, reason=reason)
    return InPlace(
        means=means,
        obstacle=obstacle,
        order=journal.order,
        ordered=journal.ordered.items(),
        state=journal.state,
        reason=journal.reason,
        before=journal.before,
        after=in_force(journal.ordered, scene),
        since=journal.since,
    )
