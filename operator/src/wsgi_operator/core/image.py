"""Which images a WSGIServer may have the operator put into pods.

In: the image that a WSGIServer names, the repositories that the installation allows. Out: an `Obstacle`, or None. Rule:
whoever may create a WSGIServer must not thereby be able to run a program of his own choice: that is what the right to
create pods is for. So only the installed sidecar's repository is allowed, unless the installation says more.
"""

from collections.abc import Iterable
from typing import Final

from wsgi_operator.core.server import Obstacle, Server

ANY: Final = "*"


def repository(image: str) -> str:
    """The image without tag and digest; what stands behind the last colon is a tag only if no slash follows."""
    name = image.partition("@")[0]
    rest, colon, tag = name.rpartition(":")
    return rest if colon and "/" not in tag else name


def forbidden(server: Server, allowed: Iterable[str]) -> Obstacle | None:
    """Why its sidecar's image is not used; None: it may be.

    Args:
        server: with the image that it would get.
        allowed: repositories to the letter, or all below one (`registry.example/team/*`), or `*`.
    """
    wanted, patterns = repository(server.sidecar.image), tuple(allowed)
    if not server.sidecar.named or any(_fits(wanted, pattern) for pattern in patterns):
        return None
    return Obstacle(
        reason="ImageNotAllowed",
        message=f"spec.sidecar.image names {server.sidecar.image}, and this operator puts only images of "
        f"{', '.join(patterns)} into pods: leave spec.sidecar.image out, name one of those, or have whoever "
        "installed the operator add the repository to the chart's sidecar.allowedRepositories",
    )


def _fits(wanted: str, pattern: str) -> bool:
    below = pattern.endswith("/*") and wanted.startswith(pattern[:-1])
    return pattern == ANY or below or wanted == pattern
