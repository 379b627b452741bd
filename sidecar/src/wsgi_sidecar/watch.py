"""The loop, and the only place where the steps meet: look, gather, diagnose, decide, strike, account, publish.

In: the doors, and what may be done. Out: log lines, and a `Published` state for whoever asks. Rule: one look is one
straight line from the processes to the Report; what a look leaves for the next one is three values. Only the outermost
loop catches everything: a look that fails is logged and counted, and the next one comes.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from wsgi_contract.policy import Policy
from wsgi_contract.report import Kill, ProcessId, Unknown
from wsgi_sidecar import log
from wsgi_sidecar.changing import Changing
from wsgi_sidecar.core.account import Ledger, Step, account, account_failure
from wsgi_sidecar.core.adopted import passed_over
from wsgi_sidecar.core.asking import Asked, ended_gently
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.departures import Departure, Last, Marks, departures
from wsgi_sidecar.core.diagnosis import Memory, diagnose, lost, rule_of, suspects, wishes
from wsgi_sidecar.core.family import Family
from wsgi_sidecar.core.gathering import gather_any
from wsgi_sidecar.core.health import Vigil, examine
from wsgi_sidecar.core.lines import lines, server_lines
from wsgi_sidecar.core.oom import victims
from wsgi_sidecar.core.remedy import Decision, Order, Scene, decide, order, rehearsed
from wsgi_sidecar.core.rules.rule import Sight, about, terms
from wsgi_sidecar.core.served import undercounted
from wsgi_sidecar.core.snapshot import Closeup, Snapshot
from wsgi_sidecar.core.stacks import Stacks, render
from wsgi_sidecar.core.telling import Teller, View, tell
from wsgi_sidecar.core.unknowns import tell_doubt
from wsgi_sidecar.ends import Ends
from wsgi_sidecar.exchanges import ExchangeReader
from wsgi_sidecar.freezer import read_frozen
from wsgi_sidecar.hearing import Hearing
from wsgi_sidecar.kill import ask, strike
from wsgi_sidecar.metrics import Published
from wsgi_sidecar.orders import Orders, PolicyFile
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.rounds import Rounds
from wsgi_sidecar.server_files import ServerFiles
from wsgi_sidecar.server_words import ServerReader
from wsgi_sidecar.stacks import take_stacks
from wsgi_sidecar.waits import read_waits

SECOND_LOOK_S: Final = 0.1
"""How long after the look that decided on a kill another one sees whether its reason still stands: ten clock ticks of
CPU time, enough to tell .3 cores from none, and one period of a container's CPU quota."""
SETTLE_S: Final = 0.005
"""A look that shall settle a suspicion at a moment comes a little after it, never a hair before."""
CLOSEST_S: Final = 0.05
"""Least time between two looks, whatever asks for the next."""
STACK_BYTES: Final = 16 * 1024
"""A kill's stacks in the Report: some 200 frames."""
STUCK_LOOKS: Final = 5
STUCK_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the loop stands on.

    Attributes:
        teller: who tells the Report.
        reader: looks at processes and sockets.
        files: reads what a server was told to be.
        policy_file: what may be done.
        within: pid at or above the master; None looks for one everywhere.
        container: name of the server's container; None: nobody said.
        adopter: our own pid, if orphans of the server come to us; None otherwise.
        hearing: what the server says of its requests; None where nobody listens.
        grace_s: the pod's termination grace period; None where nobody said.
        changing: settings changed in place; None where nobody may order any.
    """

    teller: Teller
    reader: ProcReader
    files: ServerFiles
    policy_file: PolicyFile
    within: int | None
    adopter: int | None
    hearing: Hearing | None = None
    grace_s: float | None = None
    container: str | None = None
    changing: Changing | None = None


class Watch:
    """Looks again and again; holds what one look leaves for the next."""

    def __init__(self, ground: Ground, *, interval_s: float) -> None:
        """Nothing is read yet.

        Args:
            ground: the doors.
            interval_s: seconds between two looks.
        """
        self._ground = ground
        self._interval_s = interval_s
        self._rounds = Rounds(ground.reader)
        self._server = ServerReader(ground.files)
        self._ends = Ends()
        self._exchanges = ExchangeReader()
        self._leaving: tuple[Last, ...] = ()
        self._view: View | None = None
        self._memory = Memory()
        self._vigil = Vigil()
        self._ledger = Ledger()
        self._published: Published | None = None
        self._last_success = time.monotonic()
        self._last_failure = ""

    @property
    def latest(self) -> Published | None:
        """What the last look left; None before the first. Any thread may ask."""
        return self._published

    def stuck_s(self) -> float | None:
        """Seconds since the last successful look, if that is longer than it may be. Any thread may ask."""
        since_s = time.monotonic() - self._last_success
        return since_s if since_s > max(STUCK_S, STUCK_LOOKS * self._interval_s) else None

    def run(self, stop: threading.Event) -> None:
        """Look at a steady pace until told to stop; sooner where a look would settle a suspicion."""
        tick = due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            again_at = self._look_safely()
            now = time.monotonic()
            # After a pause (a kill, a starved machine) the missed looks are not made up for.
            tick += self._interval_s * max(1, -(-(now - tick) // self._interval_s))
            due = tick if again_at is None else max(now + CLOSEST_S, min(tick, again_at + SETTLE_S))

    def _look_safely(self) -> float | None:
        try:
            again_at = self.look()
        except Exception as error:  # the outermost loop: whatever fails, the next look comes
            self._fail(error)
            return None
        self._last_success = time.monotonic()
        self._last_failure = ""
        return again_at

    def _fail(self, error: Exception) -> None:
        self._ledger = account_failure(self._ledger)
        if self._published is not None:
            self._published = replace(self._published, ledger=self._ledger)
        if repr(error) != self._last_failure:
            self._last_failure = repr(error)
            log.LOGGER.log(logging.ERROR, "a look failed: %r", error, exc_info=error, extra={"event": "look-failed"})

    def look(self) -> float | None:
        """Take one look and do what it asks for.

        Returns:
            Monotonic time at which the next look would settle a suspicion; None where the usual pace will do.
        """
        ground, earlier = self._ground, self._view
        orders = ground.policy_file.read()
        afresh = self._rounds.wants_connections(time.monotonic())
        snapshot = ground.reader.look(ground.within, container=ground.container, afresh=afresh)
        before = earlier.family if earlier else None
        timeout_s = terms(None, earlier.settings).timeout_s if earlier else None
        family = self._gather(snapshot, before, timeout_s)
        view = self._view_of(snapshot, family, before, orders)
        if family is None:
            step = Step(
                at=snapshot.at,
                monotonic=snapshot.monotonic,
                took_s=time.monotonic() - snapshot.monotonic,
                diagnosis=lost(self._memory),
            )
        else:
            step = self._judge(family, view, snapshot.living)
        view, step = self._changed(view, step)
        self._conclude(view, step)
        # What a kill changed is told at once, not an interval later.
        return snapshot.monotonic if step.kills else step.diagnosis.again_at

    def _gather(self, snapshot: Snapshot, before: Family | None, timeout_s: float | None) -> Family | None:
        ground, hints = self._ground, self._server.hints
        whose = {"within": ground.within, "container": ground.container}
        around: dict[str, Any] = {**whose, "timeout_s": timeout_s, "adopter": ground.adopter}
        around["awaited"] = self._view is not None and self._view.family is None
        family = gather_any(snapshot, before, hints=hints, **around)
        # A uWSGI seen for the first time was told things without which its workers cannot be told.
        told = self._server.read(family).hints if family and family.kind == "uwsgi" else hints
        return family if told == hints else gather_any(snapshot, before, hints=told, **around)

    def _view_of(self, snapshot: Snapshot, family: Family | None, before: Family | None, orders: Orders) -> View:
        words = self._server.read(family)
        unknowns, settings = (*self._doubts(snapshot, family), *words.unknowns), words.settings
        if orders.trouble is not None:
            unknowns += (_bad_policy(orders.trouble),)
        around = None
        if family is not None:
            grace_s, its = self._ground.grace_s, terms(words.release, settings)
            around = self._rounds.go(family, its, settings, orders.policy, grace_s)
            unknowns += around.unknowns
        requests = self._ground.hearing.told(family) if self._ground.hearing else words.requests
        unknowns += undercounted(requests) if requests else ()
        same = before is not None and family is not None and before.master.id == family.master.id
        return View(
            at=snapshot.at,
            family=family,
            before=before if same else None,
            release=words.release,
            settings=settings,
            unknowns=unknowns,
            policy=orders.policy,
            cmd_args=words.cmd_args,
            requests=requests,
            around=around,
        )

    def _doubts(self, snapshot: Snapshot, family: Family | None) -> tuple[Unknown, ...]:
        if self._ground.within is not None:
            return ()
        others = passed_over(snapshot.processes, self._ground.container) if family is None else None
        return tell_doubt(family, others)

    def _judge(self, family: Family, view: View, living: frozenset[ProcessId]) -> Step:
        sight = Sight(
            family=family,
            before=view.before,
            terms=terms(view.release, view.settings),
            policy=view.policy,
            closeups={},
            around=view.around or Circumstances(),
            departed=self._departed(family, view),
            asked=living.intersection(self._ledger.asking),
        )
        sight = self._closer(sight)
        diagnosis = diagnose(sight, self._memory)
        past = self._ledger.deeds
        asked = {who: each.monotonic for who, each in self._ledger.asking.items()}
        scene = Scene(family=family, policy=view.policy, past=past, monotonic=family.monotonic, asked=asked)
        decisions = decide(diagnosis.open, scene)
        took_s = time.monotonic() - family.monotonic
        return Step(
            at=family.at,
            monotonic=family.monotonic,
            took_s=took_s,
            diagnosis=diagnosis,
            decisions=decisions,
            kills=self._carry_out(decisions, sight, living),
            departures=sight.departed,
            family=family,
            asked=_asked(decisions, family),
            living=living,
        )

    def _changed(self, view: View, step: Step) -> tuple[View, Step]:
        """Carry out what is ordered in place; after the kills, so that it meets the server as it is now."""
        if self._ground.changing is None:
            return view, step
        told = self._ground.changing.go(view.family, view.settings, view.at, uwsgi=self._server.uwsgi)
        if told.in_place.state == "Verifying" or told.ended is not None:
            self._server.forget()
        unknowns = view.unknowns if told.trouble is None else (*view.unknowns, _bad_order(told.trouble))
        return replace(view, in_place=told.in_place, unknowns=unknowns), replace(step, changed=told.ended)

    def _departed(self, family: Family, view: View) -> tuple[Departure, ...]:
        values = {setting.name: setting.value for setting in view.settings}
        workers, requests = values.get("workers"), values.get("max_requests")
        landed = (deed.kill for deed in self._ledger.deeds if deed.kill.outcome in ("killed", "survived"))
        struck = frozenset(kill.process for kill in landed) | self._ledger.asking.keys()
        ends = self._ends.look(worker.process.id for worker in family.workers)
        kills = view.around.oom_kills if view.around else 0
        marks = Marks(
            timeout_s=terms(view.release, view.settings).timeout_s,
            workers=workers if isinstance(workers, int) else None,
            max_requests=requests if isinstance(requests, int) else None,
            struck=struck,
            timed_out=self._server.timed_out,
            oom=victims(
                view.before,
                family,
                kills=kills,
                struck=struck,
                statuses={who: end.status for who, end in ends.items() if end.status is not None},
            ),
            ends=ends,
            reloaded_ticks=self._ground.changing.reloaded_ticks if self._ground.changing else None,
        )
        told, self._leaving = departures(view.before, family, marks, self._leaving)
        return told

    def _closer(self, sight: Sight) -> Sight:
        """The sight with what the rules asked to be looked at closely."""
        wished = wishes(sight, self._memory)
        return replace(
            sight,
            closeups=self._closeups(suspects(sight, self._memory), sight.family),
            waits={process: read_waits(process.pid) for process in sorted(wished.waits)},
            exchanges=self._exchanges.read(_ports(sight.family)) if wished.exchanges else None,
            frozen=read_frozen(sight.family.master.id.pid) if wished.freezer else None,
        )

    def _closeups(self, wanted: frozenset[ProcessId], family: Family) -> dict[ProcessId, Closeup]:
        taken = ((process, self._closeup(process, family)) for process in sorted(wanted))
        return {process: closeup for process, closeup in taken if closeup is not None}

    def _closeup(self, process: ProcessId, family: Family) -> Closeup | None:
        # Only a worker accepts connections; asking whose they are is most of what a closeup costs.
        listeners = (family.listeners or ()) if family.worker(process) else ()
        return self._ground.reader.closeup(process, listeners)

    def _carry_out(
        self, decisions: tuple[Decision, ...], sight: Sight, living: frozenset[ProcessId]
    ) -> tuple[Kill, ...]:
        kills = list(ended_gently(self._ledger.asking, living, sight.family, number=self._ledger.struck + 1))
        for decision in decisions:
            if decision.verb in ("wait", "ask"):
                continue
            what = order(decision, sight.family, number=self._ledger.struck + len(kills) + 1)
            stack = _stack(what, sight.policy)
            if decision.verb == "dry-run":
                kill = rehearsed(what, sight.family, at=time.time())
            else:
                kill = strike(what, self._second_look(decision, sight))
            kills.append(replace(kill, stack=stack))
        return tuple(kills)

    def _second_look(self, decision: Decision, sight: Sight) -> Callable[[], str | None]:
        fault = decision.case.fault
        first = sight.closeups.get(fault.process)

        def look_again() -> str | None:
            if first is None:
                return "it could not be looked at again"
            # Taking its stacks has used up some of that time, if not all.
            time.sleep(max(0.0, first.monotonic + SECOND_LOOK_S - time.monotonic()))
            second = self._closeup(fault.process, sight.family)
            if second is None:
                return "it could not be looked at again"
            if read_frozen(sight.family.master.id.pid):
                return "the server's cgroup is frozen, so nothing in it can move"
            if fault.connection is not None:
                second = replace(second, exchanges=self._exchanges.read(_ports(sight.family)))
            return rule_of(fault).doubt(about(fault, first), about(fault, second), sight.terms, sight.policy)

        return look_again

    def _conclude(self, view: View, step: Step) -> None:
        ledger = account(self._ledger, step)
        told = (*server_lines(self._view, view), *lines(self._ledger, ledger))
        try:
            self._publish(view, step, ledger)
        finally:
            # Behind it: whoever reads of an event finds it in the Report. And in any case: what was done is told.
            for line in told:
                log.write(line)
        self._view, self._memory, self._ledger = view, step.diagnosis.memory, ledger

    def _publish(self, view: View, step: Step, ledger: Ledger) -> None:
        self._vigil, health = examine(self._vigil, view.family, ledger.open.values(), view.policy, step.monotonic)
        self._published = Published(
            tell=lambda ledger: tell(view, ledger, self._ground.teller), ledger=ledger, health=health
        )


def _ports(family: Family) -> frozenset[int]:
    return frozenset(listener.port for listener in family.listeners or () if listener.port is not None)


def _asked(decisions: tuple[Decision, ...], family: Family) -> tuple[Asked, ...]:
    """Ask whom the decisions say; one that may not be asked is asked, too, so that the kill that follows tells why."""
    asked = [decision.case.fault for decision in decisions if decision.verb == "ask"]
    heard = {fault.process for fault in asked if ask(fault.process, fault.gently) != "gone"}
    return tuple(
        Asked(order=order(decision, family, number=0), at=time.time(), monotonic=family.monotonic)
        for decision in decisions
        if decision.verb == "ask" and decision.case.fault.process in heard
    )


def _stack(what: Order, policy: Policy) -> str | None:
    """Python stacks of whom the order is about, or why there are none; None where nobody wants them."""
    if not policy.stacks or what.target == "orphan":
        return None
    told = take_stacks(what.process)
    return render(told, STACK_BYTES) if isinstance(told, Stacks) else f"none: {told.why}; {told.remedy}"


def _bad_order(trouble: str) -> Unknown:
    return Unknown(what="order", why=trouble, remedy="mend it; until then the last good order holds")


def _bad_policy(trouble: str) -> Unknown:
    return Unknown(what="policy", why=trouble, remedy="mend it; until then the last good policy holds")
