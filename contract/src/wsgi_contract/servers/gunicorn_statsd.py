"""Where gunicorn sends its statsd: pointing it at the sidecar, by `GUNICORN_CMD_ARGS` alone.

In: the text of `GUNICORN_CMD_ARGS`, and an address. Out: the text with our address, and the owner's, if it had one.
Rule: appended, never rewritten: the later flag wins, and the owner's words stay what they were. 20.1 takes `host:port`
only, so that is what is written for UDP.
"""

import shlex
from dataclasses import dataclass
from typing import Final

from wsgi_contract.servers.gunicorn_values import ArgumentsError

FLAG: Final = "--statsd-host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointed:
    """`GUNICORN_CMD_ARGS` that sends statsd to us.

    Attributes:
        cmd_args: the whole text.
        theirs: where the owner's own flag in it sent them; None without one: the sidecar should send them on there.
    """

    cmd_args: str
    theirs: str | None


def point_statsd(existing: str, address: str) -> Pointed:
    """Have gunicorn send its statsd to this address.

    Raises:
        ArgumentsError: the text is none that a shell could split, or it ends the flags with `--`, so that nothing
            behind it would count.
    """
    theirs = statsd_host(existing)
    if "--" in shlex.split(existing):
        raise ArgumentsError(f"{existing!r} hides what is written behind it from gunicorn; remove the `--`")
    if theirs == address:
        return Pointed(cmd_args=existing, theirs=None)
    return Pointed(cmd_args=f"{existing} {FLAG}={address}".strip(), theirs=theirs)


def statsd_host(text: str) -> str | None:
    """Where these words send statsd; None if nowhere.

    Raises:
        ArgumentsError: they are none that a shell could split.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ArgumentsError(f"{error}: {text!r}") from None
    found = None
    for word, following in zip(words, (*words[1:], None), strict=False):
        if word == FLAG:
            found = following
        elif word.startswith(f"{FLAG}="):
            found = word.removeprefix(f"{FLAG}=")
    return found
