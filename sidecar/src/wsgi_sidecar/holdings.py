"""What the server's own processes hold open: heartbeats, listeners, accepted connections.

In: the master and its kin of one look. Out: the same processes with their holdings, and the server's listeners. Rule:
as long as no process of the server has more or fewer open files than before, it holds what it held. Once one has, and
every fifth look if anything moved over TCP, one dump of the connections on the server's ports tells which exist; who
holds them is remembered, and a process is scanned again only if its number of files changed, or a connection exists
that nobody is known to hold.

So the counts are exact as of the dump; idle connections cost nothing between dumps, 0.5 us each in a dump, and 2.9 us
each in the scans that this avoids. What it misses until the next dump: a worker that closed one connection and opened
one file of another kind in its place.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from wsgi_contract.report import ProcessId
from wsgi_sidecar.core.family import CONTROL_SOCKET
from wsgi_sidecar.core.kinship import Kinship
from wsgi_sidecar.core.masters import is_candidate
from wsgi_sidecar.core.snapshot import FileId, HeartbeatFile, Listener, Process
from wsgi_sidecar.netlink import Accepted
from wsgi_sidecar.open_files import OpenFiles
from wsgi_sidecar.segments import Moved, Segments
from wsgi_sidecar.sockets import SocketTable

_DUMP_EVERY: Final = 5
"""Looks after which the connections are dumped although nobody's number of files changed, unless nothing moved."""
_SPARED_AT_MOST: Final = 12
"""Dumps spared in a row: what is remembered repairs itself within a minute, whatever the kernel's counters miss."""
GONE: Final = (FileNotFoundError, ProcessLookupError)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a close look found.

    Attributes:
        processes: those looked at, with their holdings.
        vanished: those that ended while we looked.
        listeners: that one of them holds; None where the socket table could not be read.
    """

    processes: tuple[Process, ...]
    vanished: tuple[ProcessId, ...]
    listeners: tuple[Listener, ...] | None


class Holdings:
    """The open files of the server's processes, kept between looks.

    Attributes:
        still: at the last look a dump was due and spared, for nothing had moved since the last one.
    """

    def __init__(self, sockets: SocketTable, root: str = "/proc", *, segments: Segments | None = None) -> None:
        """Read nothing yet.

        Args:
            sockets: the socket table.
            root: where /proc is.
            segments: tells whether anything moved; our own by default.
        """
        self._sockets = sockets
        self._root = root
        self._open: dict[ProcessId, OpenFiles] = {}
        self._listeners: tuple[Listener, ...] | None = None
        self._accepted: Accepted | None = None
        self._segments = segments or Segments(root)
        self._moved: Moved | None = None
        self._spared = 0
        self._looks_since_dump = _DUMP_EVERY
        self.still = False

    def close(self) -> None:
        """Let go of all descriptors; the next look opens them again."""
        self._keep(())
        self._segments.close()
        self._moved = None
        self._looks_since_dump = _DUMP_EVERY

    @property
    def unread(self) -> frozenset[int]:
        """Inodes of accepted connections with bytes that nobody had read at the last dump."""
        return self._accepted.unread if self._accepted is not None else frozenset()

    def read(self, master: Process, kinship: Kinship, *, afresh: bool = False) -> Held:
        """Look closely at the master and its children, and at the children of a master that is about to succeed it.

        Args:
            master: of the server.
            kinship: of all processes of this look.
            afresh: dump the connections, unless nothing moved.
        """
        holders = self._with_children(master, kinship)
        for successor in _successors(holders):
            holders += self._with_children(successor.process, kinship)[1:]
        self._keep(holder.process.id for holder in holders)
        changed = any(holder.changed() for holder in holders)
        self._looks_since_dump += 1
        due = afresh or self._looks_since_dump >= _DUMP_EVERY
        self.still = due and not changed and self._stands_still()
        if changed or (due and not self.still):
            self._dump(holders)
        else:
            self._refresh_queues()
        connections = self._accepted.inodes if self._accepted is not None else None
        told = _tell(holders, self._listeners, connections)
        vanished = tuple(holder.process.id for holder in holders if holder.gone)
        return Held(processes=told, vanished=vanished, listeners=self._listeners)

    def _stands_still(self) -> bool:
        """Whether a dump would tell what the last one told; then it counts as one."""
        if self._moved is None or self._accepted is None or self._accepted.unread or self._spared >= _SPARED_AT_MOST:
            return False
        if any(listener.port is None for listener in self._listeners or ()) or self._segments.read() != self._moved:
            return False
        self._looks_since_dump = 0
        self._spared += 1
        return True

    def _dump(self, holders: list["_Holder"]) -> None:
        """Ask for all listeners and connections, and find out who holds them."""
        self._looks_since_dump = self._spared = 0
        self._moved = self._segments.read()
        listening = self._sockets.listeners()
        self._listeners = None if listening is None else _held_by(holders, listening)
        self._accepted = self._sockets.accepted(self._listeners) if self._listeners is not None else None
        _attribute(holders, self._accepted.inodes if self._accepted is not None else frozenset())

    def _refresh_queues(self) -> None:
        """Ask for the listeners again that we know; a master that opened another has another number of files."""
        if self._listeners:
            self._listeners = self._sockets.refreshed(self._listeners)

    def connections(self, process: ProcessId, listeners: Collection[Listener]) -> frozenset[int] | None:
        """Accepted connections of these listeners that this process holds now; None where it cannot be told.

        Raises:
            FileNotFoundError: the process is gone.
            ProcessLookupError: likewise.
        """
        accepted = self._sockets.accepted(listeners)
        try:
            files = self._open.get(process) or OpenFiles(process.pid, self._root)
        except PermissionError:
            return None
        try:
            if not listeners:
                return frozenset()
            files.scan(accepted.inodes if accepted is not None else ())
            return files.sockets & accepted.inodes if accepted is not None else None
        except PermissionError:
            return None
        finally:
            if process not in self._open:
                files.close()

    def heartbeats(self, process: ProcessId) -> tuple[HeartbeatFile, ...] | None:
        """Heartbeat files that this process holds, as they are now; None where nobody looked at it, or it is gone."""
        files = self._open.get(process)
        try:
            return files.heartbeats() if files is not None else None
        except (PermissionError, *GONE):
            return None

    def sockets(self) -> dict[ProcessId, frozenset[int]]:
        """Inodes of all sockets of each process looked at, as of its last scan; each scan makes a new set."""
        return {who: files.sockets for who, files in self._open.items() if files.scanned}

    def _with_children(self, parent: Process, kinship: Kinship) -> list["_Holder"]:
        """A parent and its children, each scanned if it is new."""
        holders = [_Holder(process, *self._files(process)) for process in (parent, *kinship.children(parent))]
        for holder in holders:
            if holder.new:
                holder.scan()
        return holders

    def _files(self, process: Process) -> tuple[OpenFiles | None, bool]:
        """Its open files, and whether it vanished; a zombie holds none."""
        if process.state == "Z":
            return None, False
        try:
            if process.id not in self._open:
                self._open[process.id] = OpenFiles(process.id.pid, self._root)
        except PermissionError:
            return None, False
        except GONE:
            return None, True
        return self._open[process.id], False

    def _keep(self, identities: Iterable[ProcessId]) -> None:
        kept = frozenset(identities)
        for identity in self._open.keys() - kept:
            self._open.pop(identity).close()


class _Holder:
    """One process while a look lasts: `files` is None where the kernel refuses; `gone` once it vanished."""

    __slots__ = ("_changed", "files", "gone", "process", "scanned")

    def __init__(self, process: Process, files: OpenFiles | None, gone: bool) -> None:
        self.process = process
        self.files = files
        self.gone = gone
        self.scanned = False
        self._changed: bool | None = None

    def changed(self) -> bool:
        """Whether the number of its open files differs from that at the last scan before this look, or it is new."""
        if self._changed is None:
            self._changed = self.scanned or bool(self._attempt(OpenFiles.changed))
        return self._changed

    @property
    def new(self) -> bool:
        return self.files is not None and not self.files.scanned

    @property
    def sockets(self) -> frozenset[int]:
        return self.files.sockets if self.files is not None else frozenset()

    @property
    def heartbeat_ids(self) -> frozenset[FileId]:
        return self.files.heartbeat_ids if self.files is not None else frozenset()

    def scan(self, held: Collection[int] = ()) -> None:
        if self.files is not None and not self.gone and not self.scanned:
            self._attempt(lambda files: files.scan(held))
            self.scanned = self.files is not None

    def heartbeats(self) -> tuple[HeartbeatFile, ...]:
        return self._attempt(OpenFiles.heartbeats) or ()

    def _attempt(self, action: Callable[[OpenFiles], Answer]) -> Answer | None:
        if self.files is None or self.gone:
            return None
        try:
            return action(self.files)
        except PermissionError:
            # The folder opens to the same user; what lies in it is shown to those with all its capabilities alone.
            self.files = None
            return None
        except GONE:
            self.gone = True
            return None


def _successors(holders: list[_Holder]) -> list[_Holder]:
    """Children of the master that look like masters themselves: gunicorns that share no heartbeat with it."""
    ours = holders[0].heartbeat_ids
    return [each for each in holders[1:] if each.files and is_candidate(each.process) and not ours & each.heartbeat_ids]


def _held_by(holders: list[_Holder], listening: tuple[Listener, ...]) -> tuple[Listener, ...]:
    inodes = frozenset[int]().union(*(holder.sockets for holder in holders))
    return tuple(each for each in listening if each.inode in inodes and not each.address.endswith(CONTROL_SOCKET))


def _attribute(holders: list[_Holder], connections: frozenset[int]) -> None:
    """Scan until every connection has a holder: first whose number of files changed, then, if need be, the others."""
    for holder in holders:
        if holder.changed():
            holder.scan(connections)
    if connections - frozenset[int]().union(*(holder.sockets for holder in holders)):
        for holder in holders:
            holder.scan(connections)


def _tell(
    holders: list[_Holder], listeners: tuple[Listener, ...] | None, connections: frozenset[int] | None
) -> tuple[Process, ...]:
    beats = {beat.id: beat for holder in holders[1:] for beat in holder.heartbeats()}
    # The first look may fall into the start: a worker's file took another one's place, and the master's number stayed.
    if not beats.keys() <= holders[0].heartbeat_ids:
        holders[0].scan()
    # The master's copies are the workers' files: stat them once. Where they are not, a worker came or went; the number
    # of the master's files need not show it, for a respawned worker's file takes the descriptor of the dead one's.
    if not holders[0].heartbeat_ids <= beats.keys():
        beats |= {beat.id: beat for beat in holders[0].heartbeats()}
    listening = None if listeners is None else frozenset(listener.inode for listener in listeners)
    return tuple(_told(each, beats, listening, connections) for each in holders if not each.gone)


def _told(
    holder: _Holder,
    beats: Mapping[FileId, HeartbeatFile],
    listening: frozenset[int] | None,
    connections: frozenset[int] | None,
) -> Process:
    files = holder.files
    if files is None:
        return holder.process
    seen = holder.process
    # Spelled out: `dataclasses.replace` takes four times as long, and this is done for every worker at every look.
    return Process(
        id=seen.id,
        ppid=seen.ppid,
        name=seen.name,
        command=seen.command,
        state=seen.state,
        cpu_s=seen.cpu_s,
        thread_count=seen.thread_count,
        rss_bytes=seen.rss_bytes,
        cgroup=seen.cgroup,
        uid=seen.uid,
        gid=seen.gid,
        started_at=seen.started_at,
        session=seen.session,
        container=seen.container,
        fd_count=files.count_at_scan,
        heartbeats=tuple(beats[each] for each in files.heartbeat_ids if each in beats),
        listeners=None if listening is None else files.sockets & listening,
        connections=None if connections is None else files.held(connections),
    )
