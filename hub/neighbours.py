"""The hubs there are, as this one last read them with its own heartbeat, and which view of them has settled.

What is known is as old as the last heartbeats that Postgres took, this hub's and the others'. Devices sent to a hub
count against its room from the moment they are told, and not twice once its own row counts them: so a burst neither
overruns it nor finds it full too early.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hub.rebalance import Neighbour, Settling, View, next_best
from shared.clock import monotonic
from shared.hub_urls import socket_url
from shared.store.hubs import HubRow

__all__ = ["Neighbours"]


class Neighbours:
    """`on_rows()` is told what the table holds; the rest are plain looks."""

    def __init__(
        self,
        name: str,
        instance: str,
        *,
        period_s: float,
        proxy_url: str | None,
    ) -> None:
        """`on_view()`, set by whoever wants it, is called after every look at the table."""
        self.me = name
        self.instance = instance
        self._proxy_url = proxy_url
        self.on_view: Callable[[], None] = lambda: None
        self._hubs: dict[str, Neighbour] = {}
        self._connections: dict[str, int] = {}
        self._sent: dict[str, _Sent] = {}
        self._counted_s = 2 * period_s
        self.settling = Settling(View({name: instance}), period_s=period_s)

    def __repr__(self) -> str:
        return f"Neighbours({self.settling!r}, {sum(one.accepts for one in self._hubs.values())} take devices)"

    @property
    def view(self) -> View:
        """Who owns what, as of the last look."""
        return self.settling.view

    @property
    def hubs(self) -> Sequence[Neighbour]:
        """All of them, this one included once its row is written."""
        return list(self._hubs.values())

    def on_rows(self, rows: Sequence[HubRow]) -> None:
        """What the table says now."""
        now = monotonic()
        self._sent = {name: sent for name, sent in self._sent.items() if sent.last_at >= now - self._counted_s}
        self._hubs = {row.name: _neighbour(row, self._sent.get(row.name)) for row in rows}
        self._connections = {row.name: row.connections for row in rows}
        self.settling.observe(View.of(self._hubs.values()), now)
        self.on_view()

    def get(self, name: str) -> Neighbour | None:
        """That hub, if it lives."""
        return self._hubs.get(name)

    def url(self, name: str) -> str:
        """Where a device connects to it."""
        return socket_url(name, self._hubs[name].url, self._proxy_url)

    def heir(self, slot: int) -> Neighbour | None:
        """Who takes a device of this slot when this hub leaves."""
        return next_best(slot, self._hubs, me=self.me)

    @property
    def is_alone(self) -> bool:
        """No other hub takes devices, full or not."""
        return all(one.name == self.me or one.draining or one.leaving for one in self._hubs.values())

    def sent_to(self, name: str) -> None:
        """A device was told to go there: it takes one of the seats that were free."""
        hub = self._hubs.get(name)
        if hub is not None:
            self._hubs[name] = hub._replace(room=hub.room - 1)
            before = self._sent.get(name)
            held = max(self._connections.get(name, 0), before.expected if before is not None else 0)
            self._sent[name] = _Sent(held + 1, monotonic())


class _Sent(NamedTuple):
    """How many devices a hub will hold when those sent there have come, and when the last one was told."""

    expected: int
    last_at: float


def _neighbour(row: HubRow, sent: _Sent | None) -> Neighbour:
    held = row.connections if sent is None else max(row.connections, sent.expected)
    room = row.capacity - held
    return Neighbour(row.name, row.instance, row.url, room, row.draining, row.leaving)
