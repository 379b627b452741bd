"""Changing a running server's settings, as a story of looks a second apart."""

from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.in_place import InPlaceOrder
from wsgi_contract.settings import Setting, Wanted
from wsgi_sidecar.core.family import Family, Worker
from wsgi_sidecar.core.in_place import advance
from wsgi_sidecar.core.journal import Journal, dump_journal, parse_journal, taken_back
from wsgi_sidecar.core.ordering import Act, Change, Lever, Scene
from wsgi_sidecar.core.verifying import STEADY_S
from wsgi_sidecar.testing import AT, family, process, worker

FILE = Lever(means="config-file", settings=Wanted(workers=2))
SIGNALS = Lever(means="signals", obstacle="its command line names a config file")
ORDER = InPlaceOrder(id="a", settings=Wanted(workers=3, threads=2), within_s=20.0)


def one(number: int, *, born: int = 5000, state: str = "alive") -> Worker:
    who = process(100 + number, ppid=100, started=born)
    return worker(number, process=who, state=state)


def many(count: int, *, born: int = 5000, state: str = "alive", first: int = 1) -> tuple[Worker, ...]:
    return tuple(one(number, born=born, state=state) for number in range(first, first + count))


class Story:
    """One server and its sidecar; what is to be done is done, unless the test says otherwise."""

    def __init__(self, lever: Lever = FILE, order: InPlaceOrder | None = ORDER, **settings: int) -> None:
        self.lever, self.order = lever, order
        self.change, self.ticks = Change(), 10_000
        self._settings = {"workers": 2} | settings
        self.heard: dict[str, int] = {}

    def look(self, *workers: Worker, lost: bool = False, after_s: float = 1.0, **fields: Any) -> Act | None:
        self.ticks += int(after_s * 100)
        fields = {"workers": workers or many(2)} | fields
        seen: Family | None = None if lost else family(**fields)
        told = tuple(Setting(name=n, value=v, source="config-file") for n, v in self._settings.items())  # type: ignore[arg-type]
        scene = Scene(
            order=self.order,
            lever=None if lost else self.lever,
            family=seen,
            settings=told,
            at=AT + self.ticks / 100,
            ticks=self.ticks,
            heard=tuple(Setting(name=n, value=v, source="control-socket") for n, v in self.heard.items()),  # type: ignore[arg-type]
        )
        self.change, act = advance(self.change, scene)
        if act is not None:
            self.change = replace(self.change, journal=act.journal)
        return act

    @property
    def journal(self) -> Journal:
        assert self.change.journal is not None
        return self.change.journal

    def verbs(self, looks: int, *workers: Worker, **fields: Any) -> list[str | None]:
        acts = [self.look(*workers, **fields) for _ in range(looks)]
        return [act.verb for act in acts if act is not None]


def test_it_is_written_with_what_to_go_back_to_and_told_once() -> None:
    story = Story()
    act = story.look()
    assert act is not None
    assert (act.verb, act.journal.state) == ("reload", "Verifying")
    assert (act.journal.settings, act.journal.good) == (ORDER.settings, Wanted(workers=2))
    assert act.journal.before == (("workers", 2),), "threads could not be read"
    assert story.verbs(3) == []


def test_while_it_is_in_doubt_whose_server_it_is_an_order_under_way_waits() -> None:
    """It may be written and told by then; the next signal could go to another's."""
    story = Story(lever=SIGNALS, order=InPlaceOrder(id="a", settings=Wanted(workers=4), within_s=20.0))
    assert story.verbs(2) == ["more"]
    assert story.verbs(30, doubt="it may be another's") == []
    assert story.verbs(1, master=process(300), doubt="it may be another's") == []
    assert story.journal.state == "Verifying"


def test_it_is_applied_when_a_whole_new_generation_has_stayed() -> None:
    story = Story()
    story.look()
    young = many(3, born=story.ticks, first=11)
    assert story.verbs(int(STEADY_S), *many(2), *young) == []
    assert story.journal.state == "Verifying"
    assert story.verbs(1, *young) == [None]
    assert (story.journal.state, story.journal.good) == ("Applied", ORDER.settings)
    assert story.verbs(5, *young) == [], "and that is all"


def test_what_the_server_itself_says_otherwise_is_not_applied() -> None:
    story = Story()
    story.look()
    young = many(3, born=story.ticks, first=11)
    story.heard = {"workers": 3, "threads": 1, "timeout_s": 30}
    assert story.verbs(6, *young) == ["reload"]
    assert (story.journal.state, story.journal.settings) == ("RolledBack", Wanted(workers=2))
    assert "the server itself says threads 1" in story.journal.reason
    agreed = Story()
    agreed.look()
    agreed.heard = {"workers": 3, "threads": 2}
    assert agreed.verbs(6, *many(3, born=agreed.ticks, first=11)) == [None]
    assert agreed.journal.state == "Applied"


