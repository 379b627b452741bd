"""What the operator finds in its own annotations may have been written by anybody."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.operator.evil import EVIL, TERMINAL, places, put
from wsgi_contract.names import ANNOTATION_ORIGINAL
from wsgi_contract.settings import Wanted
from wsgi_operator.bells import Bells
from wsgi_operator.core.boot import boots
from wsgi_operator.core.brakes import left_behind, why_not_in_place
from wsgi_operator.core.evidence import gather
from wsgi_operator.core.facts import Facts
from wsgi_operator.core.in_place import Wish as InPlaceWish
from wsgi_operator.core.in_place import follow, seats_of
from wsgi_operator.core.notices import event_of, in_place_notices
from wsgi_operator.core.outcome import end_of
from wsgi_operator.core.patch import Plan, plan
from wsgi_operator.core.record import ANNOTATION_APPLIED, Kept, Original, dump, original_of, record_of
from wsgi_operator.core.restore import cut_out, handed_back, taken_out
from wsgi_operator.core.retold import retold
from wsgi_operator.core.roll import Roll, Undone, wished_again
from wsgi_operator.core.roll_notices import roll_notices
from wsgi_operator.core.rollout import rollout
from wsgi_operator.core.server import Sidecar
from wsgi_operator.core.standing import ANNOTATION_STANDING, Standing, dump_standing, standing_of
from wsgi_operator.core.status import status_of
from wsgi_operator.core.template import plan_template
from wsgi_operator.core.theirs import owners_part
from wsgi_operator.core.turns import Turns
from wsgi_operator.core.workload import Owner
from wsgi_operator.mirror import Mirror
from wsgi_operator.status_model import Status
from wsgi_operator.testing import IMAGE, NOW, adopted, container, deployment, env, heard, planned, pod, server

BODY = {"metadata": {"name": "shop", "namespace": "default", "uid": "uid-shop"}}
OWNER = Owner(manager="helm", operation="Apply")
IN_PLACE = server(apply="InPlace", wanted=Wanted(workers=5), generation=2)
LIVE = adopted(
    server(apply="InPlace"), deployment(container(env=env(GUNICORN_CMD_ARGS="--bind=:8000"))), now=NOW, admission=True
)
FIRST = record_of(LIVE)
assert FIRST is not None
assert FIRST.roll is not None
assert FIRST.wish is not None
RECORD = replace(
    FIRST,
    requests="counted",
    inherited="--threads 2",
    variables={"GUNICORN_CMD_ARGS": "--bind=:8000"},
    drifts=3,
    drift_at=NOW - 50,
    learnt=replace(FIRST.learnt, uid=1000, gid=1000),
    before=FIRST.wish,
    roll=replace(FIRST.roll, kind="upgrade"),
    undone=Undone(generation=2, wish=FIRST.wish, at=NOW, tried="workers 9", why="no", kind="upgrade"),
)
ORIGINAL = Original(
    container="web", variables={"GUNICORN_CMD_ARGS": Kept(value="-w 1", owners=(OWNER,))}, share=Kept(value=False)
)
STANDING = Standing(
    order="g2-abc", generation=2, settings={"workers": 5}, before={"workers": 3}, phase="Applied", reason="so", at=NOW
)
GOOD = {
    ANNOTATION_APPLIED: json.loads(dump(RECORD)),
    ANNOTATION_ORIGINAL: json.loads(dump(ORIGINAL)),
    ANNOTATION_STANDING: json.loads(dump_standing(STANDING)),
}
PLACES = list(places(GOOD))
ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
SPOILT = [float("nan"), float("inf"), 10**400, ["ab"], {"a": {}}]
TEXTS = ["", "x" * 20_000, TERMINAL, "upgrade", "settings", "sNaN", "1e999999999", "-w '", "{}", '{"mode": []}', "web"]
NUMBERS = [-1, 0, 1, 2000, 10**15, 2**53 - 1, -(2**53 - 1), NOW + 5]


def with_notes(**texts):
    """The adopted workload with these annotations, and none else."""
    return LIVE | {"metadata": LIVE["metadata"] | {"annotations": texts}}


def with_record(raw):
    return with_notes(**{ANNOTATION_APPLIED: json.dumps(raw)})


@st.composite
def notes(draw):
    """Our three annotations, in which somebody changed something: mostly to what it might be."""
    raw = GOOD
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=5)):
        evil = draw(st.one_of(EVIL, st.sampled_from(SPOILT), ANY))
        text, number = draw(st.sampled_from(TEXTS)), draw(st.sampled_from(NUMBERS))
        changes = [
            lambda _, evil=evil: evil,
            lambda old, evil=evil: with_more(old, evil),
            lambda old, text=text, number=number: alike(old, text, number),
        ]
        raw = put(raw, path, changes[draw(st.sampled_from([0, 1, 2, 2, 2, 2]))])
    return {name: json.dumps(value) for name, value in raw.items()}


def alike(old, text, number):
    """Another value of that type."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, (int, float)):
        return number
    return text if isinstance(old, str) else old * 20 if isinstance(old, list) else old


