"""The server's probes at the sidecar's port, beside a real gunicorn."""

import os
import signal
import threading

import pytest

from tests.servers.server import eventually
from tests.servers.watched import Watched
from wsgi_contract.policy import Policy

pytestmark = pytest.mark.servers
PROBES = ("/server/livez", "/server/readyz", "/server/startupz")


def test_a_server_whose_only_worker_works_lives_and_one_without_workers_does_not() -> None:
    policy = Policy(probe_grace_s=2, mode="DryRun")
    with Watched("23.0.0", "-w", "1", "--timeout", "60", policy=policy) as server:
        eventually("it is ready", lambda: server.ask("/server/readyz").status == 200)
        working = threading.Thread(target=server.get, args=("/slow?s=5", 30.0))
        working.start()
        while working.is_alive():
            assert [server.ask(path).status for path in PROBES] == [200, 200, 200]
            working.join(0.2)
        # A stopped arbiter replaces nobody.
        os.kill(server.master_pid, signal.SIGSTOP)
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        eventually("it is not ready", lambda: server.ask("/server/readyz").status == 503)
        eventually("it does not live", lambda: server.ask("/server/livez").status == 503)
        assert "no worker" in server.ask("/server/livez").body
        os.kill(server.master_pid, signal.SIGCONT)
        eventually("it lives again", lambda: [server.ask(path).status for path in PROBES] == [200, 200, 200])