@pytest.mark.parametrize("state", ["booting", "overdue"])
def test_workers_that_do_not_come_up_are_taken_back_and_that_is_verified_too(state: str) -> None:
    story = Story()
    story.look()
    bad = many(3, born=story.ticks, first=11, state=state)
    assert story.verbs(27, *bad) == ["reload"]
    assert (story.journal.state, story.journal.settings) == ("RolledBack", Wanted(workers=2))
    assert "0 of 3 workers were up after 20 s" in story.journal.reason
    good = many(2, born=story.ticks, first=21)
    assert story.verbs(6, *good) == [None]
    assert (story.journal.state, story.journal.settled) == ("RolledBack", True)
    assert "the workers are up with them" in story.journal.reason
    assert story.verbs(5, *good) == [], "an order is carried out once"


def test_old_workers_that_serve_on_prove_nothing() -> None:
    story = Story()
    story.look()
    assert story.verbs(27, *many(3)) == ["reload"]
    assert story.journal.state == "RolledBack"


def test_workers_that_come_up_and_die_again_are_not_up() -> None:
    story = Story()
    story.look()
    for number in range(9):
        story.look(*many(3, born=story.ticks, first=11 + 3 * number), after_s=2.0)
        story.look(*many(3, born=story.ticks, first=11 + 3 * number, state="booting"))
    assert story.journal.state == "RolledBack"


def test_max_requests_may_replace_one_meanwhile() -> None:
    story = Story(max_requests=100)
    story.look()
    for number in range(8):
        story.look(*many(2, born=story.ticks, first=11), one(20 + number, born=story.ticks, state="booting"))
        story.look(*many(3, born=story.ticks, first=11))
    assert story.journal.state == "Applied"


def test_a_server_that_does_not_come_up_with_the_last_good_settings_either_is_told_as_failed() -> None:
    story = Story()
    story.look()
    assert story.verbs(60, *many(1, born=story.ticks, first=11, state="booting")) == ["reload", None]
    assert (story.journal.state, story.journal.settled) == ("Failed", True)


def test_a_server_that_ends_under_it_starts_again_with_the_last_good_settings() -> None:
    story = Story()
    story.look()
    act = story.look(lost=True)
    assert act is not None
    assert (act.verb, act.journal.state, act.journal.settings) == (None, "RolledBack", Wanted(workers=2))
    assert "the server ended under it" in act.journal.reason
    assert story.verbs(3, lost=True) == []
    heir = {"master": process(900, started=story.ticks + 50)}
    fresh = many(2, born=story.ticks + 60, first=31)
    assert story.verbs(1, *fresh, **heir) == [None], "it read them at its start: nobody tells it"
    assert story.verbs(7, *fresh, **heir) == [None]
    assert (story.journal.state, story.journal.settled) == ("RolledBack", True)


def test_a_server_that_was_quicker_than_our_pen_is_told_to_read_again() -> None:
    story = Story()
    story.look()
    heir = {"master": process(900, started=story.ticks + 10)}
    act = story.look(*many(3, born=story.ticks + 20, first=31), after_s=2.0, **heir)
    assert act is not None
    assert (act.verb, act.journal.state) == ("reload", "RolledBack")
    assert act.journal.master == process(900, started=act.journal.told_ticks - 190).id


def test_a_new_server_that_was_quicker_is_told_only_once_a_worker_of_it_beats() -> None:
    story = Story()
    story.look()
    started, heir = story.ticks + 10, {"master": process(900, started=story.ticks + 10)}
    act = story.look(**heir, workers=())
    assert act is not None
    assert (act.verb, act.journal.state, act.journal.settings) == (None, "RolledBack", Wanted(workers=2))
    assert story.verbs(3, **heir, workers=()) == []
    assert story.verbs(3, *many(3, born=started + 400, first=31, state="booting"), **heir) == []
    assert story.verbs(2, *many(3, born=started + 400, first=31), **heir) == ["reload"]
    assert story.journal.master == heir["master"].id


def test_a_new_server_whose_workers_never_beat_is_told_after_the_time_they_had() -> None:
    story = Story()
    story.look()
    heir = {"master": process(900, started=story.ticks + 10)}
    booting = many(3, born=story.ticks + 20, first=31, state="booting")
    assert story.verbs(25, *booting, **heir) == [None]
    assert story.verbs(2, *booting, **heir) == ["reload"]


def test_a_restarted_sidecar_goes_on_where_the_last_one_was() -> None:
    story = Story()
    story.look()
    heir = Story()
    heir.ticks, heir.change = story.ticks, Change(journal=parse_journal(dump_journal(story.journal)))
    assert heir.journal == story.journal
    assert heir.verbs(27, *many(2)) == ["reload"]
    assert heir.journal.state == "RolledBack"


def test_before_a_server_is_started_an_unverified_change_is_taken_back() -> None:
    story = Story()
    story.look()
    back = taken_back(story.journal)
    assert (back.state, back.settings) == ("RolledBack", Wanted(workers=2))


