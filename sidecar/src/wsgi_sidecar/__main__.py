"""The command: `wsgi-sidecar run -- gunicorn ...` or `wsgi-sidecar watch`.

In: arguments and environment. Out: exit code: the server's own (`run`), 0 (`watch`), 2 for bad input, 127 for a server
that does not exist. Rule: whatever cannot work is told, in one sentence, before anything is started.
"""

import os
import socket
import sys
from collections.abc import Sequence

from wsgi_sidecar.config import Config, ConfigError, parse_config
from wsgi_sidecar.hearing import open_socket
from wsgi_sidecar.hold import outlive

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: without the program's name; the command line's by default.

    Returns:
        The exit code.
    """
    try:
        config = parse_config(sys.argv[1:] if arguments is None else arguments, os.environ)
    except ConfigError as error:
        return _complain(error, BAD_INPUT)

    try:
        return _start(config)
    except ConfigError as error:
        return _complain(error, BAD_INPUT)


def _start(config: Config) -> int:
    if config.statsd is None:
        return _serve(config, None)
    statsd = open_socket(config.statsd)
    if config.command == "run":
        return _serve(config, statsd)
    # A server whose statsd nobody receives fills its log: the socket outlives whatever happens to the work.
    return outlive(lambda: _serve(config, statsd))


def _serve(config: Config, statsd: socket.socket | None) -> int:
    # Imported only now: --help and bad input need none of it, and it is most of the start-up time.
    from wsgi_sidecar.child import StartError  # noqa: PLC0415
    from wsgi_sidecar.serve import serve  # noqa: PLC0415
    from wsgi_sidecar.web import PortError  # noqa: PLC0415

    try:
        return serve(config, statsd)
    except (ConfigError, PortError) as error:
        return _complain(error, BAD_INPUT)
    except StartError as error:
        return _complain(error, error.code)


def _complain(error: Exception, code: int) -> int:
    print(f"wsgi-sidecar: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
