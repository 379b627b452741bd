"""What of a server's own flags is taken from a report into a template.

In: the `GUNICORN_CMD_ARGS` that a report tells. Out: the first flag that is not taken, or None. Rule: whoever took over
an app can have its pod report any flags; what stands in the template is given to every later pod, also to those made
after the hole was mended. So a report may say how large, patient and talkative a server is and where it listens,
and nothing that names code, files, users or whom to trust: that the owner writes into his own manifest.
"""

import re
import shlex
from typing import Final

_NUMBER: Final = r"\d{1,7}"
_TAKEN: Final = {
    "--workers": _NUMBER,
    "--threads": _NUMBER,
    "--timeout": _NUMBER,
    "--graceful-timeout": _NUMBER,
    "--keep-alive": _NUMBER,
    "--worker-connections": _NUMBER,
    "--max-requests": _NUMBER,
    "--max-requests-jitter": _NUMBER,
    "--backlog": _NUMBER,
    "--limit-request-line": _NUMBER,
    "--limit-request-fields": _NUMBER,
    "--limit-request-field_size": _NUMBER,
    "--worker-class": r"sync|gthread|gevent|eventlet|tornado|uvicorn\.workers\.Uvicorn(H11)?Worker",
    "--bind": r"([\w.-]*|\[[0-9a-fA-F:]*\]):\d{1,5}",
    "--log-level": r"\w+",
    "--access-logfile": "-",
    "--error-logfile": "-",
    "--log-file": "-",
    "--worker-tmp-dir": "/dev/shm",  # noqa: S108  # where every image may put heartbeats
    "--name": r"[\w.-]+",
}
_SWITCHES: Final = frozenset({"--preload", "--capture-output"})
_SHORT: Final = {
    "-w": "--workers",
    "-k": "--worker-class",
    "-t": "--timeout",
    "-b": "--bind",
    "-n": "--name",
}


def not_taken(cmd_args: str) -> str | None:
    """The first flag that is not taken from a report; None where all are."""
    try:
        words = shlex.split(cmd_args)
    except ValueError:
        return cmd_args
    while words:
        word = words.pop(0)
        flag, sign, value = word.partition("=") if word.startswith("--") else (word[:2], word[2:], word[2:])
        flag = _SHORT.get(flag, flag)
        if flag in _SWITCHES and not sign:
            continue
        if flag not in _TAKEN or (not sign and not words):
            return word
        value = value if sign else words.pop(0)
        if not re.fullmatch(_TAKEN[flag], value, re.ASCII):
            return f"{flag} {value}"
    return None
