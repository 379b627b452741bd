"""The operator's command: `wsgi-operator`, configured by its environment alone.

In: WSGI_OPERATOR_* variables. Out: an exit code: 0 after SIGTERM, 1 with one sentence when it cannot work here, 2 when
the environment is wrong.
"""

import asyncio
import logging
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Final

import kopf

from wsgi_contract import names
from wsgi_operator import __version__
from wsgi_operator.bells import Bells
from wsgi_operator.cluster import Cluster
from wsgi_operator.config import Config, ConfigError, read_config
from wsgi_operator.connection import Refused, load_configuration
from wsgi_operator.core.keyring import KeyringError
from wsgi_operator.desk import Desk
from wsgi_operator.handlers import build_registry
from wsgi_operator.health import serve_health
from wsgi_operator.keys import KeyFolder
from wsgi_operator.lease import Candidate
from wsgi_operator.logs import configure_logs
from wsgi_operator.metrics import Meters
from wsgi_operator.reports import Reports
from wsgi_operator.watches import WATCHES, keep

log = logging.getLogger("wsgi_operator")

_ENDED: Final = {"event": "ended"}

START_S: Final = 60.0
"""How long an API server is waited for at the start, before we end and leave it to the kubelet to try again."""


def main() -> int:
    """Run the operator until it is told to stop."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(__version__)
        return 0
    if sys.argv[1:]:
        print("wsgi-operator takes no arguments: it is configured by WSGI_OPERATOR_* variables", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _leave)
    try:
        config = read_config(os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    configure_logs(config.log_format, config.log_level)
    try:
        asyncio.run(operate(config))
    except (kopf.PermanentError, kopf.TemporaryError, KeyringError, OSError) as error:
        log.critical("%s", error, extra=_ENDED)
        return 1
    except Exception:
        # whoever started us starts us again
        log.critical("ended by an error; the next start begins where this one stopped", exc_info=True, extra=_ENDED)
        return 1
    return 0


def _leave(*_: object) -> None:
    """End as one who was told to: kopf takes over SIGTERM only once it works."""
    log.info("told to stop before the work has begun", extra=_ENDED)
    sys.exit(0)


async def operate(config: Config) -> None:
    """Connect, check that there is something to operate, wait for our turn, and work.

    Raises:
        kopf.PermanentError: no API server, no permission, no CRD, or the Lease was lost.
        KeyringError: the keys for reports cannot be used.
        OSError: the port for health checks is taken.
    """
    meters, bells = Meters(), Bells()
    keys = KeyFolder(config.report_keys, guards=config.report_auth)
    reports = Reports(timeout_s=config.report_timeout_s)
    watches = WATCHES * max(1, len(config.namespaces))
    async with Cluster(await load_configuration(), meters, watches=watches) as cluster:
        if not await _known(cluster, config.namespaces[0] if config.namespaces else None):
            raise kopf.PermanentError(
                f"the API server does not know {names.PLURAL}.{names.GROUP}: install the CustomResourceDefinition "
                "first (kubectl apply -f charts/wsgi-operator/crds)"
            )
        desk = Desk(config=config, cluster=cluster, reports=reports, meters=meters, bells=bells, keys=keys)
        async with serve_health(desk.pulse, config.port, meters):
            if not config.lease:
                await work(desk)
                return
            me = f"{config.pod_name or names.FIELD_MANAGER}_{uuid.uuid4().hex[:8]}"
            candidate = Candidate(cluster, namespace=config.pod_namespace, name=config.lease, me=me)
            if await our_turn(desk, candidate):
                await candidate.lead(work(desk))


async def _known(cluster: Cluster, namespace: str | None) -> bool:
    """Whether the API server knows our resource; one that is away, as while it restarts, is waited for.

    One that has just come back forbids everything, until it has read the roles.

    Raises:
        kopf.TemporaryError: it is away for longer.
        Refused: it forbids that for longer.
    """
    deadline = asyncio.get_running_loop().time() + START_S
    while True:
        try:
            return await cluster.servers_exist(namespace)
        except (kopf.TemporaryError, Refused) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            log.warning("%s; asking again", error)
            await asyncio.sleep(1.0)


async def our_turn(desk: Desk, candidate: Candidate) -> bool:
    """Stand by until we lead; False if we were told to end before.

    Raises:
        Refused: the API server refuses us the Lease.
    """
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, desk.told.set)
    waits = [asyncio.ensure_future(wait) for wait in (candidate.elected(desk.pulse.stand_by), desk.told.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if waits[0].done():
            waits[0].result()
        return not desk.told.is_set()
    finally:
        desk.pulse.standing_by = False
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def work(desk: Desk) -> None:
    """Operate until we are told to stop; kopf takes SIGTERM from here on."""
    config = desk.config
    watched = ", ".join(config.namespaces) or "all namespaces"
    log.info("wsgi-operator %s watches %s", __version__, watched, extra={"event": "started"})
    desk.meters.leading.set(1)
    watching = asyncio.Event()
    beside = [
        asyncio.ensure_future(keep(desk.cluster, desk.mirror, config.namespaces)),
        asyncio.ensure_future(_ready(desk, watching)),
    ]
    # They begin before kopf does: what begins later it takes for its own, and waits 5 s for that at the end.
    await asyncio.sleep(0)
    try:
        await _operate(desk, watching)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


class Endless:
    """Seconds between kopf's tries: an API server that is away, or refuses us, for an hour finds us where we were.

    kopf itself would give up after a minute and end us; we would come back as late as the kubelet's own back-off says.
    """

    def __iter__(self) -> Iterator[float]:
        """From the start."""
        return chain((1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0), repeat(30.0))


async def _ready(desk: Desk, watching: asyncio.Event) -> None:
    """Ready is who watches and knows what there is."""
    await watching.wait()
    await desk.mirror.complete.wait()
    desk.pulse.ready.set()


async def _operate(desk: Desk, watching: asyncio.Event) -> None:
    await kopf.operator(
        registry=build_registry(desk),
        settings=settings(),
        identity=names.FIELD_MANAGER,  # type: ignore[arg-type]  # else kopf asks for a user name, which a bare uid lacks
        standalone=True,
        clusterwide=not desk.config.namespaces,
        namespaces=desk.config.namespaces,
        stop_flag=desk.told,
        ready_flag=watching,
    )


def settings() -> kopf.OperatorSettings:
    """How kopf shall behave: no Events of its own, no scanning, our own names in what it stores."""
    chosen = kopf.OperatorSettings()
    chosen.persistence.finalizer = names.FINALIZER
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP)
    chosen.networking.error_backoffs = Endless()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.background.instant_exit_timeout = 0.2
    chosen.background.cancellation_polling = 1.0
    return chosen


if __name__ == "__main__":
    sys.exit(main())