def test_the_next_order_waits_for_the_end_of_this_one() -> None:
    story = Story()
    story.look()
    young = many(3, born=story.ticks, first=11)
    story.order = InPlaceOrder(id="b", settings=Wanted(workers=4))
    assert story.verbs(6, *young) == [None]
    assert (story.journal.order, story.journal.state) == ("a", "Applied")
    story.lever = replace(FILE, settings=ORDER.settings)
    act = story.look(*young)
    assert act is not None
    assert (act.verb, act.journal.order, act.journal.good) == ("reload", "b", ORDER.settings)


def test_an_order_waits_until_the_server_is_up() -> None:
    story = Story()
    assert story.verbs(3, lost=True) == []
    assert story.verbs(3, *many(2, state="booting")) == []
    assert story.verbs(1) == ["reload"]


def test_what_a_change_that_was_taken_back_left_hanging_holds_up_no_order() -> None:
    story = Story()
    hung = many(5, born=9000, first=31, state="booting")
    assert story.verbs(3, one(1), *hung) == [], "one of two is up"
    assert story.verbs(1, *many(2), *hung) == ["reload"]


def test_what_is_in_force_already_is_not_told() -> None:
    story = Story(replace(FILE, settings=ORDER.settings))
    act = story.look()
    assert act is not None
    assert (act.verb, act.journal.state) == (None, "Applied")


@pytest.mark.parametrize(
    ("lever", "words"),
    [
        (Lever(means="none", obstacle="hypercorn is watched only"), "watched only"),
        (replace(FILE, fixed={"workers": "-w 2"}), "workers is given by -w 2"),
        (SIGNALS, "only the number of workers can be changed here, not threads: its command line names"),
    ],
)
def test_what_cannot_be_carried_out_whole_is_refused_whole(lever: Lever, words: str) -> None:
    story = Story(lever)
    act = story.look()
    assert act is not None
    assert (act.verb, act.journal.state, act.journal.settings) == (None, "Refused", lever.settings)
    assert words in act.journal.reason
    assert story.verbs(3) == []


def test_a_stronger_word_that_says_the_same_is_no_obstacle() -> None:
    story = Story(replace(FILE, fixed={"workers": "-w 3"}), workers=3)
    assert story.verbs(1) == ["reload"]


MORE = InPlaceOrder(id="a", settings=Wanted(workers=4), within_s=20.0)


def test_by_signals_the_workers_become_more_one_by_one() -> None:
    story = Story(SIGNALS, MORE)
    assert story.verbs(2) == ["more"]
    assert story.verbs(5) == [], "two at once may count as one"
    assert story.verbs(1, *many(3)) == ["more"]
    assert story.verbs(1, *many(4, state="booting")) == []
    assert story.verbs(6, *many(4)) == [None]
    assert (story.journal.state, story.journal.before) == ("Applied", (("workers", 2),))


def test_a_signal_that_nothing_came_of_is_sent_again() -> None:
    story = Story(SIGNALS, MORE)
    assert story.verbs(11) == ["more"]
    assert story.verbs(2) == ["more"]


def test_what_the_server_was_set_to_says_nothing_of_signals() -> None:
    story = Story(SIGNALS, MORE)
    story.look()
    story.heard = {"workers": 2}
    assert story.verbs(7, *many(4)) == [None]
    assert story.journal.state == "Applied"


def test_by_signals_the_workers_become_fewer() -> None:
    story = Story(SIGNALS, replace(MORE, settings=Wanted(workers=1)))
    assert story.verbs(2) == ["fewer"]
    assert story.verbs(7, one(1)) == [None]
    assert story.journal.state == "Applied"


def test_what_signals_did_goes_with_the_server_and_is_done_again() -> None:
    story = Story(SIGNALS, MORE)
    story.look()
    story.verbs(7, *many(4))
    assert story.journal.state == "Applied"
    heir = {"master": process(900, started=story.ticks)}
    assert story.verbs(2, *many(2), **heir) == ["more"]


def test_a_server_that_ends_while_workers_are_added_is_not_pushed_again() -> None:
    story = Story(SIGNALS, MORE)
    story.look()
    heir = {"master": process(900, started=story.ticks)}
    assert story.verbs(5, *many(2), **heir) == [None]
    assert story.journal.state == "Failed"


def test_a_worker_more_that_never_comes_up_is_told_and_nobody_is_ended_for_it() -> None:
    story = Story(SIGNALS, replace(MORE, settings=Wanted(workers=3)))
    story.look()
    assert story.verbs(27, *many(2), one(3, state="booting")) == [None]
    assert story.journal.state == "Failed"
    assert "would end one that serves" in story.journal.reason


@pytest.mark.parametrize("text", ["", "{", "[]", '{"order": "a"}', "null", "[" * 100_000])
def test_a_spoilt_journal_is_none(text: str) -> None:
    assert parse_journal(text) is None
