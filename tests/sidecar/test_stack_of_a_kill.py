"""A kill's stacks: a line for each thread in the log, in the Report for the last few kills only."""

from dataclasses import replace

from wsgi_contract.report import Kill
from wsgi_sidecar.core.account import KEPT_STACKS, Ledger, Step, account
from wsgi_sidecar.core.diagnosis import Diagnosis
from wsgi_sidecar.core.lines import LOGGED_STACKS, lines
from wsgi_sidecar.testing import AT, MONOTONIC, pid

STACK = """thread 41 "MainThread" (waits)
    select (selectors.py:468)
    run (gunicorn/workers/gthread.py:219)
thread 44 "pool_0" (waits, holds the GIL)
    ask (app.py:5)"""


def killed(number: int, stack: str | None = STACK) -> Kill:
    return Kill(
        id=f"kill-{number}",
        at=AT,
        target="worker",
        slot=1,
        process=pid(41),
        reason="frozen-worker",
        message="it froze",
        outcome="killed",
        processes=1,
        survivors=(),
        duration_s=0.1,
        stack=stack,
    )


def after(*kills: Kill) -> Ledger:
    return account(Ledger(), Step(at=AT, monotonic=MONOTONIC, took_s=0.0, diagnosis=Diagnosis(), kills=kills))


def test_each_thread_is_one_line_of_the_log() -> None:
    kill, *stacks = lines(Ledger(), after(killed(1)))
    assert "stack" not in kill.fields
    assert [line.message for line in stacks] == [
        'python stack of worker in slot 1 (pid 41), thread 41 "MainThread" (waits): '
        "select (selectors.py:468) < run (gunicorn/workers/gthread.py:219)",
        'python stack of worker in slot 1 (pid 41), thread 44 "pool_0" (waits, holds the GIL): ask (app.py:5)',
    ]


def test_why_there_are_none_is_a_line_too_and_a_crowd_is_bounded() -> None:
    (_, line) = lines(Ledger(), after(killed(1, "none: py-spy is not installed; install it")))
    assert "py-spy is not installed" in line.message
    assert len(lines(Ledger(), after(killed(1, "\n".join(f"thread {n}" for n in range(100)))))) == 1 + LOGGED_STACKS


def test_nothing_is_said_where_nobody_wants_them() -> None:
    assert len(lines(Ledger(), after(killed(1, None)))) == 1


def test_only_the_last_kills_keep_their_stacks() -> None:
    ledger = after(*(replace(killed(number), process=pid(number)) for number in range(1, 10)))
    kept = [deed.kill.stack is not None for deed in ledger.deeds]
    assert kept == [False] * (9 - KEPT_STACKS) + [True] * KEPT_STACKS
