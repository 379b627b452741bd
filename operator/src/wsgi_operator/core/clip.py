"""Words from strangers, made fit for a terminal, a log and etcd.

In: text that came from a pod. Out: text of one line and bounded length. Rule: what a pod says may be shown to a person,
and may never move that person's cursor, begin a second line of a log, turn the order of letters or fill a disk.
"""

from typing import Final

MESSAGE_LENGTH: Final = 1024
"""Characters of one sentence: Kubernetes takes that many in the note of an Event."""


def clip(text: str, length: int = MESSAGE_LENGTH) -> str:
    """The text on one line, with at most that many characters.

    Line breaks become spaces, and what has no shape of its own (escape sequences, marks that turn the direction of
    writing, halves of surrogate pairs) becomes the sign for what cannot be shown.
    """
    text = text if len(text) <= length else text[: length - 1] + "…"
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return " " if letter.isspace() else "\ufffd"
