"""What the command was told: flags over environment over defaults.

In: arguments and environment. Out: `Config`. Rule: a bad value is told in one sentence that names who said it and what
it may be; nothing is guessed and nothing is read from elsewhere.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeVar

from wsgi_contract import names
from wsgi_contract.report import PodIdentity
from wsgi_sidecar import __version__
from wsgi_sidecar.core.statsd_lines import Destination, DestinationError, parse_destination
from wsgi_sidecar.log import FORMATS, Format

SCAN_INTERVAL_S: Final = 1.0
"""A frozen worker is seen after half an interval on average, and a look costs some 2 ms: 0.2 % of a core."""
IN_KUBERNETES: Final = "KUBERNETES_SERVICE_HOST"
LOOPBACK: Final = "127.0.0.1"
ALL_INTERFACES: Final = ""

T = TypeVar("T")
N = TypeVar("N", int, float)


class ConfigError(Exception):
    """A value that cannot be used; the message says which, and what it may be."""


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
    in_place: Path | None = None


def parse_config(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Read the command line.

    Raises:
        ConfigError: something in it cannot be used.
        SystemExit: `--help` or `--version` was asked for and has been answered.
    """
    ours, server = _split(arguments)
    given = _parser().parse_args(ours)
    if given.command == "run" and not server:
        raise ConfigError("run needs the server's command behind --, for example: wsgi-sidecar run -- gunicorn app:app")
    if given.command == "watch" and server:
        raise ConfigError("watch starts no server; to start one: wsgi-sidecar run -- " + " ".join(server))
    said = _Said(vars(given), environment)
    return Config(
        command=given.command,
        server=server,
        pid=said.whole("--pid", None, (1, 2**22)) if given.command == "watch" else None,
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def _parser() -> _Parser:
    parser = _Parser(
        prog="wsgi-sidecar",
        description="Watches one WSGI server from outside, explains what goes wrong in it, and heals it.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"wsgi-sidecar {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|watch", parser_class=_Parser)
    run = commands.add_parser(
        "run",
        allow_abbrev=False,
        usage="wsgi-sidecar run [options] -- COMMAND [ARGUMENT ...]",
        help="start a server as our child and watch it",
        description="Starts the server as a child, forwards signals to it, and ends with its exit code.",
    )
    watch = commands.add_parser(
        "watch",
        allow_abbrev=False,
        help="watch a server that somebody else started",
        description="Finds the server's master among the processes it can see, and waits while there is none.",
    )
    watch.add_argument("--pid", metavar="N", help="the master, or a process above it; ends when that process ends")
    for command in (run, watch):
        _add_common(command)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--port", metavar="N",
        help=f"port of /metrics and /report; 0 takes any free one [${names.ENV_PORT}, {names.SIDECAR_PORT}]",
    )  # fmt: skip
    parser.add_argument(
        "--host", metavar="ADDRESS",
        help=f"address of that port; '' for all interfaces [all in Kubernetes, {LOOPBACK} elsewhere]",
    )  # fmt: skip
    parser.add_argument(
        "--scan-interval", metavar="S",
        help=f"seconds between two looks, 0.1 to 60 [${names.ENV_SCAN_INTERVAL}, {SCAN_INTERVAL_S:g}]",
    )  # fmt: skip
    parser.add_argument(
        "--termination-grace", metavar="S",
        help=f"the pod's terminationGracePeriodSeconds, for the lint [${names.ENV_TERMINATION_GRACE}, none]",
    )  # fmt: skip
    parser.add_argument("--log-format", metavar="text|json", help=f"of stderr [${names.ENV_LOG_FORMAT}, text]")
    parser.add_argument(
        "--policy-file", metavar="PATH",
        help=f"JSON with what may be done; read again whenever it changes [${names.ENV_POLICY_FILE}, none]",
    )  # fmt: skip
    parser.add_argument(
        "--report-verifiers", metavar="PATH",
        help="give the report only to bearers of a token whose sha256 stands in this file "
        f"[${names.ENV_VERIFIERS_FILE}, to anybody]",
    )  # fmt: skip
    parser.add_argument(
        "--order-file", metavar="PATH",
        help="JSON with settings that the running server shall get; read again whenever it changes "
        f"[${names.ENV_ORDER_FILE}, none]",
    )  # fmt: skip
    parser.add_argument(
        "--in-place", metavar="FOLDER",
        help="where such settings are written for the server to read; `run` has a gunicorn read them "
        f"[${names.ENV_IN_PLACE}, none: then signals change the number of workers alone]",
    )  # fmt: skip
    parser.add_argument(
        "--statsd-port", metavar="N",
        help="receive gunicorn's statsd on this UDP port of loopback, for requests and their durations; `run` points "
        f"the server at it, and takes any free port for 0 [${names.ENV_STATSD_PORT}, off]",
    )  # fmt: skip
    parser.add_argument(
        "--statsd-socket", metavar="PATH",
        help="the same on a unix socket: numbers per worker, but a sidecar short of CPU makes the server wait "
        f"[${names.ENV_STATSD_SOCKET}, off]",
    )  # fmt: skip
    parser.add_argument(
        "--statsd-forward", metavar="ADDRESS",
        help=f"send every datagram on to host:port or unix:///path [${names.ENV_STATSD_FORWARD}, nowhere]",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what would be killed, and touch nothing")


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


class _Said:
    """Who said a value: the flag, or else the environment variable."""

    def __init__(self, flags: Mapping[str, str | None], environment: Mapping[str, str]) -> None:
        self._flags = flags
        self._environment = environment

    def _find(self, flag: str, variable: str | None) -> tuple[str, str] | None:
        value = self._flags.get(flag.removeprefix("--").replace("-", "_"))
        if value is not None:
            return flag, value
        # An empty variable is how a template leaves a value out.
        from_environment = self._environment.get(variable, "") if variable else ""
        return (variable, from_environment) if variable and from_environment else None

    def number(self, flag: str, variable: str | None, bounds: tuple[float, float]) -> float | None:
        return self._parsed(self._find(flag, variable), float, bounds, "a number")

    def whole(self, flag: str, variable: str | None, bounds: tuple[int, int]) -> int | None:
        return self._parsed(self._find(flag, variable), int, bounds, "a whole number")

    def _parsed(
        self, found: tuple[str, str] | None, parse: Callable[[str], N], bounds: tuple[N, N], kind: str
    ) -> N | None:
        if found is None:
            return None
        who, text = found
        try:
            value = parse(text)
        except ValueError:
            value = None
        low, high = bounds
        if value is None or not low <= value <= high:
            raise ConfigError(f"{who} is {text!r}; it may be {kind} from {low} to {high}")
        return value

    def log_format(self) -> Format:
        who, text = self._find("--log-format", names.ENV_LOG_FORMAT) or ("", "text")
        chosen = next((form for form in FORMATS if form == text), None)
        if chosen is None:
            raise ConfigError(f"{who} is {text!r}; it may be {' or '.join(FORMATS)}")
        return chosen

    def path(self, flag: str, variable: str) -> Path | None:
        found = self._find(flag, variable)
        return Path(found[1]) if found else None

    def destination(self, flag: str, variable: str) -> Destination | None:
        found = self._find(flag, variable)
        try:
            return parse_destination(found[1]) if found else None
        except DestinationError as error:
            raise ConfigError(f"{found[0] if found else flag}: {error}") from None


def _statsd(said: _Said) -> StatsdSettings | None:
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
