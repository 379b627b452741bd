"""The door to gunicorn's control socket (>= 25.1): three read-only questions on one connection.

In: where it may be, and the arbiter. Out: `ControlAnswer`. Rule: an answer from another arbiter than ours is no answer.
It takes 0.3 to 1.9 ms, so ask it now and then, not in every look.
"""

from collections.abc import Sequence
from typing import Final

from wsgi_sidecar.core.addresses import StreamAddress
from wsgi_sidecar.core.control import (
    COMMANDS,
    ControlAnswer,
    ControlError,
    frame,
    parse_answer,
    parse_payload,
    payload_length,
)
from wsgi_sidecar.core.family import CONTROL_SOCKET
from wsgi_sidecar.core.strangers import Members
from wsgi_sidecar.open_files import OpenFiles
from wsgi_sidecar.streams import NoAnswerError, Stream

WITHIN_S: Final = 1.0
LISTENS: Final = "00010000"
"""__SO_ACCEPTCON in the flags of /proc/net/unix."""
MOST_SOCKETS: Final = 8
"""Each that does not answer costs a second of a look."""


def ask_control(
    paths: Sequence[str], arbiter: int, *, within_s: float = WITHIN_S, root: str = "/proc"
) -> ControlAnswer:
    """What the arbiter says about itself.

    Args:
        paths: from `socket_paths`, tried in their order.
        arbiter: its pid, as we see it; the paths are meant inside its container.
        within_s: for each path.
        root: of /proc.

    Raises:
        NoAnswerError: nobody answers at any of them, or another server does.
        ControlError: what answers is not gunicorn's control socket, or refuses.
    """
    failure = NoAnswerError("no control socket: gunicorn is older than 25.1, or it is switched off")
    for path in paths:
        try:
            answer = _ask(path, arbiter, within_s, root)
        except NoAnswerError as error:
            failure = error
            continue
        if answer.pid in (arbiter, None):
            return answer
        failure = NoAnswerError(
            f"{path} belongs to the gunicorn with pid {answer.pid}; give each its own --control-socket"
        )
    raise failure


def find_sockets(arbiter: int, root: str = "/proc") -> tuple[str, ...]:
    """Paths of the control sockets with the usual name that the arbiter listens on.

    For a server that hides its HOME. Where the kernel does not show us what the arbiter holds, those that anybody in
    its network namespace listens on: whose it is, the answer tells. Of many, as on a shared host, the first few.
    """
    try:
        with open(f"{root}/{arbiter}/net/unix", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(None, 7) for line in file]
    except OSError:
        return ()
    listening = [(words[6], words[7]) for words in lines if len(words) == 8 and words[3] == LISTENS]
    usual = [(inode, path) for inode, path in listening if path.startswith("/") and path.endswith(CONTROL_SOCKET)]
    held = _held(arbiter, root) if usual else None
    return tuple(path for inode, path in usual if held is None or int(inode) in held)[:MOST_SOCKETS]


def _held(arbiter: int, root: str) -> frozenset[int] | None:
    """Inodes of the arbiter's sockets; None where the kernel refuses to tell. A listener's is the same in net/unix."""
    try:
        files = OpenFiles(arbiter, root)
    except OSError:
        return None
    try:
        files.scan()
    except OSError:
        return None
    finally:
        files.close()
    return files.sockets


def _ask(path: str, arbiter: int, within_s: float, root: str) -> ControlAnswer:
    with Stream(StreamAddress(path=path), within_s=within_s, process=arbiter, root=root) as stream:
        config, workers, stats = (_question(stream, command) for command in COMMANDS)
    return parse_answer(config, workers, stats)


def _question(stream: Stream, command: str) -> Members:
    stream.send(frame(command))
    return parse_payload(stream.exactly(payload_length(stream.exactly(4))))


__all__ = ["ControlError", "NoAnswerError", "ask_control", "find_sockets"]
