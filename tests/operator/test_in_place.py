"""A change in place over all pods of a workload, as a story of rounds; the pods do what sidecars do."""

from dataclasses import replace
from typing import Any

import pytest

from wsgi_contract.in_place import InPlace, InPlaceOrder, State
from wsgi_operator.core.in_place import Next, Seat, Wish, follow
from wsgi_operator.core.standing import Standing, dump_standing, standing_of

IDLE = InPlace(means="config-file")
WISH = Wish(server="u1", generation=2, settings={"workers": 4}, template={"workers": 2})


class Story:
    """Rounds over a workload with some pods."""

    def __init__(self, pods: int = 3, wish: Wish = WISH) -> None:
        self.wish, self.standing = wish, None
        self.seats = [Seat(name=f"pod-{n}", uid=f"p{n}", order=None, told=IDLE) for n in range(pods)]
        self._orders: dict[str, InPlaceOrder] = {}
        self.standing: Standing | None = None

    def round(self) -> Next:
        """One round; what it orders is on the pods afterwards, and no sidecar has answered yet."""
        step = follow(self.wish, self.standing, self.seats, now=100.0)
        self.standing = step.standing
        for seat, order in step.orders:
            self._orders[order.id] = order
            self._set(seat.name, order=order.id)
        return step

    def answer(self, name: str, state: State = "Applied", **fields: Any) -> None:
        """The pod's sidecar is through with its order."""
        order = next(seat.order for seat in self.seats if seat.name == name)
        self._set(name, told=replace(IDLE, order=order, state=state, reason="so it is", **fields))

    def _set(self, name: str, **fields: Any) -> None:
        self.seats = [replace(seat, **fields) if seat.name == name else seat for seat in self.seats]

    def ordered(self) -> list[str]:
        return [seat.name for seat, _ in self.round().orders]

    @property
    def phase(self) -> str | None:
        return self.standing.phase if self.standing else None


def changed(pods: int = 3) -> Story:
    story = Story(pods)
    for _ in range(2 * pods):
        for name in story.ordered():
            story.answer(name)
    assert story.phase == "Applied"
    return story


def test_one_pod_first_then_the_others_a_few_at_a_time() -> None:
    story = Story(9)
    step = story.round()
    assert [seat.name for seat, _ in step.orders] == ["pod-0"]
    assert step.orders[0][1].settings.items() == (("workers", 4),)
    assert story.ordered() == [], "the canary has not answered yet"
    story.answer("pod-0", "Verifying")
    assert story.ordered() == []
    story.answer("pod-0")
    assert story.ordered() == ["pod-1", "pod-2"]
    story.answer("pod-2")
    assert story.ordered() == ["pod-3"]
    assert story.phase == "Changing"


def test_it_ends_when_all_pods_run_with_them() -> None:
    story = changed()
    assert story.standing is not None
    assert story.standing.settings == {"workers": 4}
    assert (story.round().orders, story.round().standing) == ((), story.standing)


def test_what_the_template_has_already_needs_no_order() -> None:
    story = Story(wish=replace(WISH, template={"workers": 4}))
    assert story.round() == Next(standing=None)


@pytest.mark.parametrize("state", ["RolledBack", "Failed"])
def test_a_canary_that_goes_back_stops_it_all(state: State) -> None:
    story = Story()
    story.round()
    story.answer("pod-0", state)
    step = story.round()
    assert (step.orders, story.phase) == ((), "Stopped")
    assert f"pod pod-0: {state}: so it is" in step.message
    assert story.ordered() == []


def test_a_later_pod_that_goes_back_has_the_others_taken_back() -> None:
    story = Story()
    story.round()
    story.answer("pod-0")
    assert story.ordered() == ["pod-1"]
    story.answer("pod-1", "RolledBack")
    (back,) = story.round().orders
    assert (back[0].name, back[1].settings.items(), story.phase) == ("pod-0", (("workers", 2),), "Stopped")
    assert back[1].id.endswith("-back")
    story.answer("pod-0")
    assert story.ordered() == []


