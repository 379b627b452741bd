"""Settings that nothing on disk tells, asked from a real gunicorn's control socket."""

import pytest

from tests.servers.server import eventually
from tests.servers.watched import Watched

pytestmark = pytest.mark.servers


def test_settings_behind_a_process_title_are_told_by_the_control_socket() -> None:
    with Watched("27.0.1", "-w", "2", "-k", "gthread", "--threads", "3", suffix="+setproctitle") as server:
        eventually("the settings are told", lambda: _source(server, "threads") == "control-socket")
        told = {setting.name: setting.value for setting in server.report().settings}
        assert (told["workers"], told["threads"], told["worker_class"]) == (2, 3, "gthread")
        assert [u.what for u in server.report().unknowns if u.what.startswith("settings")] == ["settings: backlog"]


def _source(server: Watched, name: str) -> str | None:
    setting = server.report().setting(name)
    return setting.source if setting else None
