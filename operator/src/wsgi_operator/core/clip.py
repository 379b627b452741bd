"""Texts that came from a pod, cut to a length.

In: a text. Out: at most that much of it. Rule: a status must fit into etcd whatever a pod says.
"""

from typing import Final

MESSAGE_LENGTH: Final = 1024


def clip(text: str, length: int = MESSAGE_LENGTH) -> str:
    """At most that much of the text."""
    return text if len(text) <= length else text[: length - 1] + "…"