def with_more(old, evil):
    return old | {"more": evil} if isinstance(old, dict) else [*old, evil] if isinstance(old, list) else evil


def borne(live):
    """Everything that is done with what the annotations tell, of one workload."""
    record, standing, turns = record_of(live), standing_of(live), Turns()
    evidence, now = gather([heard()], Wanted()), NOW + 10
    facts = Facts(generation=1, evidence=evidence, rollout=rollout(live), standing=standing)
    if record is not None:
        turns.told(record, "default/web")
        turns.take(server(uid="another"), NOW, upgrade=True)
        facts = replace(facts, image=record.image, runs=record.runs, changes=(record.at, record.changes))
        facts = replace(facts, roll=record.roll, undone=record.undone, waiting=left_behind(server(), record))
        end_of(record, live, rollout(live), (pod(created=NOW),), within_s=60.0, silent=False, now=now)
        retold(live, replace(record, roll=None))
        why_not_in_place(IN_PLACE, record, standing, {}, now)
        for wish in (record.wish, record.before):
            back = None if wish is None else wished_again(server(), wish, record.generation)
            if back is not None:
                plan(back, live, now=now, undone=record.undone)
        follow(
            InPlaceWish(server="u", generation=2, settings={"workers": 5}, template=record.settings),
            standing,
            seats_of(evidence.heard),
            now,
        )
        assert json.loads(dump(record)) == json.loads(dump(record_of(with_record(json.loads(dump(record))))))
    for of, admission in ((server(), False), (IN_PLACE, True), (server(runs="uwsgi"), True)):
        made = plan_template(of, live, now=now, admission=admission)
        assert not isinstance(made, Plan) or json.dumps(made.config, allow_nan=False)
    for step in (taken_out(live), cut_out(live), handed_back(live), owners_part(live), boots(live)):
        json.dumps(step, allow_nan=False)
    status = status_of(server(), facts, {}, "2026-01-01T00:00:00Z")
    Status.model_validate(status)
    for notice in (*roll_notices(server(), facts, now), *in_place_notices(server(), standing, now)):
        assert len(event_of(notice, BODY)["message"]) <= 1024


def test_a_good_record_is_borne_and_nothing_of_it_is_lost():
    live = with_notes(**{name: json.dumps(raw) for name, raw in GOOD.items()})
    assert (record_of(live), original_of(live), standing_of(live)) == (RECORD, ORIGINAL, STANDING)
    borne(live)


@given(texts=notes())
@settings(max_examples=300, deadline=None)
def test_whatever_somebody_changes_in_our_annotations_the_round_goes_on(texts):
    borne(with_notes(**texts))


