"""Puts the parts together for one life of the sidecar, and takes them apart again.

In: `Config`. Out: the exit code. Rule: the main thread only waits for signals; looks and answers have a thread each.
The port is taken before a server is started, signals are taken before a thread is.
"""

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from socket import socket
from typing import Final

from prometheus_client import CollectorRegistry

from wsgi_contract.report import SidecarInfo
from wsgi_contract.servers.gunicorn import CMD_ARGS
from wsgi_contract.servers.gunicorn_statsd import point_statsd
from wsgi_contract.servers.gunicorn_values import ArgumentsError
from wsgi_sidecar import __version__, log
from wsgi_sidecar.changing import Changing
from wsgi_sidecar.child import Child, take_signals, wait_for_end
from wsgi_sidecar.config import Config, ConfigError, StatsdSettings
from wsgi_sidecar.core.lines import Line
from wsgi_sidecar.core.statsd_lines import DestinationError, parse_destination
from wsgi_sidecar.core.telling import Teller
from wsgi_sidecar.gate import Gate
from wsgi_sidecar.hearing import Hearing, address
from wsgi_sidecar.levers import reads_in_place
from wsgi_sidecar.metrics import StateCollector
from wsgi_sidecar.orders import OrderFile, PolicyFile
from wsgi_sidecar.proc import ProcReader
from wsgi_sidecar.server_files import ServerFiles
from wsgi_sidecar.subreaper import adopt_orphans
from wsgi_sidecar.watch import Ground, Watch
from wsgi_sidecar.web import Pages, WebThread, listen

STOP_S = 2.0
"""How long the end waits for a look under way; a kill under way is not broken off before that."""
YOUNG_OBJECTS: Final = 10_000
"""New objects before the collector looks for circles. A look makes some 400 that live until the next one, so that with
Python's own 700 the collector ran every other second, in vain, for a thirtieth of the sidecar's CPU."""


def serve(config: Config, statsd: socket | None = None) -> int:
    """Watch until told to stop, or until the server has ended.

    Args:
        config: what we were told.
        statsd: the socket to receive on, if the config asks for one; from `hearing.open_socket`.

    Raises:
        ConfigError: there is no process with the given pid.
        PortError: the port cannot be had.
        StartError: the server's command cannot be started.
    """
    log.open_log(config.log_format)
    pidfd = None if config.pid is None else _pidfd(config.pid)
    with listen(config.host, config.port) as listener:
        signals = take_signals()
        if config.command == "watch":
            hearing = Hearing(statsd, config.statsd) if statsd and config.statsd else None
            with _watching(config, listener, hearing, within=config.pid, adopter=None):
                _stopped(wait_for_end(signals, pidfd))
                return 0
        adopter = os.getpid() if adopt_orphans() else None
        environment, hearing = dict(os.environ), None
        if statsd and config.statsd:
            environment, hearing = _pointed(statsd, config.statsd)
        if config.in_place:
            environment |= reads_in_place(environment, config.in_place)
        child = Child(config.server, environment)
        with _watching(config, listener, hearing, within=child.pid, adopter=adopter):
            code = child.wait(signals)
            _stopped(f"the server ended with exit code {code}")
            return code


def _pointed(statsd: socket, settings: StatsdSettings) -> tuple[dict[str, str], Hearing]:
    """The environment that has the server send its statsd to us, and who listens; before the server is started."""
    try:
        pointed = point_statsd(os.environ.get(CMD_ARGS, ""), address(statsd, settings))
        theirs = parse_destination(pointed.theirs) if pointed.theirs else None
    except (ArgumentsError, DestinationError) as error:
        raise ConfigError(f"{CMD_ARGS}: {error}") from None
    hearing = Hearing(statsd, replace(settings, forward=settings.forward or theirs))
    return {**os.environ, CMD_ARGS: pointed.cmd_args}, hearing


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        raise ConfigError(f"--pid is {pid}: {error.strerror}; give the pid of the running master") from None


def _stopped(reason: str) -> None:
    log.write(Line(event="stopped", message=reason, fields={"reason": reason}))


@contextmanager
def _watching(
    config: Config, listener: socket, hearing: Hearing | None, *, within: int | None, adopter: int | None
) -> Iterator[None]:
    reader = ProcReader()
    ground = replace(_ground(config, reader, within, adopter), hearing=hearing)
    watch = Watch(ground, interval_s=config.scan_interval_s)
    stop = threading.Event()
    looks = threading.Thread(target=watch.run, args=(stop,), name="watch", daemon=True)
    web = WebThread(_pages(watch, Gate(config.verifiers_file)), listener)
    _listening(listener)
    _rarely_collect()
    looks.start()
    web.start()
    try:
        yield
    finally:
        stop.set()
        looks.join(STOP_S)
        web.stop()
        if hearing:
            hearing.stop()


def _rarely_collect() -> None:
    """What was imported stays for good and is no garbage; looks make no circles, only failures and HTTP do."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def _ground(config: Config, reader: ProcReader, within: int | None, adopter: int | None) -> Ground:
    sidecar = SidecarInfo(
        version=__version__,
        started_at=time.time(),
        uid=os.geteuid(),
        gid=os.getegid(),
        guarded=config.verifiers_file is not None,
    )
    files = ServerFiles()
    return Ground(
        teller=Teller(sidecar=sidecar, pod=config.pod),
        reader=reader,
        files=files,
        policy_file=PolicyFile(config.policy_file, dry_run=config.dry_run),
        within=within,
        adopter=adopter,
        grace_s=config.grace_s,
        container=config.container,
        changing=Changing(OrderFile(config.order_file), config.in_place, files) if config.order_file else None,
    )


def _pages(watch: Watch, gate: Gate) -> Pages:
    registry = CollectorRegistry()
    registry.register(StateCollector(lambda: watch.latest))
    return Pages(latest=lambda: watch.latest, stuck_s=watch.stuck_s, registry=registry, gate=gate)


def _listening(listener: socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    message = f"report and metrics on http://{shown}:{port}"
    log.write(Line(event="listening", message=message, fields={"host": host, "port": port}))
