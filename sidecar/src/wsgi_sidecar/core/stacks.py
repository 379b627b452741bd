"""Python stacks of a process, as values and as text for a person.

In: what `py-spy dump --json` printed. Out: `Stacks`. Rule: names of functions, files and threads only. Local variables,
the command line and the environment stay where they are: they hold secrets, and a stack leaves the pod.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wsgi_contract.report import ProcessId

_FRAMES_AT_TOP: Final = 40
_FRAMES_AT_BOTTOM: Final = 10
_NAME_AT_MOST: Final = 200
_INDENT: Final = "    "


class StackError(ValueError):
    """The text is no dump of py-spy; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One function under way.

    Attributes:
        function: its name, with its class where Python tells it.
        file: relative to its package, for example `gunicorn/workers/gthread.py`.
        line: the line it is at.
    """

    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStack:
    """One thread.

    Attributes:
        thread: its tid, which joins it with `Wait`; None where it could not be told.
        name: as Python names it; empty if it has none.
        active: on a CPU rather than waiting.
        holds_gil: of all threads, the one that may run Python code now.
        frames: innermost first.
        frames_left_out: in the middle of a very deep stack.
    """

    thread: int | None
    name: str
    active: bool
    holds_gil: bool
    frames: tuple[Frame, ...]
    frames_left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """All threads of one process at one moment.

    Attributes:
        process: whose.
        threads: main thread first, then the active ones.
        took_s: seconds that the look took; the process was not stopped for it.
    """

    process: ProcessId
    threads: tuple[ThreadStack, ...]
    took_s: float


def parse_dump(text: str, pid: int) -> tuple[ThreadStack, ...]:
    """Read the JSON of `py-spy dump --json`.

    Raises:
        StackError: not such JSON.
    """
    try:
        raw = json.loads(text)
        threads = [_thread(entry) for entry in raw]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise StackError(f"py-spy printed something else than stacks ({type(error).__name__})") from None
    return tuple(sorted(threads, key=lambda each: (each.thread != pid, not each.holds_gil, not each.active)))


def _thread(entry: Any) -> ThreadStack:
    frames = tuple(_frame(frame) for frame in entry["frames"])
    cut = max(0, len(frames) - _FRAMES_AT_TOP - _FRAMES_AT_BOTTOM)
    kept = frames[:_FRAMES_AT_TOP] + frames[_FRAMES_AT_TOP + cut :]
    tid = entry.get("os_thread_id")
    return ThreadStack(
        thread=int(tid) if tid is not None else None,
        name=_clean(entry.get("thread_name")),
        active=bool(entry.get("active")),
        holds_gil=bool(entry.get("owns_gil")),
        frames=kept,
        frames_left_out=cut,
    )


def _frame(frame: Any) -> Frame:
    file = frame.get("short_filename") or frame.get("filename")
    return Frame(function=_clean(frame["name"]), file=_clean(file), line=int(frame.get("line") or 0))


def _clean(name: Any) -> str:
    """One printable line: a thread may be named anything, and log lines must stay lines."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(name or ""))
    return shown if len(shown) <= _NAME_AT_MOST else shown[: _NAME_AT_MOST - 3] + "..."


def render(stacks: Stacks, at_most_bytes: int) -> str:
    """The stacks as text; whole threads are left out at the end, with their number, to stay within the bound."""
    blocks = [_block(thread) for thread in stacks.threads]
    # Room for the line that says how many threads are missing.
    kept = list(_fitting(blocks, at_most_bytes - 60))
    missing = len(blocks) - len(kept)
    if missing:
        kept.append(f"and {missing} more thread{'s' if missing > 1 else ''}, left out for their size")
    return "\n".join(kept)


def _fitting(blocks: Sequence[str], room: int) -> Iterator[str]:
    for block in blocks:
        room -= len(block.encode()) + 1
        if room < 0:
            return
        yield block


def _block(thread: ThreadStack) -> str:
    doing = "runs" if thread.active else "waits"
    gil = ", holds the GIL" if thread.holds_gil else ""
    name = f' "{thread.name}"' if thread.name else ""
    return "\n".join([f"thread {thread.thread or '?'}{name} ({doing}{gil})", *_lines(thread)])


def _lines(thread: ThreadStack) -> Iterable[str]:
    for position, frame in enumerate(thread.frames):
        if thread.frames_left_out and position == _FRAMES_AT_TOP:
            yield f"{_INDENT}... {thread.frames_left_out} frames left out ..."
        yield f"{_INDENT}{frame.function} ({frame.file}:{frame.line})"
