"""Where a server's own stream sockets listen, as values.

In: an address as uWSGI's options write it. Out: `StreamAddress`. Rule: an address of all interfaces is asked on
loopback; a path is the server's, inside its own container.
"""

from dataclasses import dataclass
from typing import Final

_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}  # read, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAddress:
    """One of: a TCP address, a unix path, an abstract unix name.

    Attributes:
        host: of TCP; empty for unix.
        port: of TCP; 0 for unix.
        path: of unix, absolute; empty for others.
        abstract: of unix, without the leading zero byte, with the trailing one that uWSGI makes part of it.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    abstract: str = ""

    def __str__(self) -> str:
        """As a person writes it."""
        if self.path or self.abstract:
            return f"unix:{self.path}" if self.path else f"unix:@{self.abstract.rstrip(chr(0))}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_stream_address(text: str, cwd: str = "/") -> StreamAddress | None:
    """Read `127.0.0.1:1717`, `:1717`, `[::1]:1717`, `/run/stats.sock`, `stats.sock`, `@name`; None where it is none.

    >>> str(parse_stream_address(":1717"))
    '127.0.0.1:1717'
    """
    text = text.strip().removeprefix("http://")
    if not text or "\0" in text:
        return None
    if text.startswith("@"):
        return StreamAddress(abstract=f"{text[1:]}\0") if text[1:] else None
    host, colon, port = text.rpartition(":")
    if colon and "/" not in text:
        number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
        host = host.removeprefix("[").removesuffix("]")
        return StreamAddress(host=_EVERYWHERE.get(host, host), port=number) if 0 < number < 65_536 else None
    return StreamAddress(path=text if text.startswith("/") else f"{cwd.rstrip('/')}/{text}")
