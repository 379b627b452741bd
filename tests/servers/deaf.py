"""A log that nobody reads any more: the arbiter that writes to it blocks for ever, on any release.

In: a server started inside of `DEAF` with `DEAF_FILES`. Out: once the file `deaf` is in its folder and enough workers
died, an arbiter that stands still. Rule: bounded; the pipe is as small as the kernel allows.
"""

import contextlib
import os
import signal
import sys
from typing import Final

from tests.servers.server import Server, eventually

_READER: Final = """
import fcntl, os, subprocess, sys, threading, time

# A log reader that stops reading once the file `deaf` appears: the pipe fills up, and whoever writes to it blocks.
there, here = os.pipe()
fcntl.fcntl(here, fcntl.F_SETPIPE_SZ, 4096)
child = subprocess.Popen(sys.argv[1:], stderr=here)
os.close(here)

def read():
    while not os.path.exists("deaf"):
        sys.stderr.buffer.write(os.read(there, 4096))
        sys.stderr.buffer.flush()

threading.Thread(target=read, daemon=True).start()
child.wait()
time.sleep(600)  # a sidecar that watches this process and all below can still be asked when the server has ended
"""
DEAF: Final = (sys.executable, "reader.py")
DEAF_FILES: Final = {"reader.py": _READER}


def kill_workers_until_nobody_comes(server: Server) -> None:
    """Every dead worker makes the arbiter write; bounded: 200 lines fill a pipe of 4 KiB for certain."""
    for _ in range(200):
        workers = server.worker_pids()
        if not workers:
            return
        os.kill(workers[0], signal.SIGKILL)
        with contextlib.suppress(AssertionError):
            eventually("another worker comes", lambda gone=workers[0]: _others(server, gone), within_s=4)  # type: ignore[misc]


def _others(server: Server, gone: int) -> list[int]:
    return [pid for pid in server.worker_pids() if pid != gone]
