"""Who waits for an answer: what the kernel knows of the last bytes that went either way on a connection.

In: the clocks and counters of one accepted TCP connection. Out: `Exchange`. Rule: a request is under way while the far
end has spoken last. That tells its age exactly, for any worker class and without reading one byte of it; how the bytes
divide into requests it does not tell.
"""

from dataclasses import dataclass
from typing import Final

NOTHING_BYTES: Final = 1
"""The kernel counts a far end's FIN as a byte received."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One connection that the server accepted.

    Attributes:
        inode: joins it with the worker that holds it.
        peer: the client's address, for example `10.0.0.5:51234`.
        heard_s: seconds since the last bytes came from the client.
        said_s: seconds since the last bytes were sent to it; since it connected, if there were none.
        received: bytes that came from the client so far.
        confirmed: bytes that the client confirmed so far; 0 while it has got no answer at all.
        left: the client has closed its end.
    """

    inode: int
    peer: str
    heard_s: float
    said_s: float
    received: int
    confirmed: int
    left: bool

    @property
    def unanswered_s(self) -> float | None:
        """Seconds for which the client's last words have had no answer; None where nothing is owed to it.

        The kernel's clock has ticks of 1 to 10 ms. Within one tick an answer follows a request, not the other way
        round, unless none was ever sent.
        """
        if self.received <= NOTHING_BYTES:
            return None
        owed = self.heard_s < self.said_s or (not self.confirmed and self.heard_s == self.said_s)
        return self.heard_s if owed else None
