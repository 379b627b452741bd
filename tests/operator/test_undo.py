"""What is remembered of a change, and how it is taken back: plain values in, apply configurations out."""

import copy
import json
from dataclasses import replace

import pytest

from wsgi_contract.settings import Wanted
from wsgi_operator.core.record import dump, record_of
from wsgi_operator.core.restore import taken_out
from wsgi_operator.core.retold import retold
from wsgi_operator.core.roll import Undone, wished_again
from wsgi_operator.core.server import Sidecar
from wsgi_operator.core.theirs import owners_part
from wsgi_operator.testing import IMAGE, NOW, adopted, applied, container, deployment, env, planned, server

MORE = server(generation=2, wanted=Wanted(workers=9, threads=4))


def kept(body, outcome="Kept"):
    record = record_of(body)
    assert record is not None
    assert record.roll is not None
    roll = replace(record.roll, ended=NOW, outcome=outcome)
    config = retold(body, replace(record, roll=roll))
    assert config is not None
    return applied(body, config)


def undone(body, **fields):
    record = record_of(body)
    assert record is not None
    assert record.wish is not None
    defaults = {"generation": 2, "wish": record.wish, "at": NOW, "tried": "workers 9", "why": "no", "kind": "settings"}
    return Undone(**(defaults | fields))


def again(of, wish, generation):
    asked = wished_again(of, wish, generation)
    assert asked is not None
    return asked


@pytest.mark.parametrize("admission", [False, True])
def test_undoing_brings_back_the_template_to_the_letter(admission):
    before = kept(adopted(admission=admission))
    after = applied(before, planned(MORE, before, now=NOW, admission=admission).config)
    record = record_of(after)
    assert record is not None
    assert record.before is not None
    back = again(MORE, record.before, 2)
    made = planned(back, after, now=NOW + 60, admission=admission, undone=undone(after))
    assert made.kind == "undo"
    assert applied(after, made.config)["spec"]["template"] == before["spec"]["template"]
    assert made.record.undone == undone(after)
    assert [change.words for change in made.record.changes] == ["workers 9 -> 3", "threads 4 -> as its owner has it"]


def test_what_was_undone_is_remembered_until_something_else_is_asked_for():
    before = kept(adopted())
    after = applied(before, planned(MORE, before, now=NOW).config)
    record = record_of(after)
    assert record is not None
    assert record.before is not None
    back = applied(after, planned(again(MORE, record.before, 2), after, now=NOW, undone=undone(after)).config)
    found = record_of(back)
    assert found is not None
    assert found.undone is not None
    assert found.undone.answers(MORE)
    assert not found.undone.answers(replace(MORE, generation=3))
    assert found.wish is not None
    calm = planned(again(MORE, found.wish, found.generation), back, now=NOW + 5)
    assert (calm.needed, calm.kind) == (False, None)
    other = planned(replace(MORE, generation=3, wanted=Wanted(workers=5)), back, now=NOW + 5)
    assert (other.kind, other.record.undone) == ("settings", None)
    assert other.record.before == found.wish


def test_an_upgrade_that_was_undone_is_tried_with_another_image():
    after = adopted(server(sidecar=Sidecar(image="x:2")))
    failed = undone(after, generation=1, kind="upgrade")
    assert failed.answers(server(sidecar=Sidecar(image="x:2")))
    assert not failed.answers(server(sidecar=Sidecar(image="x:3")))
    assert undone(after, generation=1).answers(server(sidecar=Sidecar(image="x:3")))


def test_from_a_change_that_failed_the_way_back_is_to_the_last_that_worked():
    first = kept(adopted())
    failed = kept(applied(first, planned(MORE, first, now=NOW).config), outcome="Failed")
    third = planned(replace(MORE, generation=3, wanted=Wanted(workers=7)), failed, now=NOW)
    assert third.record.before is not None
    assert third.record.before.settings == {"workers": 3}


def test_a_wish_asks_for_the_same_again():
    of = server(wanted=Wanted(workers=2, timeout_s=60), sidecar=Sidecar(image=IMAGE, run_as_user=5, port=9999))
    record = planned(of).record
    assert record.wish is not None
    assert wished_again(MORE, record.wish, 1) == replace(of, generation=1)


@pytest.mark.parametrize(
    "spoilt",
    [{"sidecar": "x"}, {"sidecar": {}}, {"settings": ["workers"]}, {"settings": {"workers": "many"}}, {"policy": 5}],
)
def test_a_spoilt_wish_makes_a_spoilt_record_and_no_crash(spoilt):
    body = adopted()
    record = record_of(body)
    assert record is not None
    raw = json.loads(dump(replace(record, before=record.wish)))
    raw["before"] |= spoilt
    body["metadata"]["annotations"]["wsgi.dev/applied"] = json.dumps(raw)
    assert record_of(body) is None


def test_a_wish_whose_policy_another_operator_wrote_is_not_known_any_more():
    record = planned().record
    assert record.wish is not None
    assert wished_again(server(), replace(record.wish, policy='{"from_the_future": 1}'), 1) is None


def test_a_record_survives_its_way_through_an_annotation():
    body = adopted()
    record = record_of(body)
    assert record is not None
    whole = replace(record, undone=undone(body), before=record.wish)
    body["metadata"]["annotations"]["wsgi.dev/applied"] = dump(whole)
    assert record_of(body) == whole


