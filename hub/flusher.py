"""One write per socket and turn of the loop, however many frames were due."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from shared.clock import monotonic

__all__ = ["Flushed", "Flusher"]

_log = structlog.get_logger(__name__)


class Flushed(Protocol):
    """Something with bytes to write."""

    def flush(self) -> None: ...


class Flusher:
    """Writes what sockets were given during one turn of the loop, one write for each.

    A socket with something to write puts itself into `dirty`, once until it is flushed, and is the one to `wake` when
    it is the first there. Whoever hands out many frames in one call sets `in_batch` and flushes at its end, which saves
    the loop a turn. `now` is what sockets know of the time, without reading a clock for each frame: the wheel's last
    tick.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.dirty: Final[list[Flushed]] = []
        self._after: list[Callable[[], None]] = []
        self.in_batch = False
        self.now = monotonic()

    def wake(self) -> None:
        """There will be something to write."""
        if not self.in_batch:
            self._loop.call_soon(self.flush)

    def after_flush(self, call: Callable[[], None]) -> None:
        """Call once when what was added by now is written."""
        self._after.append(call)

    def flush(self) -> None:
        """Write now; a batch is over."""
        self.in_batch = False
        for socket in self.dirty:
            try:
                socket.flush()
            except Exception:  # noqa: BLE001 - one socket's trouble must not keep the others' frames
                _log.exception("a socket could not be written to")
        self.dirty.clear()
        if self._after:
            after, self._after = self._after, []
            for call in after:
                call()
