"""A command line is gunicorn's only if the program itself is."""

import pytest

from wsgi_sidecar.core.command import Role, arguments, role, script

APP = ("-w", "2", "app:app")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("/usr/bin/python3", "/usr/local/bin/gunicorn", *APP), "gunicorn"),
        (("/venv/bin/python3.11", "-u", "/venv/bin/gunicorn", *APP), "gunicorn"),
        (("python", "-m", "gunicorn", *APP), "gunicorn"),
        (("python", "-mgunicorn", *APP), "gunicorn"),
        (("python", "-Im", "gunicorn.app.wsgiapp", *APP), "gunicorn"),
        (("python3", "-X", "dev", "-W", "ignore", "-m", "gunicorn", *APP), "gunicorn"),
        (("pypy3", "/opt/gunicorn", *APP), "gunicorn"),
        (("gunicorn", *APP), "gunicorn"),
        (("gunicorn: master [app:app]",), "master"),
        (("gunicorn: worker [app:app]",), "worker"),
        (("gunicorn: dirty-worker [app:app]",), None),
        (("sh", "-c", "gunicorn -w 2 app:app"), None),
        (("/bin/sh", "-c", "exec gunicorn"), None),
        (("tini", "--", "gunicorn", *APP), None),
        (("/usr/bin/dumb-init", "gunicorn", *APP), None),
        (("uv", "run", "gunicorn", *APP), None),
        (("/usr/bin/python3", "/usr/bin/poetry", "run", "gunicorn", *APP), None),
        (("/usr/bin/python3", "/usr/bin/wsgi-sidecar", "run", "--", "gunicorn", *APP), None),
        (("python", "-c", "import gunicorn"), None),
        (("python", "-m", "gunicornc"), None),
        (("python", "/usr/bin/gunicornc"), None),
        (("python", "-cm", "gunicorn"), None),
        (("vim", "gunicorn"), None),
        (("python",), None),
        (("python", "-m"), None),
        (("python", "-X"), None),
        ((), None),
        (("",), None),
    ],
)
def test_role(command: tuple[str, ...], expected: Role | None) -> None:
    assert role(command) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("python", "-u", "/usr/bin/gunicorn", *APP), APP),
        (("python", "-m", "gunicorn", *APP), APP),
        (("python", "-mgunicorn", *APP), APP),
        (("gunicorn", *APP), APP),
        (("gunicorn",), ()),
        (("gunicorn: master [app:app]",), None),
        (("sh", "-c", "gunicorn"), None),
    ],
)
def test_the_arguments_are_what_gunicorn_itself_parses(
    command: tuple[str, ...], expected: tuple[str, ...] | None
) -> None:
    assert arguments(command) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("/venv/bin/python", "/venv/bin/gunicorn", *APP), "/venv/bin/gunicorn"),
        (("/opt/gunicorn/bin/gunicorn", *APP), "/opt/gunicorn/bin/gunicorn"),
        (("python", "-m", "gunicorn", *APP), None),
        (("gunicorn", *APP), None),
    ],
)
def test_the_script_has_a_path_or_is_unknown(command: tuple[str, ...], expected: str | None) -> None:
    assert script(command) == expected
