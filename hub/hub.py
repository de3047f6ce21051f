"""The connections of one hub and what serves them all: one wheel, one flusher, one queue of holds, gathered reads and
acks.

It is what a connection asks of its surroundings (`Services`), and where connections are counted in and out. The
sockets themselves are the endpoint's.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from hub.acks import AckWriter
from hub.actions import ReadLog
from hub.compression import Deflater
from hub.connection import Connection
from hub.counts import Counts
from hub.flusher import Flusher
from hub.greeting import Credential
from hub.hold_queue import HoldQueue
from hub.key_search import KeySearch
from hub.registry import Registry
from hub.renewals import Renewals
from hub.replay import LogReader
from hub.settings import Settings
from hub.store_watch import StoreWatch
from hub.strangers import Strangers
from hub.sync_desk import SyncDesk, SyncLimits
from hub.wheel import Appointment, Wheel
from shared.bus.reader import SlotReader
from shared.clock import monotonic, wall
from shared.protocol.close_codes import CloseCode
from shared.protocol.frames import ErrorFrame, Sync
from shared.store.cursors import Ack, AckResult
from shared.store.pool import Pool
from shared.telemetry.metrics import HUB_BEHIND, HUB_CLOSES, HUB_CONNECTION_CAPACITY, HUB_CONNECTIONS

__all__ = ["Hub"]

TICK_S: Final = 0.25
# Later than this, and it was this process that stood still, not the devices.
STANDSTILL_S: Final = 2.0
# By more than this, and the wall clock, which tokens are over by, was set.
CLOCK_SET_S: Final = 0.5
# A peer may close with any number; only these are worth a label.
_COUNTED: Final = frozenset({*CloseCode, 1002, 1005, 1006, 1011})

# Closes that are the hub's own doing: a device that comes back after one is not flapping.
_NO_FLAP: Final = frozenset({CloseCode.MOVED, CloseCode.DRAINING, CloseCode.HUB_TROUBLE})

_log = structlog.get_logger(__name__)


class Hub:
    """Made by `app`. `run_wheel()` is a loop; the rest are plain calls."""

    def __init__(
        self,
        settings: Settings,
        *,
        pool: Pool,
        watch: StoreWatch,
        registry: Registry[Connection],
        flusher: Flusher,
        reader: SlotReader,
        strangers: Strangers,
        key_search: KeySearch,
        on_change: Callable[[], None],
    ) -> None:
        """`on_change()` is called when a connection comes or goes."""
        loop = asyncio.get_running_loop()
        self.registry = registry
        self.flusher = flusher
        self.log_reader = LogReader(pool, watch, pause_s=settings.gather_s)
        self.renewals = Renewals(pool, watch, pause_s=settings.gather_s)
        self.sync_desk = SyncDesk(
            pool,
            watch,
            SyncLimits(settings.sync_at_once, settings.sync_waiting_max, settings.sync_s, settings.sync_keys_per_day),
        )
        self.acks = AckWriter(
            pool,
            watch,
            on_refused=self._on_ack_refused,
            pause_s=settings.ack_write_s,
            devices_max=settings.acks_max,
        )
        self.note_ack = self.acks.book.note
        self.counts = Counts(flusher.after_flush)
        self.deflater = Deflater(threshold=settings.compression_min_bytes)
        self.gone = asyncio.Event()
        self.gone.set()
        self._holds = HoldQueue(settings.hold_s, loop)
        self._wheel: Wheel[Appointment[Connection]] = Wheel(monotonic(), resolution_s=min(TICK_S, settings.pong_s / 4))
        self._tick_s = min(TICK_S, settings.pong_s / 4)
        self._reader = reader
        self._strangers = strangers
        self._key_search = key_search
        self._on_change = on_change
        self._sockets = 0
        HUB_CONNECTION_CAPACITY.set(registry.capacity)
        HUB_CONNECTIONS.set_function(lambda: len(registry))
        HUB_BEHIND.set_function(lambda: sum(one.session.behind for one in registry.connections))

    def __repr__(self) -> str:
        return f"Hub({self.registry!r}, {self.log_reader!r}, {self.acks!r}, {len(self._holds)} hold)"

    def welcome(self, connection: Connection) -> None:
        """The connection is the device's newest; the one before it here has lost."""
        before = self.registry.add(connection)
        self._sockets += 1
        self.gone.clear()
        self._strangers.came(connection)
        if before is not None:
            before.on_replaced(connection.conn_term, connection.session.instance)
        connection.start()
        _log.debug("device connected", device_id=connection.device_id, term=connection.conn_term)
        self._on_change()

    def forget(self, connection: Connection) -> None:
        """The connection's socket is gone."""
        self.registry.remove(connection)
        self._strangers.went(connection)
        self._sockets -= 1
        if not self._sockets:
            self.gone.set()
        self._reader.release(connection.slot)
        code = connection.socket.close_code or 1006
        excused = connection.was_sent_on or code in _NO_FLAP
        self.acks.departed(connection.device_id, connection.conn_term, excused=excused)
        HUB_CLOSES.labels(str(code) if code in _COUNTED else "other").inc()
        _log.debug("device disconnected", device_id=connection.device_id, code=code, term=connection.conn_term)
        self._on_change()

    def read_log(self, connection: Connection, read: ReadLog) -> None:
        """Answer by `on_page`."""
        self.log_reader.ask(connection, read)

    def check_renewal(self, connection: Connection, credential: Credential) -> None:
        """Answer by `on_renewal_checked`."""
        self.renewals.ask(connection, credential)

    def look_for_key(self, connection: Connection, token: str) -> bool:
        """Answer by `on_keys_fetched`, if it is taken."""
        return self._key_search.ask(connection, token)

    def apply_operations(self, connection: Connection, frame: Sync) -> ErrorFrame | None:
        """Answer by `on_sync_answer`, unless it is refused at once."""
        return self.sync_desk.ask(connection, frame)

    def on_keys_changed(self) -> None:
        """The key sets were read anew."""
        for connection in list(self.registry.connections):
            connection.on_keys_changed()

    def hold(self, connection: Connection) -> None:
        """Answer by `on_hold_over`."""
        self._holds.add(connection)

    def visit_at(self, connection: Connection, due: float) -> None:
        """Answer by `visit`."""
        self._wheel.schedule(connection.appointment, due)

    async def run_wheel(self) -> None:
        """Visit connections until cancelled."""
        last = monotonic()
        wall_ahead = wall() - last
        while True:
            await asyncio.sleep(self._tick_s)
            now = monotonic()
            if abs(wall() - now - wall_ahead) > CLOCK_SET_S:
                wall_ahead = wall() - now
                for connection in list(self.registry.connections):
                    connection.on_clock_set(now)
            stood_still = now - last > self._tick_s + STANDSTILL_S
            last = self.flusher.now = now
            self.counts.flush()
            self.deflater.flush_counts()
            for appointment in self._wheel.advance(now):
                if appointment.item is not None:
                    appointment.item.visit(now, stood_still=stood_still)

    def _on_ack_refused(self, ack: Ack, result: AckResult) -> None:
        connection = self.registry.get(ack.device_id)
        if connection is not None and connection.session.epoch == ack.epoch:
            connection.on_ack_refused(ack, result)
