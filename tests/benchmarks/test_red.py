"""`make red` asks about every rule there is, and its stories exist; that they go red is its own to show."""

from benchmarks.red import CORE, PROOFS, STORIES
from tests.house.tree import ROOT
from wsgi_contract.report import INCIDENT_KINDS
from wsgi_sidecar.core.departures import CAUSES


def test_every_kind_and_every_cause_has_a_proof() -> None:
    assert set(PROOFS) == {*INCIDENT_KINDS, *(f"restart: {reason}" for reason, _ in CAUSES)}


def test_what_it_takes_out_is_there_once_and_the_story_exists() -> None:
    for proof in PROOFS.values():
        assert (ROOT / CORE / proof.file).read_text().count(proof.line) == 1, proof
        file, _, name = proof.story.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / STORIES / file).read_text(), proof
