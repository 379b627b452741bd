"""What the demos print must be readable as plain text, and a step that did not happen must not look like one."""

import io

import pytest

from demo.show import StepError, Story, bar, tell


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def story(out: io.StringIO, *times: float) -> Story:
    moments = iter((0.0, *times))
    return Story("A title", "What it is about.", out=out, clock=lambda: next(moments))


def test_a_story_is_plain_text_with_times_and_numbers(out: io.StringIO) -> None:
    told = story(out, 1.25, 12.5)
    told.step("First", "Because.")
    told.say("it happened")
    told.step("Second")
    told.rate("served", 50, 100)
    assert out.getvalue().splitlines() == [
        "A title",
        "",
        "What it is about.",
        "",
        "1. First",
        "   Because.",
        "      1.2 s  it happened",
        "",
        "2. Second",
        f"     12.5 s  served          50 requests/s  {'#' * 20}",
    ]


def test_columns_are_aligned_words_left_and_numbers_right(out: io.StringIO) -> None:
    story(out).table(("name", "count"), [("a", 5), ("longer", 12345)])
    assert [line[13:] for line in out.getvalue().splitlines()[3:]] == [
        "name     count",
        "a            5",
        "longer   12345",
    ]


def test_what_is_waited_for_is_told_with_its_time(out: io.StringIO) -> None:
    answers = iter([None, "seen"])
    assert story(out, 1.0, 1.5, 4.0, 4.0).until("it came", lambda: next(answers), within_s=9, every_s=0) == "seen"
    assert out.getvalue().endswith("      4.0 s  it came  (after 3.0 s)\n")


def test_what_does_not_come_is_a_failed_step_that_says_where_to_look(out: io.StringIO) -> None:
    with pytest.raises(StepError, match=r"did not happen within 2 s: it came\. Look there\."):
        story(out, 0.0, 1.0, 3.0).until("it came", lambda: None, within_s=2, every_s=0, otherwise="Look there.")
    assert "it came" not in out.getvalue()


@pytest.mark.parametrize(
    ("value", "full", "length"), [(0, 10, 0), (0.01, 10, 1), (5, 10, 20), (10, 10, 40), (99, 10, 40), (5, 0, 0)]
)
def test_a_bar_is_never_longer_than_full_and_never_empty_for_something(value: float, full: float, length: int) -> None:
    assert bar(value, full) == "#" * length


def test_a_demo_s_exit_code_tells_whether_every_step_happened(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise StepError("nobody came")

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert (tell(lambda: None), tell(fails), tell(interrupted)) == (0, 1, 130)
    assert "FAILED\nnobody came" in capsys.readouterr().err
