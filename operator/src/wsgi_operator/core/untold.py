"""What is still to be told, of however much there is to tell.

In: notices as they are found, and the names of those that were told. Out: `Untold`. Rule: of each notice its name is
kept, and of the untold ones only as many as may be told at once: a pod can invent kills by the thousand, in each look.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass

from wsgi_operator.core.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """What is still to be told.

    Attributes:
        names: of all notices, told and untold.
        first: the first untold ones, with their names.
    """

    names: frozenset[str]
    first: tuple[tuple[str, Notice], ...]


def untold(notices: Iterable[Notice], server: str, told: Set[str], most: int) -> Untold:
    """What is still to be told.

    Args:
        notices: all that there are to tell now; two of one name tell the same.
        server: name of the WSGIServer that they are of.
        told: names.
        most: how many untold ones are kept.
    """
    names: set[str] = set()
    first: list[tuple[str, Notice]] = []
    for notice in notices:
        name = notice.name(server)
        if len(first) < most and name not in told and name not in names:
            first.append((name, notice))
        names.add(name)
    return Untold(names=frozenset(names), first=tuple(first))
