"""Gunicorn's flags and releases as values; `test_gunicorn_releases.py` holds them against the real ones."""

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsgi_contract.servers.gunicorn import (
    FLAGS,
    Arguments,
    ArgumentsError,
    ConfigFile,
    Sources,
    connection_limit,
    effective_settings,
    freezes_when_full,
    may_hold_secrets,
    merge_cmd_args,
    parse_arguments,
    parse_cmd_args,
    parse_config_file,
    parse_release,
)
from wsgi_contract.settings import SETTING_NAMES, Setting, Wanted

NOTHING = Sources(command_line=(), cmd_args="", web_concurrency="", config_file="")


def setting(name: str, sources: Sources) -> Setting:
    return next(found for found in effective_settings(sources) if found.name == name)


def test_each_setting_is_said_once_whatever_is_given() -> None:
    given_twice = Sources(
        command_line=("-w", "2", "-w3"), cmd_args="-w 4", web_concurrency="5", config_file="workers=6"
    )
    assert tuple(found.name for found in effective_settings(given_twice)) == SETTING_NAMES


SAID_BY = (
    (Sources(command_line=("-w3",), cmd_args="", web_concurrency="", config_file=""), 3, "command-line", "-w 3"),
    (Sources(command_line=("--workers=3",), cmd_args="-w2", web_concurrency="", config_file=""), 3, "command-line",
     "--workers 3"),
    (Sources(command_line=(), cmd_args="-w2", web_concurrency="9", config_file="workers=4"), 2, "environment",
     "GUNICORN_CMD_ARGS: -w 2"),
    (Sources(command_line=(), cmd_args="", web_concurrency="9", config_file="workers=4"), 4, "config-file",
     "config file"),
    (Sources(command_line=(), cmd_args="", web_concurrency="9", config_file=""), 9, "environment", "WEB_CONCURRENCY"),
    (NOTHING, 1, "default", None),
)  # fmt: skip


@pytest.mark.parametrize(("sources", "value", "source", "said_by"), SAID_BY)
def test_a_setting_tells_who_said_it(sources: Sources, value: int, source: str, said_by: str | None) -> None:
    found = setting("workers", sources)
    assert (found.value, found.source, found.said_by) == (value, source, said_by)
    assert found.pinned == (source == "command-line")


UNREADABLE = (
    # what could not be read, what is then known of workers (given as -w 3 by the last source that is readable)
    (Sources(command_line=None, cmd_args="-w3", web_concurrency="", config_file=""), None),
    (Sources(command_line=("-w3",), cmd_args=None, web_concurrency=None, config_file=None), 3),
    (Sources(command_line=(), cmd_args=None, web_concurrency="", config_file="workers=3"), None),
    (Sources(command_line=(), cmd_args="-w3", web_concurrency="", config_file=None), 3),
    (Sources(command_line=(), cmd_args="", web_concurrency="3", config_file=None), None),
    (Sources(command_line=(), cmd_args="", web_concurrency=None, config_file=""), None),
    (Sources(command_line=(), cmd_args="", web_concurrency=None, config_file="workers=3"), 3),
)


@pytest.mark.parametrize(("sources", "workers"), UNREADABLE)
def test_a_weaker_source_says_nothing_where_a_stronger_one_could_not_be_read(
    sources: Sources, workers: int | None
) -> None:
    found = setting("workers", sources)
    assert found.value == workers
    assert (found.source == "unknown") == (workers is None)


def test_sync_is_unknown_while_threads_are() -> None:
    found = setting(
        "worker_class", Sources(command_line=(), cmd_args="", web_concurrency="", config_file="threads=f()")
    )
    assert (found.value, found.source) == (None, "unknown")


def test_the_threads_that_make_sync_gthread_are_named() -> None:
    found = setting(
        "worker_class", Sources(command_line=(), cmd_args="--threads 4", web_concurrency="", config_file="")
    )
    assert (found.value, found.source) == ("gthread", "environment")
    assert found.said_by == "sync with threads > 1 (GUNICORN_CMD_ARGS: --threads 4)"


@pytest.mark.parametrize("flag", ["--workers", "--worker-class", "--config", "--log-level"])
def test_two_dashes_are_no_value(flag: str) -> None:
    with suppress(ArgumentsError):  # some Pythons take them for a value, as gunicorn on them does
        said = parse_arguments([f"{flag}=--"])
        assert all(isinstance(value, str) for _, value, _ in said.settings)
        assert isinstance(said.config, str | None)


def test_a_config_file_that_python_would_warn_of_is_read_in_silence() -> None:
    assert parse_config_file('pattern = "\\d"\nworkers = 2if True else 3\nthreads = 4').settings == (("threads", 4),)


def test_the_config_file_that_was_named_is_told() -> None:
    assert parse_cmd_args("-w 2 -c 'my conf.py'").config == "my conf.py"
    assert parse_arguments(["--config=a", "-c", "b"]).config == "b"


