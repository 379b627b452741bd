"""The visitors' pod, seen from the demo: its requests per second, and the silent connections it holds.

In: the pod's log lines. Out: rates and failures since a mark. Rule: a line is kept by its second, so reading the log
again from its beginning changes nothing.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from demo.kube import Kube, fill
from demo.load import Second

HERE: Final = Path(__file__).parent
POD: Final = "visitors"


class Visitors:
    """Steady visitors of an address, from a pod that lives as long as the block.

    Args:
        kube: the cluster and namespace.
        address: host that they visit, on port 80.
        image: any image with Python in it.
    """

    def __init__(self, kube: Kube, address: str, image: str) -> None:
        self._kube = kube
        self._address = address
        self._image = image
        self._seconds: dict[int, Second] = {}
        self._leaving = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._log: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start the pod, with our three modules in a ConfigMap."""
        files = [f"--from-file={HERE / name}" for name in ("clients.py", "load.py", "visitor.py")]
        self._remove()
        self._kube.run("create", "configmap", POD, *files)
        manifest = (HERE / "app" / "visitors.yaml").read_text(encoding="utf-8")
        self._kube.apply(fill(manifest, {"SHOP_IMAGE": self._image, "SHOP_ADDRESS": self._address}))
        self._kube.run("wait", "--for=condition=Ready", f"pod/{POD}", "--timeout=120s")
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the pod."""
        self._leaving.set()
        if self._log:
            self._log.terminate()
        self._remove()
        self._reader.join(10)

    def mark(self) -> int:
        """The number of whole seconds told so far: where a count can begin."""
        return len(self._seconds)

    def rate(self, over_s: int = 1) -> float | None:
        """Requests served per second over the last whole seconds; None while there are not so many."""
        seconds = self.since(self.mark() - over_s)
        return sum(second.served for second in seconds) / over_s if len(seconds) == over_s else None

    def since(self, mark: int) -> list[Second]:
        """The seconds from a mark on."""
        return [self._seconds[at] for at in sorted(self._seconds) if at >= max(mark, 0)]

    @contextmanager
    def silent(self, count: int, address: str, port: int) -> Iterator[None]:
        """Hold connections that say nothing, open when the block begins, closed when it ends."""
        words = ("exec", "-i", POD, "--", "python", "-m", "demo.visitor", "hold", address, str(port), str(count))
        with self._kube.start(*words) as holder:
            assert holder.stdin
            assert holder.stdout
            if not holder.stdout.readline().startswith("holding"):
                raise RuntimeError(f"the visitors could not open {count} connections to {address}:{port}")
            yield
            holder.stdin.close()

    def _read(self) -> None:
        while not self._leaving.is_set():
            with self._kube.start("logs", "--follow", POD) as self._log:
                assert self._log.stdout
                for line in self._log.stdout:
                    self._keep(line)
            self._leaving.wait(0.5)

    def _keep(self, line: str) -> None:
        if line.startswith("{"):
            second = Second(**json.loads(line))
            self._seconds[second.at_s] = second

    def _remove(self) -> None:
        self._kube.run("delete", "pod", POD, "--ignore-not-found", "--grace-period=1")
        self._kube.run("delete", "configmap", POD, "--ignore-not-found")
