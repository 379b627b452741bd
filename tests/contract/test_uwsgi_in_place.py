"""The ini of ours by which a running uWSGI is changed."""

import pytest

from wsgi_contract.servers.uwsgi_in_place import (
    can_reload,
    least_workers,
    our_ini,
    parse_ini,
    reloads_by_itself,
    render_ini,
    stronger,
)
from wsgi_contract.servers.uwsgi_options import Sources
from wsgi_contract.settings import Wanted

INI = "/run/wsgi-sidecar/uwsgi.ini"
OURS = render_ini(Wanted(workers=2, timeout_s=30))


def told(*command: str, ini: str = OURS, **environment: str) -> Sources:
    return Sources(
        command_line=("--master", *command),
        environment=(("UWSGI_INI", INI), *environment.items()),
        files={INI: ini, "own.ini": "[uwsgi]\nthreads = 4\n"},
    )


def test_what_is_written_is_read_again() -> None:
    assert parse_ini(OURS) == Wanted(workers=2, timeout_s=30)
    assert parse_ini(render_ini(Wanted())) == Wanted()


@pytest.mark.parametrize("text", ["", "[uwsgi]\nprocesses = 2\n", OURS + "threads = x\n", OURS + "exec = rm\n"])
def test_another_file_is_not_ours(text: str) -> None:
    assert parse_ini(text) is None


def test_our_file_is_found_by_what_stands_in_it() -> None:
    assert our_ini(told()) == INI
    assert our_ini(told(ini="[uwsgi]\nprocesses = 2\n")) is None


def test_the_command_line_and_files_that_it_names_are_stronger() -> None:
    beaten = stronger(told("--processes", "8", "--ini", "own.ini"), INI)
    assert beaten["workers"] == "--processes 8"
    assert "own.ini" in beaten["threads"]
    assert "timeout_s" not in beaten
    assert "no such setting" in stronger(told(), INI)["worker_connections"]


def test_a_variable_behind_ours_is_stronger_too() -> None:
    assert stronger(told(UWSGI_PROCESSES="8"), INI)["workers"] == "UWSGI_PROCESSES=8"


def test_it_does_not_start_with_as_few_workers_as_cheaper_keeps() -> None:
    assert least_workers(told()) is None
    least = least_workers(told("--cheaper", "2"))
    assert least is not None
    assert (least[0], "--cheaper 2" in least[1]) == (3, True)


def test_whether_it_reloads_by_itself_or_at_all() -> None:
    assert not reloads_by_itself(told(), INI)
    assert reloads_by_itself(told(UWSGI_TOUCH_RELOAD=INI), INI)
    assert can_reload(told())
    assert not can_reload(Sources(command_line=("--http-socket", ":80"), environment=()))