@given(text=st.one_of(ANY.map(json.dumps), st.text(max_size=30)))
@example(text="[" * 100_000)
@example(text='{"a":' * 100_000)
@settings(max_examples=300)
def test_whatever_text_stands_in_our_annotations_is_none(text):
    live = with_notes(**dict.fromkeys(GOOD, text))
    assert (record_of(live), original_of(live), standing_of(live)) == (None, None, None)
    borne(live)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", "null", '{"learnt": 5}', '{"cmd_args": []}', "[" * 3000])
def test_an_annotation_that_is_not_ours_is_none(text):
    live = with_notes(**dict.fromkeys(GOOD, text))
    assert (record_of(live), original_of(live), standing_of(live)) == (None, None, None)


OPEN = asdict(Roll(kind="upgrade", began=1.0, theirs="x", calm=True))
SPOILT_RECORDS = {
    "undone a text": {"undone": "abc"},
    "undone a list": {"undone": ["ab"]},
    "a roll of no server": {"server": [], "roll": OPEN},
    "an upgrade undone without a wish": {"roll": OPEN, "undone": asdict(RECORD.undone) | {"wish": None}},
    "a wish without its image": {"undone": asdict(RECORD.undone) | {"wish": asdict(FIRST.wish) | {"sidecar": {}}}},
    "at no time": {"at": float("nan")},
    "a truth that is a number": {"share": 1},
    "a number that is a truth": {"generation": True},
    "half a letter": {"image": "\ud800"},
    "another server": {"runs": "apache"},
}


@pytest.mark.parametrize("spoilt", SPOILT_RECORDS.values(), ids=SPOILT_RECORDS)
def test_a_spoilt_record_is_none_and_ends_no_watch(spoilt):
    turns, live = Turns(), with_record(GOOD[ANNOTATION_APPLIED] | spoilt)

    def count(workload):
        record = record_of(workload)
        if record is not None:
            turns.told(record, "default/web")

    Mirror(Bells(), count).workloads["Deployment"].there(live | {"metadata": live["metadata"] | {"uid": "u"}})
    assert record_of(live) is None


def test_what_a_newer_release_notes_beside_it_is_left_out():
    raw = GOOD[ANNOTATION_APPLIED]
    for path in ((), ("roll",), ("undone",), ("undone", "wish"), ("undone", "wish", "sidecar"), ("before",),
                 ("sidecar",), ("learnt",), ("changes", 0)):  # fmt: skip
        raw = put(raw, path, lambda old: old | {"from_the_future": [1]})
    assert record_of(with_record(raw)) == RECORD
    newer = {name: json.dumps(raw | {"from_the_future": None}) for name, raw in GOOD.items()}
    live = with_notes(**newer)
    assert (record_of(live), original_of(live), standing_of(live)) == (RECORD, ORIGINAL, STANDING)


@pytest.mark.parametrize("admission", [False, True])
def test_whoever_goes_back_to_an_older_release_meets_no_obstacle_and_no_roll(admission):
    live = adopted(admission=admission)
    texts = live["metadata"]["annotations"]
    texts[ANNOTATION_APPLIED] = json.dumps(json.loads(texts[ANNOTATION_APPLIED]) | {"from_the_future": 1})
    made = planned(live=live, admission=admission)
    assert (made.kind, made.rolls(live)) == (None, False)


def test_words_and_settings_of_a_newer_release_are_kept_and_are_none_of_ours():
    raw = GOOD[ANNOTATION_APPLIED]
    raw = put(raw, ("roll",), lambda old: old | {"kind": "rotation", "ended": NOW, "outcome": "Superseded"})
    raw = put(raw, ("settings",), lambda old: old | {"from_the_future": 1})
    live = with_notes(**{ANNOTATION_APPLIED: json.dumps(raw)})
    record = record_of(live)
    assert record is not None
    assert record.roll is not None
    assert (record.roll.kind, record.roll.outcome) == ("rotation", "Superseded")
    borne(live)


def test_a_wish_is_asked_for_again_as_it_was():
    again = wished_again(server(), RECORD.before, 1)
    assert again is not None
    assert again.sidecar == Sidecar(image=IMAGE)
