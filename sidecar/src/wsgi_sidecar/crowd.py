"""Who keeps a place on the sidecar's port when there are more that want one.

In: connections as they are made. Out: at most `PLACES` of them stay. Rule: a new one is let in always, and who holds
the most places loses his oldest one. So nobody who fills the port keeps the kubelet out, whose probe restarts the
sidecar if it is not answered, and with `/server/livez` the server: 32 idle connections were enough for that.
"""

import asyncio
from collections import Counter
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

PLACES: Final = 32
"""A scraper, an operator and probes need five."""


class Crowd(H11Protocol):
    """uvicorn's HTTP, with a bound that turns away those who take the most instead of those who come last."""

    made_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        """Let it in, and another one out if need be."""
        super().connection_made(transport)
        self.made_s = self.loop.time()
        others = [each for each in self.connections if isinstance(each, Crowd) and each is not self]
        if len(others) >= PLACES:
            places = Counter(each.peer for each in others)
            places[self.peer] += 1
            most = max(places.values())
            greedy = [each for each in others if places[each.peer] == most] or others
            leaving = min(greedy, key=lambda each: each.made_s)
            self.connections.discard(leaving)
            leaving.transport.abort()

    @property
    def peer(self) -> str:
        """Whose connection it is: an address without the port."""
        return self.client[0] if self.client else ""
