"""Connections that were told to go elsewhere, until they have gone: those that stay too long are ended.

Shared by moving and draining, which differ only in the code that the late ones are closed with. There is an entry for
each connection at most, and it leaves with the connection or at its deadline.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from shared.protocol.close_codes import CloseCode

__all__ = ["Leavers", "Leaving"]


class Leaving(Protocol):
    """A connection as it is sent away."""

    @property
    def device_id(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def is_over(self) -> bool: ...
    def tell_moved(self, url: str, after_ms: int, reason: str) -> None: ...
    def end(self, code: CloseCode, reason: str | None = None) -> None: ...


class _Entry(NamedTuple):
    due: float
    connection: Leaving
    label: str


class Leavers:
    """`add()` those that were told; `look()` now and then."""

    def __init__(self, code: CloseCode, on_outcome: Callable[[str, str], None]) -> None:
        """`on_outcome(label, outcome)`: `left` by itself, or `ended`."""
        self._code = code
        self._on_outcome = on_outcome
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Leavers({len(self)})"

    def add(self, connection: Leaving, due: float, label: str) -> None:
        """It was told to go, and is ended at `due` if it is still here."""
        self._entries.append(_Entry(due, connection, label))

    def look(self, now: float) -> None:
        """Forget who has gone, end who is late."""
        staying = []
        for entry in self._entries:
            if entry.connection.is_over:
                self._on_outcome(entry.label, "left")
            elif entry.due <= now:
                entry.connection.end(self._code)
                self._on_outcome(entry.label, "ended")
            else:
                staying.append(entry)
        self._entries = staying

    def end_all(self) -> None:
        """There is nowhere to go any more."""
        self.look(float("inf"))
