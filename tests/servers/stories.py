"""Stories of real servers, told at the same time: they mostly wait.

In: who tells each of them, by name. Out: a `Future` for each. Rule: where a file is tested as a whole, its stories
begin together; where only some of its tests were asked for, a story begins when the first test asks for it, so that one
test costs one story.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

Name = TypeVar("Name", bound=Hashable)
Told = TypeVar("Told")
Tellers = dict[str, Callable[[], Any]]
"""Of a file whose stories have different outcomes."""


class Stories(Mapping[Name, Future[Told]]):
    """One `Future` per story, begun when it is first asked for."""

    def __init__(self, tellers: Mapping[Name, Callable[[], Told]], pool: Executor) -> None:
        self._tellers = tellers
        self._pool = pool
        self._begun: dict[Name, Future[Told]] = {}

    def __getitem__(self, name: Name) -> Future[Told]:
        """The story, which begins now if it has not yet."""
        if name not in self._begun:
            self._begun[name] = self._pool.submit(self._tellers[name])
        return self._begun[name]

    def __iter__(self) -> Iterator[Name]:
        """Their names."""
        return iter(self._tellers)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tellers)


@contextmanager
def telling(
    request: pytest.FixtureRequest, tellers: Mapping[Name, Callable[[], Told]], *, at_once: int
) -> Iterator[Mapping[Name, Future[Told]]]:
    """The stories while the block lasts; for a module's fixture, whose request it takes.

    Args:
        request: the fixture's.
        tellers: what tells each story.
        at_once: how many are told at the same time.
    """
    with ThreadPoolExecutor(at_once) as pool:
        stories = Stories(tellers, pool)
        if _tests_of(request) >= len(tellers):
            for name in tellers:
                stories[name]
        yield stories


def _tests_of(request: pytest.FixtureRequest) -> int:
    """How many of the fixture's tests will run; each story has one at least."""
    mine = (item for item in request.session.items if item.path == request.path)
    return sum(request.fixturename in getattr(item, "fixturenames", ()) for item in mine)
