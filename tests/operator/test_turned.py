"""Which conditions are worth a line of the log."""

from wsgi_operator.core.turned import turned


def status(*conditions):
    keys = ("type", "status", "reason", "message")
    return {"conditions": [dict(zip(keys, condition, strict=True)) for condition in conditions]}


READY = ("Ready", "True", "AsWanted", "all 2 pods report")
SILENT = ("Ready", "False", "PodsSilent", "1 of 2 pods do not report")
NOT_STALLED = ("Stalled", "False", "NotStalled", "nothing is in the way")


def test_what_begins_and_what_ends_is_told():
    assert [c["reason"] for c in turned(status(READY, NOT_STALLED), status(SILENT, NOT_STALLED))] == ["PodsSilent"]
    assert [c["reason"] for c in turned(status(SILENT), status(READY))] == ["AsWanted"]


def test_another_number_in_the_sentence_is_not():
    assert turned(status(SILENT), status((*SILENT[:3], "2 of 2 pods do not report"))) == ()


def test_another_reason_for_the_same_is():
    other = ("Ready", "False", "RollingOut", "1 of 2 pods are new")
    assert [c["reason"] for c in turned(status(SILENT), status(other))] == ["RollingOut"]


def test_a_new_object_tells_what_holds_and_not_what_does_not():
    assert [c["reason"] for c in turned({}, status(READY, NOT_STALLED))] == ["AsWanted"]


def test_what_is_not_ready_from_the_start_is_told_when_it_turns():
    assert turned({}, status(SILENT)) == ()
