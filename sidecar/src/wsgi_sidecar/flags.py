"""The flags of the command `wsgi-sidecar`.

In: nothing. Out: the parser. Rule: no flag has a default here, so that the environment may speak where none was given;
each says in brackets which variable does, and what holds without either.
"""

import argparse
from typing import Final, NoReturn

from wsgi_contract import names
from wsgi_sidecar import __version__
from wsgi_sidecar.said import ConfigError

SCAN_INTERVAL_S: Final = 1.0
"""A frozen worker is seen after half an interval on average, and a look costs some 2 ms: 0.2 % of a core."""
LOOPBACK: Final = "127.0.0.1"

COMMON: Final = (
    (
        "--port", "N",
        f"port of /metrics and /report; 0 takes any free one [${names.ENV_PORT}, {names.SIDECAR_PORT}]",
    ),
    (
        "--host", "ADDRESS",
        f"address of that port; '' for all interfaces [all in Kubernetes, {LOOPBACK} elsewhere]",
    ),
    (
        "--scan-interval", "S",
        f"seconds between two looks, 0.1 to 60 [${names.ENV_SCAN_INTERVAL}, {SCAN_INTERVAL_S:g}]",
    ),
    (
        "--termination-grace", "S",
        f"the pod's terminationGracePeriodSeconds, for the lint [${names.ENV_TERMINATION_GRACE}, none]",
    ),
    (
        "--log-format", "text|json",
        f"of stderr [${names.ENV_LOG_FORMAT}, text]",
    ),
    (
        "--policy-file", "PATH",
        f"JSON with what may be done; read again whenever it changes [${names.ENV_POLICY_FILE}, none]",
    ),
    (
        "--report-verifiers", "PATH",
        "give the report only to bearers of a token whose sha256 stands in this file "
        f"[${names.ENV_VERIFIERS_FILE}, to anybody]",
    ),
    (
        "--order-file", "PATH",
        "JSON with settings that the running server shall get; read again whenever it changes "
        f"[${names.ENV_ORDER_FILE}, none]",
    ),
    (
        "--in-place", "FOLDER",
        "where such settings are written for the server to read; `run` has a gunicorn read them "
        f"[${names.ENV_IN_PLACE}, none: then signals change the number of workers alone]",
    ),
    (
        "--statsd-port", "N",
        "receive gunicorn's statsd on this UDP port of loopback, for requests and their durations; `run` points "
        f"the server at it, and takes any free port for 0 [${names.ENV_STATSD_PORT}, off]",
    ),
    (
        "--statsd-socket", "PATH",
        "the same on a unix socket: numbers per worker, but a sidecar short of CPU makes the server wait "
        f"[${names.ENV_STATSD_SOCKET}, off]",
    ),
    (
        "--statsd-forward", "ADDRESS",
        f"send every datagram on to host:port or unix:///path [${names.ENV_STATSD_FORWARD}, nowhere]",
    ),
)  # fmt: skip
"""(flag, what its value is called, what it means) of both commands."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """What `wsgi-sidecar` takes; refuses with a ConfigError."""
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
    watch.add_argument(
        "--container", metavar="NAME",
        help=f"the container whose server is meant, if several have one [${names.ENV_SERVER_CONTAINER}, none]",
    )  # fmt: skip
    for command in (run, watch):
        for flag, value, meaning in COMMON:
            command.add_argument(flag, metavar=value, help=meaning)
        command.add_argument("--dry-run", action="store_true", help="say what would be killed, and touch nothing")
    return parser
