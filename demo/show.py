"""What the demos print: numbered steps, each with its reason, times and aligned figures.

In: what a demo has to say. Out: plain text, bold only on a terminal. Rule: a step that did not happen raises
`StepError`, and the demo's exit code is then not zero: what is shown is what was seen.
"""

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TextIO, TypeVar

WIDTH: Final = 100
BAR: Final = 40

Seen = TypeVar("Seen")


class StepError(Exception):
    """A step of the demo did not happen; the message says what was waited for and what to look at."""


class Story:
    """Prints a demo's steps, with the seconds since it began in front of each line.

    Args:
        title: first line.
        about: what the reader is going to see.
        out: where to print; standard output by default.
        clock: seconds; monotonic.
    """

    def __init__(
        self, title: str, about: str, *, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = out or sys.stdout
        self._clock = clock
        self._began = clock()
        self._steps = 0
        self._bold = self._out.isatty() and "NO_COLOR" not in os.environ
        self._print(self._strong(title), "", *textwrap.wrap(about, WIDTH))

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return self._clock() - self._began

    def step(self, title: str, why: str = "") -> None:
        """Open the next numbered step, with a short explanation for somebody who never saw the project."""
        self._steps += 1
        self._print("", self._strong(f"{self._steps}. {title}"), *textwrap.wrap(why, WIDTH - 3, initial_indent="   ",
                    subsequent_indent="   "))  # fmt: skip

    def say(self, text: str) -> None:
        """One line of what happened, with its time."""
        self._print(f"   {self.elapsed_s:6.1f} s  {text}")

    def command(self, words: str) -> None:
        """A command that the reader could have typed."""
        self._print(f"   {'':8}  $ {words}")

    def quote(self, text: str) -> None:
        """Somebody else's words, to the letter: log lines, metrics, YAML."""
        self._print(*(f"   {'':8}  | {line}" for line in text.rstrip().splitlines()))

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned columns: words to the left, numbers to the right."""
        lines = [tuple(heads), *(tuple(_cell(value) for value in row) for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        numeric = [all(_is_number(line[i]) for line in lines[1:]) for i in range(len(heads))]
        for line in lines:
            cells = (
                text.rjust(w) if right else text.ljust(w) for text, w, right in zip(line, widths, numeric, strict=True)
            )
            self._print(f"   {'':8}  {'   '.join(cells).rstrip()}")

    def rate(self, name: str, per_second: float, full: float) -> None:
        """One figure with a bar, `full` being the whole bar: the eye sees the drop before the number is read."""
        line = f"   {self.elapsed_s:6.1f} s  {name:<10} {per_second:7.0f} requests/s  {bar(per_second, full)}"
        self._print(line.rstrip())

    def until(
        self,
        what: str,
        look: Callable[[], Seen | None],
        *,
        within_s: float,
        every_s: float = 0.2,
        otherwise: str = "",
    ) -> Seen:
        """Look until it is seen, then say so and how long it took.

        Args:
            what: what is waited for, as a sentence that is printed when it came true.
            look: returns None (or False) while it is not true.
            within_s: seconds after which the step counts as failed.
            every_s: seconds between two looks.
            otherwise: where to look if it does not happen.

        Raises:
            StepError: it was not seen in time.
        """
        began = self._clock()
        while not (seen := look()):
            if self._clock() - began > within_s:
                raise StepError(f"did not happen within {within_s:g} s: {what}. {otherwise}".rstrip())
            time.sleep(every_s)
        self.say(f"{what}  (after {self._clock() - began:.1f} s)")
        return seen

    def end(self, *lines: str) -> None:
        """The last words: how to look around, how to clean up."""
        self._print("", *lines)

    def _strong(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._bold else text

    def _print(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self._out, flush=True)


def tell(demo: Callable[[], None]) -> int:
    """Run a demo; its exit code: 0 if every step happened, 1 if one did not, 130 if it was interrupted."""
    try:
        demo()
    except StepError as failure:
        sys.stdout.flush()
        print("", "FAILED", *textwrap.wrap(str(failure), WIDTH), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def bar(value: float, full: float, width: int = BAR) -> str:
    """A bar of `#`, as long as the value's part of `full`; anything above zero shows at least one.

    >>> bar(50, 100, width=10)
    '#####'
    >>> bar(0.1, 100, width=10), bar(0, 100, width=10), bar(300, 100, width=10)
    ('#', '', '##########')
    """
    if value <= 0 or full <= 0:
        return ""
    return "#" * min(width, max(1, round(width * value / full)))


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text.partition(" ")[0])
    except ValueError:
        return False
    return True
