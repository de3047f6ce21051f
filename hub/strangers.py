"""Which of the devices here belong to another hub: counted always, sent home when the rule allows.

A hub serves any device, so this changes nothing for them. They are judged when they come and again when the view
settles, which is rare. None is sent home before it has been here for so long that its own hub, had it died or begun to
leave, would be known to have gone: it would be sent to where nobody is.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from hub.rebalance import View
from shared.clock import monotonic
from shared.telemetry.metrics import HUB_STRANGERS

__all__ = ["Strangers"]


class Guest(Protocol):
    """A connection as it is judged here."""

    @property
    def device_id(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def may_rehome(self) -> bool: ...


class Strangers:
    """`came()` and `went()` for every connection; `judge_all()` when ownership has changed."""

    def __init__(self, me: str, view: View, connections: Callable[[], Iterable[Guest]], *, stay_s: float) -> None:
        """`stay_s`: how long one is here at least before it is sent home."""
        self._me = me
        self._stay_s = stay_s
        self._view = view
        self._connections = connections
        self._here: dict[str, Guest] = {}
        self._rehomable: dict[str, tuple[int, float]] = {}
        HUB_STRANGERS.set_function(lambda: len(self._here))

    def __len__(self) -> int:
        return len(self._here)

    def came(self, guest: Guest) -> None:
        """A device's newest connection here."""
        if self._view.owner(guest.slot) == self._me:
            self._forget(guest.device_id)
            return
        self._here[guest.device_id] = guest
        if guest.may_rehome:
            self._rehomable[guest.device_id] = (guest.slot, monotonic() + self._stay_s)
        else:
            self._rehomable.pop(guest.device_id, None)

    def went(self, guest: Guest) -> None:
        """A connection has gone. Another one of the device stays."""
        if self._here.get(guest.device_id) is guest:
            self._forget(guest.device_id)

    def judge_all(self, view: View) -> None:
        """Slots have other owners."""
        self._view = view
        self._here.clear()
        self._rehomable.clear()
        for guest in self._connections():
            self.came(guest)

    def rehomable(self, now: float) -> list[tuple[str, int]]:
        """Those that may be sent home now, with their slots."""
        return [(device_id, slot) for device_id, (slot, due) in self._rehomable.items() if due <= now]

    def tried(self, device_id: str) -> None:
        """It is being sent home; once is enough."""
        self._rehomable.pop(device_id, None)

    def let_stay(self) -> None:
        """None of those who are here now is sent home, unless ownership changes."""
        self._rehomable.clear()

    def _forget(self, device_id: str) -> None:
        self._here.pop(device_id, None)
        self._rehomable.pop(device_id, None)