def test_a_record_of_an_operator_that_kept_no_wishes_is_read_and_can_go_back_to_nothing():
    body = adopted()
    record = record_of(body)
    assert record is not None
    older = replace(record, sidecar=None, roll=None)
    assert older.wish is None
    body["metadata"]["annotations"]["wsgi.dev/applied"] = dump(older)
    made = planned(MORE, body, now=NOW)
    assert made.record.before is None


@pytest.mark.parametrize("admission", [False, True])
def test_the_owners_part_is_the_same_whatever_we_do(admission):
    live = deployment(container(env=env(A="1", GUNICORN_CMD_ARGS="-w 2")), pod={"volumes": [{"name": "tmp"}]})
    before = adopted(live=live, admission=admission)
    assert owners_part(before) == owners_part(live)
    assert owners_part(applied(before, planned(MORE, before, admission=admission).config)) == owners_part(live)


@pytest.mark.parametrize("admission", [False, True])
def test_whatever_the_owner_changes_changes_the_owners_part(admission):
    live = adopted(admission=admission)
    for change in (
        {"image": "registry.example/web:2"},
        {"command": ["gunicorn"]},
        {"env": env(GUNICORN_CMD_ARGS="-w 7")},
    ):
        other = copy.deepcopy(live)
        other["spec"]["template"]["spec"]["containers"][0] |= change
        assert owners_part(other) != owners_part(live)
    restarted = copy.deepcopy(live)
    restarted["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "now"
    assert owners_part(restarted) != owners_part(live)


OURS = {
    "f:metadata": {"f:annotations": {"f:wsgi.dev/applied": {}}},
    "f:spec": {
        "f:template": {
            "f:metadata": {"f:labels": {"f:wsgi.dev/server": {}}},
            "f:spec": {
                "f:shareProcessNamespace": {},
                "f:containers": {'k:{"name":"web"}': {".": {}, "f:name": {}, "f:env": {
                    'k:{"name":"GUNICORN_CMD_ARGS"}': {".": {}, "f:name": {}, "f:value": {}}}}},
                "f:initContainers": {'k:{"name":"wsgi-sidecar"}': {".": {}, "f:image": {}, "f:ports": {
                    'k:{"containerPort":9177,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}}},
            },
        }
    },
}  # fmt: skip
"""As the API server tells what is ours."""


def test_noting_the_end_of_a_roll_names_all_that_is_ours_and_nothing_else():
    body = adopted(live=deployment(container(env=env(A="1", GUNICORN_CMD_ARGS="-w 2"))))
    body["metadata"]["managedFields"][-1]["fieldsV1"] = OURS
    record = record_of(body)
    assert record is not None
    config = retold(body, replace(record, changes=()))
    assert config is not None
    pod = config["spec"]["template"]["spec"]
    assert pod["containers"] == [{"name": "web", "env": env(GUNICORN_CMD_ARGS="-w 2 --workers=3")}]
    assert pod["initContainers"] == [
        {"name": "wsgi-sidecar", "image": IMAGE, "ports": [{"containerPort": 9177, "protocol": "TCP"}]}
    ]
    assert pod["shareProcessNamespace"] is True
    assert config["spec"]["template"]["metadata"] == {"labels": {"wsgi.dev/server": "shop"}}
    assert config["metadata"].keys() == {"name", "namespace", "annotations"}


def test_where_nothing_is_held_for_ours_nothing_is_noted():
    body = adopted()
    record = record_of(body)
    assert record is not None
    body["metadata"]["managedFields"] = []
    assert retold(body, record) is None


def test_where_the_sidecar_was_taken_out_the_record_alone_is_written():
    body = adopted()
    record = record_of(body)
    assert record is not None
    body["metadata"]["managedFields"] = []
    config = retold(body, replace(record, variables={}, share=False, undone=undone(body, out=True)))
    assert config is not None
    assert config.keys() == {"apiVersion", "kind", "metadata"}
    assert list(config["metadata"]["annotations"]) == ["wsgi.dev/applied"]


def test_a_sidecar_that_is_taken_out_leaves_only_the_memory_of_it():
    body = adopted(live=deployment(container(env=env(GUNICORN_CMD_ARGS="-w 2"))))
    record = record_of(body)
    assert record is not None
    keep = replace(record, variables={}, share=False, undone=undone(body, out=True))
    config = taken_out(body, keep)
    assert config is not None
    assert config["spec"]["template"]["spec"]["containers"][0]["env"] == env(GUNICORN_CMD_ARGS="-w 2")
    assert "initContainers" not in config["spec"]["template"]["spec"]
    body["metadata"]["annotations"] = config["metadata"]["annotations"]
    found = record_of(body)
    assert found is not None
    assert found.out


def test_after_it_was_taken_out_another_spec_adopts_anew():
    live = deployment()
    body = adopted(live=live)
    record = record_of(body)
    assert record is not None
    keep = replace(record, variables={}, share=False, undone=undone(body, out=True))
    live["metadata"]["annotations"] = {"wsgi.dev/applied": dump(keep)}
    made = planned(MORE, live, now=NOW)
    assert (made.kind, made.record.undone, made.record.before) == ("adoption", None, None)
