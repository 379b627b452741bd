"""Rounds beside a real gunicorn: what is told, at which pace, and that a new server begins anew."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.servers.server import Server, eventually
from wsgi_contract.policy import Policy
from wsgi_contract.servers.gunicorn import effective_settings
from wsgi_sidecar.core.circumstances import Circumstances
from wsgi_sidecar.core.family import Family, gather
from wsgi_sidecar.core.rules.rule import terms
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.rounds import DEMAND_EVERY_S, Rounds
from wsgi_sidecar.server_files import ServerFiles

pytestmark = pytest.mark.servers


@dataclass
class Beat:
    """A reader and its rounds."""

    server: Server
    reader: ProcReader
    rounds: Rounds
    files: ServerFiles

    def family(self) -> Family:
        seen = gather(self.reader.look(self.server.master_pid), within=self.server.master_pid)
        assert seen is not None
        return seen

    def go(self, family: Family | None = None, policy: Policy | None = None) -> Circumstances:
        family = family or self.family()
        settings = effective_settings(self.files.read(family.master).sources)
        return self.rounds.go(family, terms("27.0.1", settings), settings, policy or Policy())


@pytest.fixture(scope="module")
def beat() -> Iterator[Beat]:
    with Server("27.0.1", "-w", "2", "--max-requests", "1000") as server:
        reader = ProcReader()
        found = Beat(server, reader, Rounds(reader), ServerFiles())
        # What a round counts is told until the next one is due; a worker that still boots serves nobody.
        eventually("both workers serve", lambda: [worker.state for worker in found.family().workers] == ["alive"] * 2)
        eventually("the lint has spoken", lambda: found.go().findings)
        yield found
        found.rounds.close()
        reader.close()


def test_limits_findings_and_saturation_are_told(beat: Beat) -> None:
    around = eventually("its threads can be told", lambda: (seen := beat.go()) and seen.saturation and seen)
    assert around.container.cpu_limit_cores is not None
    assert "max-requests-without-jitter" in [finding.id for finding in around.findings]
    assert around.shared == ()
    assert around.saturation is not None
    assert (around.saturation.busy, around.saturation.slots) == (0, 2)


def test_dear_facts_are_asked_for_at_their_own_pace(beat: Beat) -> None:
    first = beat.go()
    assert beat.go().saturation is first.saturation
    assert beat.go().findings is first.findings
    later = beat.family()
    moved = replace(later, monotonic=later.monotonic + DEMAND_EVERY_S)
    assert beat.go(moved).saturation is not first.saturation


def test_memory_is_weighed_only_if_the_policy_asks_for_it(beat: Beat) -> None:
    assert beat.go().pss_bytes == {}
    weighed = beat.go(policy=Policy(memory_recycle_share=0.9)).pss_bytes
    assert set(weighed) == {worker.process.id for worker in beat.family().workers}
    assert all(size > 1 << 20 for size in weighed.values())


def test_timeouts_are_held_against_the_pods_grace_period_where_that_is_known(beat: Beat) -> None:
    family = beat.family()
    settings = effective_settings(beat.files.read(family.master).sources)
    around = beat.rounds.go(family, terms("27.0.1", settings), settings, Policy(), grace_s=10.0)
    assert "graceful-timeout-beyond-grace-period" in [finding.id for finding in around.findings]


def test_another_server_begins_anew(beat: Beat) -> None:
    with Server("27.0.1", "-w", "1", "-k", "gthread", "--threads", "3") as other:
        second = Beat(other, beat.reader, beat.rounds, beat.files)
        eventually("its worker serves", lambda: [worker.state for worker in second.family().workers] == ["alive"])
        saturation = eventually("its threads can be told", lambda: second.go().saturation)
        assert saturation.slots == 3
        assert "max-requests-without-jitter" not in [finding.id for finding in second.go().findings]