MERGED = (
    ("", Wanted(workers=3), "--workers=3"),
    ("  ", Wanted(workers=3), "--workers=3"),
    ("-w 2", Wanted(), "-w 2"),
    ("", Wanted(), ""),
    ("-w $(N)", Wanted(workers=3), "-w $(N) --workers=3"),
    ("$(ALL)", Wanted(keepalive_s=5), "$(ALL) --keep-alive=5"),
    ("--name 'a b'", Wanted(timeout_s=0, threads=2), "--name 'a b' --threads=2 --timeout=0"),
)


@pytest.mark.parametrize(("existing", "wanted", "merged"), MERGED)
def test_the_owner_s_words_stay_and_ours_come_last(existing: str, wanted: Wanted, merged: str) -> None:
    assert merge_cmd_args(existing, wanted) == merged


HIDING = (("-w 2 --", "remove the `--`"), ("-w 'x", "cannot be split into words"), ("--workers", "expected one"),
          ("-w 2 \\", "cannot be split into words"))  # fmt: skip


@pytest.mark.parametrize(("existing", "message"), HIDING)
def test_words_that_would_swallow_ours_are_refused(existing: str, message: str) -> None:
    with pytest.raises(ArgumentsError, match=message):
        merge_cmd_args(existing, Wanted(workers=3))


wanted_numbers = st.none() | st.integers(0, 10_000)
everything_wanted = st.builds(Wanted, **dict.fromkeys(Wanted.__dataclass_fields__, wanted_numbers))


@given(st.text(), everything_wanted)
@example("-w 2 --", Wanted(workers=3))
def test_whatever_the_owner_wrote_ours_is_in_force_or_it_is_refused(existing: str, wanted: Wanted) -> None:
    try:
        merged = merge_cmd_args(existing, wanted)
        said = {name: value for name, value, _ in parse_cmd_args(merged).settings}
    except ArgumentsError:
        return
    assert {name: said[name] for name, _ in wanted.items()} == dict(wanted.items())
    assert merged.startswith(existing) or not existing.strip()


@given(st.lists(st.sampled_from([*sum(FLAGS.values(), ()), "-Dw4", "-w", "3", "=", "--", "-"]) | st.text(max_size=5)))
def test_any_arguments_are_read_or_refused(tokens: list[str]) -> None:
    with suppress(ArgumentsError):
        assert isinstance(parse_arguments(tokens), Arguments)


@given(st.text(alphabet="workers=timeout 123'\"()[]:,\n+*/#ifdel") | st.text())
@example("workers = " + "-" * 20_000 + "1")
@example("workers = " + "(" * 5_000)
@example("workers = 1" + " + 1" * 20_000)
@example("\x00")
@example("workers = '\\ud800'")
@example("workers = 9999999999 * 9999999999 * 9999999999")
def test_any_text_is_a_config_file_or_refused(text: str) -> None:
    with suppress(ArgumentsError):
        assert isinstance(parse_config_file(text), ConfigFile)


RELEASES = (
    ("23.0.0", (23, 0, 0), True),
    ("21.2.0", (21, 2, 0), True),
    ("22.0.0", (22, 0, 0), True),
    ("23.1.0.dev1", (23, 1, 0), True),
    ("20.1.0", (20, 1, 0), False),
    ("21.1.0", (21, 1, 0), False),
    ("24.0.0", (24, 0, 0), False),
    ("27.0.1", (27, 0, 1), False),
    ("100.0", (100, 0), False),
    ("", None, None),
    (None, None, None),
    ("main", None, None),
)


@pytest.mark.parametrize(("text", "parsed", "freezes"), RELEASES)
def test_a_release_says_whether_its_gthread_freezes(
    text: str | None, parsed: tuple[int, ...] | None, freezes: bool | None
) -> None:
    assert parse_release(text) == parsed
    assert freezes_when_full(text) is freezes


LIMITS = (
    ("sync", 1000, 1),
    ("gunicorn.workers.sync.SyncWorker", 1000, 1),
    ("gthread", 50, 50),
    ("gunicorn.workers.gthread.ThreadWorker", 50, 50),
    ("gevent", 50, 50),
    ("eventlet", None, None),
    ("tornado", 50, None),
    ("my.own.Worker", 50, None),
    (None, 50, None),
)


@pytest.mark.parametrize(("worker_class", "connections", "limit"), LIMITS)
def test_a_worker_s_limit_of_connections_follows_its_class(
    worker_class: str | None, connections: int | None, limit: int | None
) -> None:
    settings = (
        Setting(name="worker_class", value=worker_class, source="default"),
        Setting(name="worker_connections", value=connections, source="default"),
    )
    assert connection_limit(settings) == limit


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("", False),
        ("--workers=3 --statsd-host=127.0.0.1:8125", False),
        ("--env API_KEY=hush", True),
        ("-e API_KEY=hush", True),
        ("-eAPI_KEY=hush -w 2", True),
        ("--proxy http://user:hush@proxy/", True),
        ("--access-logformat '%(h)s user@host'", False),
        ("--workers 'unbalanced", True),
    ],
)
def test_arguments_that_may_hold_a_secret_are_known(text: str, held: bool) -> None:
    assert may_hold_secrets(text) is held
