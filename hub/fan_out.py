"""From the bus to connections, where a message is not simply an event for the one connection of its device.

Those go there from the reader itself (`Registry.takers`). What comes for a device that is not here (its slot lingers,
or is shared with one that is) is dropped; what comes while it is being greeted is remembered by its handshake.
"""

from collections.abc import Callable

import structlog

from hub.connection import Connection
from hub.flusher import Flusher
from hub.registry import Registry
from hub.waves import Waves
from shared.bus.message import CONNECTION, EVENT, REVOCATION, InvalidMessage, connection_body
from shared.telemetry.metrics import BUS_MALFORMED

__all__ = ["FanOut"]

_log = structlog.get_logger(__name__)


class FanOut:
    """The reader's `on_batch`, `on_message`, `on_batch_end` and `on_gap`."""

    def __init__(
        self, registry: Registry[Connection], flusher: Flusher, waves: Waves, *, on_gap: Callable[[], None]
    ) -> None:
        self._registry = registry
        self._flusher = flusher
        self._waves = waves
        self._on_gap = on_gap

    def on_batch(self) -> None:
        """Messages come, and `on_batch_end` after them."""
        self._flusher.in_batch = True

    def on_message(self, kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        """One message of a slot."""
        if kind == EVENT:
            connection = self._registry.get(device_id)
            if connection is not None:
                connection.on_event(epoch, seq, body)
            for waiting in self._registry.waiting(device_id):
                waiting.on_event(epoch, seq)
        elif kind == CONNECTION:
            self._on_connection(device_id, seq, body)
        elif kind == REVOCATION:
            self._on_revocation(device_id)

    def on_batch_end(self) -> None:
        """The last message of one read from the bus: write what they brought."""
        wrote = bool(self._flusher.dirty)
        self._flusher.flush()
        if wrote:  # what comes for devices that do not read is no reason to let the others wait
            self._waves.on_batch_end()

    def on_gap(self, slots: frozenset[int]) -> None:
        """These slots are live again and messages may have been missed: the sweep finds which devices missed one."""
        _log.info("bus gap, sweeping the log", slots=len(slots))
        self._on_gap()

    def _on_connection(self, device_id: str, conn_term: int, body: bytes) -> None:
        try:
            instance, _ = connection_body(body)
        except InvalidMessage:
            BUS_MALFORMED.inc()
            return
        connection = self._registry.get(device_id)
        if connection is not None:
            connection.on_replaced(conn_term, instance)
        for waiting in self._registry.waiting(device_id):
            waiting.on_connection(conn_term)

    def _on_revocation(self, device_id: str) -> None:
        # Which tokens, only Postgres says: the sweep asks it about all devices at once, however many were revoked.
        if self._registry.get(device_id) is not None:
            self._on_gap()
        for waiting in self._registry.waiting(device_id):
            waiting.on_revocation()
