"""What the API server told us last of workloads and adopted pods.

In: objects that are there, objects that are gone. Out: the same objects, asked of nobody; bells rung for what changed.
Rule: a mirror may be late and may be lost; so every write names the version that it looked at, and whoever misses
something here asks the API server once more. Nothing in one object keeps the others from being told.

A thousand workloads are held packed (about 1 kB each; as Python objects they would be 40 kB each), and of a pod only
what the reader of reports needs.
"""

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsgi_contract import names
from wsgi_operator.bells import Bells, Workload
from wsgi_operator.core.evidence import Pod
from wsgi_operator.core.pods import pods_of

log = logging.getLogger("wsgi_operator")

Object = Mapping[str, Any]


class Sink(Protocol):
    """Where a followed kind of object is told to."""

    def there(self, body: Object) -> None:
        """This object is there, new or changed."""

    def gone(self, body: Object) -> None:
        """This object is there no more."""

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Of that namespace (None: of all) these were told, and no others are there."""


@dataclass(frozen=True, slots=True)
class _Packed:
    """A workload: which one it is, its version, and the whole of it."""

    uid: str
    version: str
    bytes: bytes


@dataclass(slots=True)
class _Unread:
    """Objects of one kind that could not be read: each is logged once, however often it changes."""

    kind: str
    logged: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def bearing(self, body: Object) -> Iterator[None]:
        """Live on, whatever reading this object raises."""
        namespace, name, uid = (body["metadata"][key] for key in ("namespace", "name", "uid"))
        try:
            yield
        except Exception:
            if uid not in self.logged:
                extra = {"event": "object-unread", "object": f"{namespace}/{name}"}
                log.exception("%s %s in namespace %s cannot be read", self.kind, name, namespace, extra=extra)
            self.logged[uid] = namespace

    def gone(self, uid: str) -> None:
        """Forget it."""
        self.logged.pop(uid, None)

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Forget what a full list did not name."""
        kept = ((uid, where) for uid, where in self.logged.items() if namespace not in (None, where) or uid in uids)
        self.logged = dict(kept)


class Workloads:
    """All workloads of one kind."""

    def __init__(self, kind: str, bells: Bells, heard: Callable[[Object], None]) -> None:
        """Nothing is known yet; changes ring the bells of whoever listens to that workload, and are heard."""
        self._kind = kind
        self._bells = bells
        self._heard = heard
        self._held: dict[tuple[str, str], _Packed] = {}
        self._unread = _Unread(kind)

    def look(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The workload, as an object of the caller's own; None if none is known."""
        packed = self._held.get((namespace, name))
        return None if packed is None else json.loads(zlib.decompress(packed.bytes))

    def there(self, body: Object) -> None:
        """Hold this version, unless a later one is held already."""
        key, metadata = _key(body), body["metadata"]
        held = self._held.get(key)
        if held is not None and held.uid == metadata["uid"] and not _later(metadata["resourceVersion"], held.version):
            return
        text = json.dumps(dict(body) | {"apiVersion": "apps/v1", "kind": self._kind}, separators=(",", ":"))
        self._held[key] = _Packed(metadata["uid"], metadata["resourceVersion"], zlib.compress(text.encode(), 1))
        with self._unread.bearing(body):
            self._heard(body)
        self._ring(key)

    def gone(self, body: Object) -> None:
        """Forget it, unless another of that name was made since."""
        key = _key(body)
        held = self._held.get(key)
        self._unread.gone(body["metadata"]["uid"])
        if held is not None and held.uid == body["metadata"]["uid"]:
            del self._held[key]
            self._ring(key)

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Forget what a full list did not name."""
        self._unread.only(namespace, uids)
        missing = [key for key, held in self._held.items() if namespace in (None, key[0]) and held.uid not in uids]
        for key in missing:
            del self._held[key]
            self._ring(key)

    def _ring(self, key: tuple[str, str]) -> None:
        workload: Workload = (key[0], self._kind, key[1])
        self._bells.ring(workload)


class Pods:
    """All pods that carry the label of a WSGIServer; those that end are there no more."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._held: dict[tuple[str, str], dict[str, Pod]] = {}
        self._shelf_of: dict[str, tuple[str, str]] = {}
        self._unread = _Unread("Pod")

    def look(self, namespace: str, server: str) -> tuple[Pod, ...]:
        """The pods of one WSGIServer."""
        return tuple(self._held.get((namespace, server), {}).values())

    def there(self, body: Object) -> None:
        """Hold it in the place of what was known of it, perhaps under another WSGIServer's name."""
        metadata = body["metadata"]
        self._forget(metadata["uid"])
        server = (metadata.get("labels") or {}).get(names.LABEL_SERVER)
        if server is None:
            return
        with self._unread.bearing(body):
            for pod in pods_of([body]):
                shelf = (metadata["namespace"], server)
                self._held.setdefault(shelf, {})[pod.uid] = pod
                self._shelf_of[pod.uid] = shelf

    def gone(self, body: Object) -> None:
        """Forget it."""
        self._unread.gone(body["metadata"]["uid"])
        self._forget(body["metadata"]["uid"])

    def only(self, namespace: str | None, uids: Set[str]) -> None:
        """Forget what a full list did not name."""
        self._unread.only(namespace, uids)
        for uid in [uid for uid, shelf in self._shelf_of.items() if namespace in (None, shelf[0]) and uid not in uids]:
            self._forget(uid)

    def _forget(self, uid: str) -> None:
        shelf = self._shelf_of.pop(uid, None)
        if shelf is not None:
            del self._held[shelf][uid]
            if not self._held[shelf]:
                del self._held[shelf]


class Mirror:
    """Workloads by kind, and pods.

    Attributes:
        complete: set once all that is in the cluster was told; before, a thing that is missing here may be there.
    """

    def __init__(self, bells: Bells, heard: Callable[[Object], None] = lambda _: None) -> None:
        """Nothing is known yet; `heard` is told of every workload while it is not packed yet."""
        self.complete = asyncio.Event()
        self.workloads = {kind: Workloads(kind, bells, heard) for kind in ("Deployment", "StatefulSet")}
        self.pods = Pods()

    def workload(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The workload as it was told last; None if none is known."""
        return self.workloads[kind].look(namespace, name)

    def learn(self, workload: Object) -> None:
        """A version that a write of ours was answered with: the watch will tell it, too, a moment later."""
        self.workloads[workload["kind"]].there(workload)


def _key(body: Object) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _later(version: str, than: str) -> bool:
    """Whether a resource version is later than another; where they are no numbers, any other one is."""
    if version.isdigit() and than.isdigit():
        return int(version) > int(than)
    return version != than
