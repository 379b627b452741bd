"""Nobody is told to read what was not written and read back: the door of changes in place, on a real process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsgi_contract.in_place import InPlaceOrder, dump_order
from wsgi_contract.report import ProcessId
from wsgi_contract.settings import Wanted
from wsgi_sidecar.changing import Changing
from wsgi_sidecar.core.journal import Journal, dump_journal, parse_journal
from wsgi_sidecar.orders import OrderFile
from wsgi_sidecar.server_files import ServerFiles
from wsgi_sidecar.strays import read_process
from wsgi_sidecar.testing import AT, family, process, worker

SCRIPT = """
import signal, sys
signal.signal(signal.SIGHUP, lambda *_: print("told", flush=True))
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def master() -> Iterator[tuple[subprocess.Popen[str], ProcessId]]:
    """A process that says when it is told to reload."""
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            seen = read_process(child.pid)
            assert seen is not None
            yield child, seen.id
        finally:
            child.kill()


def test_an_order_is_refused_while_it_is_in_doubt_whose_server_it_is(tmp_path: Path) -> None:
    order = tmp_path / "order.json"
    order.write_text(dump_order(InPlaceOrder(id="a", settings=Wanted(workers=3), within_s=5.0)))
    with master() as (child, who):
        changing = Changing(OrderFile(order), None, ServerFiles())
        server = process(who.pid, started=who.started, command=("gunicorn", "app:app"))
        told = changing.go(family(worker(1), master=server, doubt="it may be another's"), (), AT)
        assert (told.in_place.state, told.in_place.reason) == ("Refused", "it may be another's")
        assert (told.in_place.means, told.in_place.obstacle) == ("none", "it may be another's")
        os.kill(child.pid, signal.SIGTERM)
        assert child.communicate()[0] == ""


def test_a_server_that_reads_no_file_of_ours_is_never_told_to_reload(tmp_path: Path) -> None:
    with master() as (child, who):
        unsettled = Journal(
            order="a", means="config-file", ordered=Wanted(workers=3), settings=Wanted(workers=3), good=Wanted(),
            state="Verifying", reason="", since=AT, master=who, told_ticks=0, within_s=5.0, settled=False,
        )  # fmt: skip
        (tmp_path / "in-place.json").write_text(dump_journal(unsettled))
        server = process(who.pid, started=who.started, command=("gunicorn", "app:app"))
        changing = Changing(OrderFile(None), tmp_path, ServerFiles())
        told = changing.go(family(worker(1, state="booting"), master=server), (), AT)
        assert told.in_place.state == "Failed"
        assert "reads no file of ours" in told.in_place.reason
        os.kill(child.pid, signal.SIGTERM)
        assert child.communicate()[0] == ""
    left = parse_journal((tmp_path / "in-place.json").read_text())
    assert left is not None
    assert left.settings == Wanted(), "what it reads at its next start is what it came up with"
    assert json.loads((tmp_path / "in-place.json").read_text())["settings"] == {}
