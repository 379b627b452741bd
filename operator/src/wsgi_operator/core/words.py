"""Sentences that more than one place says.

In: values. Out: text. Rule: the same value gives the same text, wherever it is told.
"""

from wsgi_operator.core.roll import Undone


def undone_words(undone: Undone) -> str:
    """What was tried, what the pods said, what is in force again, and how to go on."""
    back = "The template is its owner's again" if undone.out else "What was there before is applied again"
    again = (
        "another sidecar, or a change of spec, is tried anew"
        if undone.kind == "upgrade"
        else "it is not tried again until spec changes"
    )
    return f"{undone.tried} was tried, and taken back: {undone.why}. {back}; {again}"
