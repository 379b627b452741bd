"""The family tree of one look."""

from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.testing import process


def pids(found: object) -> list[int]:
    return [each.id.pid for each in found]  # type: ignore[attr-defined]


def test_children_come_eldest_first() -> None:
    kinship = Kinship([process(5, ppid=1), process(8, ppid=5, started=20), process(9, ppid=5, started=10)])
    assert pids(kinship.children(process(5))) == [9, 8]


def test_descendants_come_before_their_parents() -> None:
    chain = [process(1, ppid=0), process(2, ppid=1), process(3, ppid=2), process(4, ppid=3), process(5, ppid=2)]
    below = pids(Kinship(chain).descendants(chain[0]))
    assert sorted(below) == [2, 3, 4, 5]
    assert below.index(4) < below.index(3) < below.index(2)
    assert below.index(5) < below.index(2)


def test_ancestors_go_up_to_where_nobody_is_known() -> None:
    assert pids(Kinship([process(3, ppid=2), process(2, ppid=7)]).ancestors(process(3, ppid=2))) == [2]


def test_a_circle_of_reused_pids_is_walked_once() -> None:
    circle = [process(2, ppid=3), process(3, ppid=2)]
    kinship = Kinship(circle)
    assert pids(kinship.ancestors(circle[0])) == [3]
    assert pids(kinship.descendants(circle[0])) == [3]
