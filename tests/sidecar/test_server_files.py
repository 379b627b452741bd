"""What a server was started with, read from real masters of real releases."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tests.servers.rooms import prepare
from tests.servers.server import Server, eventually
from wsgi_contract.servers.gunicorn import effective_settings
from wsgi_contract.settings import Setting
from wsgi_sidecar.core.snapshot import Process
from wsgi_sidecar.process_table import ProcessTable
from wsgi_sidecar.server_files import ServerFacts, ServerFiles, read_release, read_sources
from wsgi_sidecar.testing import process

CONFIG = dedent("""
    import os
    workers = 2
    timeout = 77
    keepalive = int(os.environ.get("KEEP", "5"))
""")


@pytest.fixture(scope="module", autouse=True)
def _rooms() -> None:
    prepare()


def master_of(server: Server) -> Process:
    with contextlib.closing(ProcessTable()) as table:
        return table.read()[server.master_pid]


def settings(facts: ServerFacts) -> dict[str, Setting]:
    return {setting.name: setting for setting in effective_settings(facts.sources)}


@pytest.mark.servers
@pytest.mark.parametrize("release", ["20.1.0", "22.0.0", "23.0.0", "25.3.0", "27.0.1"])
def test_settings_come_from_file_environment_and_command_line(release: str) -> None:
    with Server(
        release, "--threads", "3", "--graceful-timeout=9", files={"gunicorn.conf.py": CONFIG},
        environment={"GUNICORN_CMD_ARGS": "--max-requests 500 --timeout 66", "WEB_CONCURRENCY": "9"},
    ) as server:  # fmt: skip
        facts = ServerFiles().read(master_of(server))
    found = settings(facts)
    assert facts.release == release
    assert {name: (found[name].value, found[name].source) for name in found} == {
        "workers": (2, "config-file"),
        "threads": (3, "command-line"),
        "timeout_s": (66, "environment"),
        "graceful_timeout_s": (9, "command-line"),
        "keepalive_s": (None, "unknown"),
        "worker_connections": (1000, "default"),
        "worker_class": ("gthread", "command-line"),
        "max_requests": (500, "environment"),
        "max_requests_jitter": (0, "default"),
        "backlog": (2048, "default"),
        "preload_app": (False, "default"),
    }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files = {"gunicorn.conf.py": "workers = 2\n", "other.conf.py": "workers = 1\nthreads = 4\n"}
    with Server("23.0.0", "-c", "other.conf.py", files=files) as server:
        yield server


@pytest.mark.servers
def test_a_given_file_replaces_the_default_one(server: Server) -> None:
    found = settings(ServerFiles().read(master_of(server)))
    assert (found["workers"].value, found["threads"].value) == (1, 4)


@pytest.mark.servers
def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(server: Server) -> None:
    files, master = ServerFiles(), master_of(server)
    first = files.read(master)
    assert files.read(master) is first
    (server.folder / "other.conf.py").write_text("workers = 1\nthreads = 8\n")
    assert settings(files.read(master))["threads"].value == 8


@pytest.mark.servers
def test_a_file_that_is_gone_is_unknown_not_default(server: Server) -> None:
    files, master = ServerFiles(), master_of(server)
    path = server.folder / "other.conf.py"
    text = path.read_text()
    assert files.read(master).sources.config_file == text
    path.unlink()
    try:
        assert files.read(master).sources.config_file is None
    finally:
        path.write_text(text)
    assert files.read(master).sources.config_file == text


@pytest.mark.servers
@pytest.mark.parametrize(
    ("arguments", "shell_says", "threads"),
    [
        pytest.param(("--chdir", "{other}"), True, 6, id="by the shell's word"),
        pytest.param(("--chdir", "{other}"), False, None, id="unknown, not default, where nobody tells"),
        pytest.param(("--chdir", "below"), False, 6, id="above the folder below"),
        pytest.param(("--chdir", "{other}", "-c", "{start}/gunicorn.conf.py"), False, 6, id="by an absolute path"),
        pytest.param(("--chdir", "."), False, 6, id="the same folder"),
    ],
)
def test_the_file_is_sought_where_gunicorn_was_started_not_where_it_went(
    tmp_path: Path, arguments: tuple[str, ...], shell_says: bool, threads: int | None
) -> None:
    start, other = tmp_path / "start", tmp_path / "other"
    (start / "below").mkdir(parents=True)
    other.mkdir()
    (start / "gunicorn.conf.py").write_text("threads = 6\n")
    words = tuple(word.format(start=start, other=other) for word in arguments)
    inside = ("sh", "-c", f'cd {start} && {"export PWD" if shell_says else "unset PWD"} && exec "$@"', "sh")
    with Server("23.0.0", *words, inside=inside) as started:
        facts = ServerFiles().read(master_of(started))
    assert settings(facts)["threads"].value == threads


@pytest.mark.servers
def test_gunicorn_run_as_a_module_has_a_release_too() -> None:
    python = Path(os.environ.get("VIRTUAL_ENV", sys.prefix)) / "bin" / "python"
    assert python.exists()
    with Server("22.0.0") as started:
        master = master_of(started)
        as_module = (master.command[0], "-m", "gunicorn", *master.command[2:])
        assert read_release(process(id=master.id, command=as_module)) == "22.0.0"


@pytest.mark.servers
def test_nothing_of_the_environment_shows() -> None:
    secret = "s3cret-0000"
    with Server("23.0.0", "--env", f"TOKEN={secret}", environment={"DATABASE_PASSWORD": secret}) as started:
        master = master_of(started)
        facts = ServerFiles().read(master)
    assert secret not in repr(facts)
    assert secret not in (facts.sources.cmd_args or "")
    assert secret not in repr(effective_settings(facts.sources))


def test_a_title_that_hides_the_command_line_hides_the_sources() -> None:
    titled = process(os.getpid(), command=("gunicorn: master [app:app]",))
    sources = read_sources(titled)
    assert (sources.command_line, sources.cmd_args, sources.config_file) == (None, None, None)
    assert all(setting.value is None for setting in effective_settings(sources))


def test_a_master_that_is_gone_has_unknown_sources() -> None:
    gone = process(2**22 - 1)
    sources = read_sources(gone)
    assert (sources.cmd_args, sources.config_file) == (None, None)
    assert read_release(gone) is None


def test_arguments_that_gunicorn_would_refuse_leave_the_file_unknown() -> None:
    assert read_sources(process(os.getpid(), command=("gunicorn", "-c"))).config_file is None


def test_a_python_module_as_config_is_unknown() -> None:
    assert read_sources(process(os.getpid(), command=("gunicorn", "-c", "python:my.conf"))).config_file is None


@pytest.mark.servers
def test_reading_again_costs_next_to_nothing(server: Server) -> None:
    files, master = ServerFiles(), master_of(server)
    eventually("the file is as it was", lambda: files.read(master) is files.read(master))
    before = time.thread_time()
    for _ in range(100):
        files.read(master)
    assert (time.thread_time() - before) / 100 < 0.002
