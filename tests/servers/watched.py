"""What a sidecar tells, read as its readers read it: the log, /report and /metrics.

In: a sidecar started around a server (`Watched`) or beside one (`Beside`). Out: its `Report`, its samples, its events.
Rule: everything goes through the real doors: the log's lines, HTTP, pydantic, Prometheus' own parser.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from prometheus_client.parser import text_string_to_metric_families
from pydantic import TypeAdapter

from tests.servers.processes import VARIABLE, end_marked, new_mark
from tests.servers.server import PATIENCE_S, Answer, Server, eventually, get
from wsgi_contract.policy import Policy, dump_policy
from wsgi_contract.report import Report, WorkerInfo

COMMAND: Final = (sys.executable, "-m", "wsgi_sidecar")
REPORT: Final = TypeAdapter(Report)
Event = dict[str, Any]


def events_in(log: str) -> list[Event]:
    """The sidecar's lines of a log that others write to, too."""
    lines = (line for line in log.splitlines() if line.startswith('{"time"') and line.endswith("}"))
    return [json.loads(line) for line in lines]


class Told(ABC):
    """What a sidecar says through its port and its log."""

    @property
    @abstractmethod
    def log(self) -> str:
        """All that was printed."""

    @property
    def sidecar_port(self) -> int:
        """Its HTTP port, as its first line tells it."""
        return int(self.events("listening")[0]["port"])

    def events(self, name: str | None = None) -> list[Event]:
        """Its log lines, all or of one event."""
        return [event for event in events_in(self.log) if name in (None, event["event"])]

    def ask(self, path: str) -> Answer:
        """One request to the sidecar."""
        return get(self.sidecar_port, path)

    def report(self) -> Report:
        """Its Report, read as the operator reads it."""
        return REPORT.validate_json(self.ask("/report").body)

    def workers(self) -> tuple[WorkerInfo, ...]:
        """The Report's workers; none where it knows none yet."""
        return self.report().workers or ()

    def sample(self, name: str, **labels: str) -> float | None:
        """The value of one metric with exactly these labels; None if it is absent."""
        families = text_string_to_metric_families(self.ask("/metrics").body)
        samples = (sample for family in families for sample in family.samples)
        return next((sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)), None)

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """All values of one metric by their labels' values, in the labels' order."""
        families = text_string_to_metric_families(self.ask("/metrics").body)
        return {
            tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
            for family in families
            for sample in family.samples
            if sample.name == name
        }


class Watched(Server, Told):
    """A server under `wsgi-sidecar run`; the block begins when the sidecar has named its workers.

    Args:
        release: gunicorn's.
        arguments: for gunicorn.
        policy: for the sidecar; None leaves it its default.
        scan_interval_s: for the sidecar.
        options: more of them.
        others: as `Server`.
    """

    def __init__(
        self,
        release: str,
        *arguments: str,
        policy: Policy | None = None,
        scan_interval_s: float = 0.5,
        options: tuple[str, ...] = (),
        files: Mapping[str, str] | None = None,
        **others: Any,
    ) -> None:
        given = ("--policy-file", "policy.json") if policy else ()
        own = ("--port", "0", "--scan-interval", str(scan_interval_s), "--log-format", "json", *given, *options)
        super().__init__(
            release,
            *arguments,
            inside=(*COMMAND, "run", *own, "--"),
            files=dict(files or {}) | ({"policy.json": dump_policy(policy)} if policy else {}),
            **others,
        )

    def _is_up(self) -> bool:
        if not super()._is_up() or not self.events("listening"):
            return False
        return self.ask("/readyz").status == 200 and bool(self.workers())


class Beside(Told):
    """`wsgi-sidecar watch`, attached to a server that runs already.

    Args:
        options: of it; without `--pid` it would watch, and heal, whatever server of this machine is the eldest.
        scan_interval_s: likewise.
        inside: command that starts it, such as `setpriv`, which takes a right away.

    Raises:
        ValueError: no `--pid`.
    """

    def __init__(self, *options: str, scan_interval_s: float = 0.5, inside: Sequence[str] = ()) -> None:
        if "--pid" not in options:
            raise ValueError(f"whose server is to be watched? There is no --pid in {options}")
        own = ("--port", "0", "--scan-interval", str(scan_interval_s), "--log-format", "json")
        self._command = (*inside, *COMMAND, "watch", *own, *options)
        self._mark = new_mark()

    def __enter__(self) -> Self:
        """Start it and wait until it took its first look."""
        self._folder = tempfile.TemporaryDirectory(prefix="wsgi-sidecar-")
        self._log_path = Path(self._folder.name) / "sidecar.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder.name,
                env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", VARIABLE: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            eventually("the sidecar took its first look", self._is_up)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if error is not None:
            error.add_note(f"--- {' '.join(self._command)}\n{self.log[-6000:]}")
        end_marked(self._mark)
        self._process.wait(10)
        self._folder.cleanup()

    @property
    def log(self) -> str:
        """All that it printed."""
        return self._log_path.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The sidecar's."""
        return self._process.pid

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Signal it, and give its exit code."""
        self._process.send_signal(signal_number)
        return self.wait()

    def wait(self) -> int:
        """Wait for it to end by itself; its exit code."""
        return self._process.wait(PATIENCE_S)

    def _is_up(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the sidecar ended with {self._process.returncode} while starting")
        return bool(self.events("listening")) and self.ask("/readyz").status == 200
