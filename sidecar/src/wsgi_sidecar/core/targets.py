"""What file descriptors lead to, and how it is named to a person.

In: what the door found behind a descriptor. Out: `Target`, its names. Rule: a service is named after its usual port,
and only at a far end that the application called: a client's port is any number.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from wsgi_sidecar.core.endpoints import Endpoint

Role = Literal["client", "peer", "listener", "pipe", "file", "epoll", "event", "unknown"]
_NAMED_AT_MOST: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a file descriptor leads to.

    Attributes:
        role: what it is to the server: `client` was accepted on one of its listeners, `peer` is any other connection.
        endpoint: of a socket; None for others, and where it could not be told.
        path: of a file; None for others.
    """

    role: Role
    endpoint: Endpoint | None = None
    path: str | None = None


def peer_of(target: Target | None) -> str:
    """The far end, with the service that usually listens there."""
    endpoint = target.endpoint if target else None
    if endpoint is None:
        return "a socket that could not be told"
    # A client's port is any number: naming a service by it would mislead.
    name = endpoint.remote if target and target.role == "client" else endpoint.peer
    return name or f"the far end of a {endpoint.protocol} socket"


def local_of(target: Target | None) -> str:
    """The server's own end."""
    return target.endpoint.local if target and target.endpoint and target.endpoint.local else "a socket"


def file_of(target: Target | None) -> str:
    """The path, if it is a file's."""
    return target.path if target and target.path else "a file"


def told_together(targets: Sequence[Target]) -> str:
    """Several at once, as an event loop waits for them; empty where none of them can be named."""
    roles = Counter(target.role for target in targets)
    parts = [
        *_several("a connection on", [local_of(target) for target in targets if target.role == "listener"]),
        *_counted(roles["client"], "client"),
        *_several("", [peer_of(target) for target in targets if target.role == "peer"]),
        *_counted(roles["pipe"] if not roles["listener"] else 0, "pipe"),
    ]
    return " or ".join(parts)


def _several(before: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    counted = Counter(names)
    shown = [f"{name} ({count} times)" if count > 1 else name for name, count in counted.most_common(_NAMED_AT_MOST)]
    more = len(counted) - len(shown)
    text = ", ".join(shown) + (f" and {more} more" if more else "")
    return [f"{before} {text}".strip()]


def _counted(count: int, noun: str) -> list[str]:
    return [f"{count} {noun}{'s' if count > 1 else ''}"] if count else []