def test_what_a_pod_refuses_comes_by_a_roll() -> None:
    story = Story()
    story.round()
    story.answer("pod-0", "Refused")
    assert (story.ordered(), story.phase) == ([], "Unable")
    assert story.standing is not None
    assert "pod pod-0 refuses: so it is" in story.standing.reason


def test_a_server_that_cannot_be_changed_is_not_even_ordered() -> None:
    story = Story()
    story.seats = [replace(s, told=InPlace(means="signals", obstacle="-c own.py hides ours")) for s in story.seats]
    assert (story.ordered(), story.phase) == ([], "Unable")
    assert story.standing is not None
    assert "-c own.py hides ours" in story.standing.reason


def test_the_same_settings_are_not_tried_again_until_the_spec_changes() -> None:
    story = Story()
    story.round()
    story.answer("pod-0", "RolledBack")
    story.round()
    assert story.ordered() == []
    story.wish = replace(WISH, generation=3)
    assert story.ordered() == ["pod-0"], "another order: its sidecar has not carried it out yet"


def test_a_new_pod_gets_them_after_its_start() -> None:
    story = changed()
    story.seats.append(Seat(name="pod-9", uid="p9", order=None, told=None))
    assert story.ordered() == [], "it says nothing yet"
    story.seats[-1] = replace(story.seats[-1], told=IDLE)
    assert story.ordered() == ["pod-9"]
    story.answer("pod-9")
    assert (story.ordered(), story.phase) == ([], "Applied")


def test_a_new_pod_that_goes_back_is_told_and_stops_nobody() -> None:
    story = changed()
    story.seats.append(Seat(name="pod-9", uid="p9", order=None, told=IDLE))
    story.round()
    story.answer("pod-9", "RolledBack")
    step = story.round()
    assert (step.orders, story.phase) == ((), "Applied")
    assert "3 of 4 pods run with the new settings" in step.message
    assert "pod pod-9: RolledBack: so it is" in step.message


def test_a_pod_made_from_a_template_that_has_them_needs_no_order() -> None:
    story = changed()
    story.wish = replace(WISH, template={"workers": 4})
    story.seats = [Seat(name="pod-9", uid="p9", order=None, told=IDLE)]
    assert (story.ordered(), story.phase) == ([], "Applied")


def test_a_canary_that_vanishes_is_followed_by_another() -> None:
    story = Story()
    story.round()
    story.seats = story.seats[1:]
    assert story.ordered() == ["pod-1"]


def test_a_silent_pod_is_waited_for() -> None:
    story = Story()
    story.seats[2] = replace(story.seats[2], told=None)
    for _ in range(4):
        for name in story.ordered():
            story.answer(name)
    assert story.phase == "Changing"
    assert story.round().message == "2 of 3 pods run with the new settings, 0 change now"


def test_a_new_wish_in_the_middle_goes_back_to_what_was_good_if_it_fails() -> None:
    story = Story()
    story.round()
    story.answer("pod-0")
    story.wish = replace(WISH, generation=3, settings={"workers": 8})
    assert story.ordered() == ["pod-0"], "its canary"
    assert story.standing is not None
    assert story.standing.before == {"workers": 2}


def test_back_to_the_template_is_a_change_as_any() -> None:
    story = changed()
    story.wish = replace(WISH, generation=3, settings={"workers": 2})
    assert story.ordered() == ["pod-0"]
    assert story.standing is not None
    assert story.standing.before == {"workers": 4}


def test_where_it_is_stands_on_the_workload() -> None:
    standing = changed().standing
    assert standing is not None
    told = {"metadata": {"annotations": {"wsgi.dev/changed-in-place": dump_standing(standing)}}}
    assert standing_of(told) == standing
    for spoilt in ("", "{", "[]", '{"order": 1}'):
        assert standing_of({"metadata": {"annotations": {"wsgi.dev/changed-in-place": spoilt}}}) is None
