"""What the command was told: flags over environment over defaults.

In: arguments and environment. Out: `Config`. Rule: a bad value is told in one sentence that names who said it and what
it may be; nothing is guessed and nothing is read from elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from wsgi_contract import names
from wsgi_contract.report import PodIdentity
from wsgi_sidecar.core.statsd_lines import Destination
from wsgi_sidecar.flags import LOOPBACK, SCAN_INTERVAL_S, make_parser
from wsgi_sidecar.log import Format
from wsgi_sidecar.said import ConfigError, Said

__all__ = ["SCAN_INTERVAL_S", "Config", "ConfigError", "StatsdSettings", "parse_config"]

IN_KUBERNETES: Final = "KUBERNETES_SERVICE_HOST"
ALL_INTERFACES: Final = ""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsdSettings:
    """Where the server's statsd comes in.

    Attributes:
        port: UDP on loopback; 0 for any free one.
        path: of a unix socket instead, which tells the worker that sent; None for UDP.
        forward: where every datagram goes on to; None for nowhere.
    """

    port: int
    path: Path | None
    forward: Destination | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that can be set.

    Attributes:
        command: `run` starts the server as our child, `watch` attaches to one.
        server: `run`: the server's own command line.
        pid: `watch`: the master, or a process above it; None looks for it.
        container: `watch`: name of the container whose server is meant; None: nobody said.
        host: address of the port; empty for all interfaces.
        port: 0 for any free one.
        scan_interval_s: seconds between two looks.
        log_format: of stderr.
        policy_file: None where there is none.
        verifiers_file: of the tokens that open the report; None: it is open.
        dry_run: never kill, whatever the policy says.
        pod: where we run; None outside Kubernetes.
        statsd: None where it is not listened to.
        grace_s: seconds between SIGTERM and SIGKILL for the pod, for the lint; None where nobody said.
        order_file: where orders to change settings in place come from; None where nobody may order any.
        in_place: folder that the sidecar writes such settings into, and the server reads; None where there is none.
    """

    command: Literal["run", "watch"]
    server: tuple[str, ...]
    pid: int | None
    host: str
    port: int
    scan_interval_s: float
    log_format: Format
    policy_file: Path | None
    dry_run: bool
    pod: PodIdentity | None
    verifiers_file: Path | None = None
    statsd: StatsdSettings | None = None
    grace_s: float | None = None
    order_file: Path | None = None
    container: str | None = None
    in_place: Path | None = None


def parse_config(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Read the command line.

    Raises:
        ConfigError: something in it cannot be used.
        SystemExit: `--help` or `--version` was asked for and has been answered.
    """
    ours, server = _split(arguments)
    given = make_parser().parse_args(ours)
    if given.command == "run" and not server:
        raise ConfigError("run needs the server's command behind --, for example: wsgi-sidecar run -- gunicorn app:app")
    if given.command == "watch" and server:
        raise ConfigError("watch starts no server; to start one: wsgi-sidecar run -- " + " ".join(server))
    said = Said(vars(given), environment)
    return Config(
        command=given.command,
        server=server,
        pid=said.whole("--pid", None, (1, 2**22)) if given.command == "watch" else None,
        container=said.text("--container", names.ENV_SERVER_CONTAINER) if given.command == "watch" else None,
        host=_host(given.host, environment),
        port=_or(said.whole("--port", names.ENV_PORT, (0, 65535)), names.SIDECAR_PORT),
        scan_interval_s=_or(said.number("--scan-interval", names.ENV_SCAN_INTERVAL, (0.1, 60)), SCAN_INTERVAL_S),
        log_format=said.log_format(),
        policy_file=said.path("--policy-file", names.ENV_POLICY_FILE),
        verifiers_file=said.path("--report-verifiers", names.ENV_VERIFIERS_FILE),
        dry_run=given.dry_run,
        pod=_pod(environment),
        statsd=_statsd(said),
        grace_s=said.number("--termination-grace", names.ENV_TERMINATION_GRACE, (0, 86400)),
        order_file=said.path("--order-file", names.ENV_ORDER_FILE),
        in_place=said.path("--in-place", names.ENV_IN_PLACE),
    )


def _split(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    ours = list(arguments)
    if "--" not in ours:
        return ours, ()
    at = ours.index("--")
    return ours[:at], tuple(ours[at + 1 :])


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _statsd(said: Said) -> StatsdSettings | None:
    port = said.whole("--statsd-port", names.ENV_STATSD_PORT, (0, 65535))
    path = said.path("--statsd-socket", names.ENV_STATSD_SOCKET)
    forward = said.destination("--statsd-forward", names.ENV_STATSD_FORWARD)
    if port is not None and path is not None:
        raise ConfigError("--statsd-port and --statsd-socket exclude each other: gunicorn sends to one place")
    if port is None and path is None:
        if forward is not None:
            raise ConfigError("--statsd-forward needs --statsd-port or --statsd-socket: what comes in there goes on")
        return None
    return StatsdSettings(port=port or 0, path=path, forward=forward)


def _host(given: str | None, environment: Mapping[str, str]) -> str:
    if given is not None:
        return given
    return ALL_INTERFACES if environment.get(IN_KUBERNETES) else LOOPBACK


def _pod(environment: Mapping[str, str]) -> PodIdentity | None:
    namespace, name = environment.get(names.ENV_POD_NAMESPACE), environment.get(names.ENV_POD_NAME)
    if not namespace or not name:
        return None
    return PodIdentity(namespace=namespace, name=name, uid=environment.get(names.ENV_POD_UID) or None)
