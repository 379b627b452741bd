"""Who descends from whom, over the processes of one look.

In: processes with their parents' pids. Out: children, descendants, ancestors. Rule: a process whose parent is not among
them hangs at the top, and a circle (pids reused between two reads) is walked once.
"""

from collections.abc import Iterable, Iterator

from wsgi_sidecar.core.snapshot import Process


class Kinship:
    """The family tree of all processes of one look; built once, asked often."""

    __slots__ = ("_by_pid", "_children")

    def __init__(self, processes: Iterable[Process]) -> None:
        """Index the processes."""
        self._by_pid = {process.id.pid: process for process in processes}
        self._children: dict[int, list[Process]] = {}
        for process in self._by_pid.values():
            self._children.setdefault(process.ppid, []).append(process)

    def find(self, pid: int) -> Process | None:
        """The process with that pid."""
        return self._by_pid.get(pid)

    def parent(self, process: Process) -> Process | None:
        """Its parent, if among the processes."""
        return self._by_pid.get(process.ppid)

    def children(self, process: Process) -> tuple[Process, ...]:
        """Its children, the oldest first."""
        return tuple(sorted(self._children.get(process.id.pid, ()), key=_age))

    def ancestors(self, process: Process) -> Iterator[Process]:
        """Its parent, that one's parent, and so on."""
        seen = {process.id.pid}
        above = self.parent(process)
        while above is not None and above.id.pid not in seen:
            seen.add(above.id.pid)
            yield above
            above = self.parent(above)

    def is_within(self, process: Process, pid: int | None) -> bool:
        """Whether it is the process with that pid, or below it; None: anywhere."""
        if pid is None or process.id.pid == pid:
            return True
        return any(ancestor.id.pid == pid for ancestor in self.ancestors(process))

    def descendants(self, process: Process) -> tuple[Process, ...]:
        """All below it, children before their parents: the order in which a tree can be ended."""
        if process.id.pid not in self._children:
            return ()
        order: list[Process] = []
        seen = {process.id.pid}
        waiting = [process]
        while waiting:
            for child in self._children.get(waiting.pop().id.pid, ()):
                if child.id.pid not in seen:
                    seen.add(child.id.pid)
                    order.append(child)
                    waiting.append(child)
        return tuple(reversed(order))


def _age(process: Process) -> tuple[int, int]:
    return process.id.started, process.id.pid
