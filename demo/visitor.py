"""Runs in the demo's pod of visitors: steady load, or connections that say nothing.

In: `load HOST PORT` or `hold HOST PORT COUNT`. Out: one line of JSON for each second of load. Rule: the standard
library and `demo.load` alone, for it runs on whatever Python the shop's image has; `hold` ends with its input.
"""

import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from demo.load import Load, SilentClients

CLIENTS = 8
"""Well below the shop's worker_connections: in gunicorn 21.2 to 23 more ordinary clients than that freeze it, too."""


def main(words: Sequence[str]) -> int:
    """Run what the words say."""
    match list(words):
        case ["load", host, port]:
            visit(host, int(port))
        case ["hold", host, port, count]:
            hold(host, int(port), int(count))
        case _:
            print("usage: visitor load HOST PORT | hold HOST PORT COUNT", file=sys.stderr)
            return 2
    return 0


def visit(host: str, port: int) -> None:
    """Ask until the bounds of `Load` are reached, and print every second as it passes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    told = 0
    with Load(host, port, clients=CLIENTS) as load:
        while load.running:
            time.sleep(0.25)
            for second in load.seconds()[told:]:
                print(json.dumps(asdict(second)), flush=True)
                told += 1


def hold(host: str, port: int, count: int) -> None:
    """Open `count` connections, say so, say nothing on them until standard input ends."""
    with SilentClients(host, port, count):
        print(f"holding {count}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
