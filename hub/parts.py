"""What a running hub is made of: built here, left here, both to be read from top to bottom.

It leaves in an order: first it says so, so that nobody is sent here any more, then sends its devices away spread over
time, then writes what they acked, and goes.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any, Final
from uuid import uuid4

import structlog

from hub.allowances import allowances_of
from hub.connection import Connection
from hub.drain import Pace, send_away
from hub.endpoint import Endpoint
from hub.fan_out import FanOut
from hub.flusher import Flusher
from hub.gate import Gate
from hub.handshakes import Greeter
from hub.hub import Hub
from hub.key_search import KeySearch
from hub.leavers import Leaving
from hub.membership import Membership
from hub.mover import Mover, MoverTimes
from hub.neighbours import Neighbours
from hub.notices import Notices
from hub.reception import Reception
from hub.registry import Registry
from hub.settings import Settings
from hub.store_watch import StoreWatch
from hub.strangers import Strangers
from hub.sweep import Sweeper
from hub.waves import Waves
from shared.bus.canary import Canary
from shared.bus.canary_judge import BusState
from shared.bus.names import notice_channel
from shared.bus.publisher import Publisher
from shared.bus.reader import SlotReader
from shared.key_url import KeyUrl
from shared.key_watch import KeyWatch, WatchedKeys
from shared.store import cursors
from shared.store.errors import StoreError
from shared.store.hubs import HubRow
from shared.store.pool import Pool
from shared.telemetry.metrics import HUB_MOVES
from shared.telemetry.traces import Tracer
from shared.tokens import KeyRing

__all__ = ["Parts"]

_log = structlog.get_logger(__name__)

LOG_READERS: Final = 2
SAY_LEAVING_S: Final = 2.0


class Parts:
    """`loops()` are to be run until the end; `leave()` before they are cancelled."""

    def __init__(
        self,
        settings: Settings,
        *,
        pool: Pool,
        tokens: KeyRing,
        tickets: KeyRing,
        watch: StoreWatch,
        gate: Gate,
        states: list[BusState],
        rand: Random,
        ops_url: str,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._watch = watch
        self._gate = gate
        self._states = states
        self._rand = rand
        self._ops_url = ops_url
        self._run_id = str(uuid4())
        registry: Registry[Connection] = Registry(settings.capacity)
        self.neighbours = Neighbours(
            settings.name,
            self._run_id,
            period_s=settings.member_s,
            proxy_url=settings.proxy_url,
        )
        self.strangers = Strangers(
            settings.name,
            self.neighbours.view,
            lambda: registry.connections,
            stay_s=settings.silence_s + 2 * settings.member_s,
        )
        loop = asyncio.get_running_loop()
        flusher = Flusher(loop)
        fan_out = FanOut(registry, flusher, Waves(loop, settings.wave_s), on_gap=self._sweep_soon)
        self._publisher = Publisher(settings.redis_url, name=settings.name, rand=rand)
        self._reader = SlotReader(
            settings.redis_url,
            on_message=fan_out.on_message,
            on_gap=fan_out.on_gap,
            takers=registry.takers,
            on_batch=fan_out.on_batch,
            on_batch_end=fan_out.on_batch_end,
            name=settings.name,
            rand=rand,
            deadline_s=settings.redis_deadline_s,
        )
        self.canary = Canary(
            hub=settings.name,
            publisher=self._publisher,
            reader=self._reader,
            on_state=self._on_bus_state,
            interval_s=settings.canary_s,
            probe_deadline_s=settings.canary_s,
            rand=rand,
        )
        self._key_search = KeySearch(self._look_for_keys)
        self.hub = Hub(
            settings,
            pool=pool,
            watch=watch,
            registry=registry,
            flusher=flusher,
            reader=self._reader,
            strangers=self.strangers,
            key_search=self._key_search,
            on_change=self._on_change,
        )
        self._notices = Notices(receivers=lambda: registry.connections, flusher=flusher, deflater=self.hub.deflater)
        self._reader.acquire_channel(notice_channel(), self._notices.on_message)
        self.mover = Mover(
            self.neighbours,
            connections=lambda: registry.connections,
            get=registry.get,
            strangers=self.strangers,
            mark=self._mark,
            times=MoverTimes(settings.moves_per_s, settings.move_wave_s, settings.linger_s),
            automatic=settings.rebalance,
            rand=rand,
            backoff=watch.backoff,
        )
        self.neighbours.on_view = self.mover.on_view
        self.sweeper = Sweeper(
            pool,
            watch,
            connections=lambda: list(registry.connections),
            doubtful=self.canary.doubtful,
            interval_s=settings.sweep_s,
            doubt_interval_s=settings.sweep_doubt_s,
            rand=rand,
        )
        self._greeter = Greeter(
            pool,
            watch,
            pause_s=settings.gather_s,
            waiting_max=settings.handshakes_max,
            on_abandoned=lambda device_id, conn_term: self.hub.acks.departed(device_id, conn_term, excused=True),
        )
        self.key_url = KeyUrl(settings, tokens, rand=rand, on_change=self.hub.on_keys_changed)
        allowances = allowances_of(settings)
        reception = Reception(
            settings,
            allowances,
            pool=pool,
            hub=self.hub,
            greeter=self._greeter,
            reader=self._reader,
            publisher=self._publisher,
            tokens=tokens,
            tickets=tickets,
            key_url=self.key_url,
            gate=gate,
            rand=rand,
            tracer=tracer,
        )
        self.endpoint = Endpoint(settings, allowances, reception=reception, flusher=flusher, rand=rand)
        self._key_watch = KeyWatch(
            [
                WatchedKeys("FLEETWIRE_TOKEN_KEYS", settings.token_keys_file, tokens),
                WatchedKeys("FLEETWIRE_TICKET_KEYS", settings.ticket_keys_file, tickets),
            ],
            period_s=settings.keys_reload_s,
            rand=rand,
            on_change=self.hub.on_keys_changed,
        )
        self._membership = Membership(
            pool,
            watch,
            row=self._row,
            on_rows=self.neighbours.on_rows,
            heartbeat_s=settings.member_s,
            settle_s=settings.member_s / 5,
            silence_s=settings.silence_s,
            rand=rand,
        )

    async def _look_for_keys(self) -> bool:
        return await self.key_url.look()

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Everything that runs until the end. None of them may end by itself."""
        readers = {f"log reader {number}": self.hub.log_reader.run() for number in range(LOG_READERS)}
        desk = self.hub.sync_desk
        syncs = {f"sync {number}": desk.run() for number in range(desk.limits.at_once)}
        return {
            "publisher": self._publisher.run(),
            "bus reader": self._reader.run(),
            "canary": self.canary.run(),
            "greeter": self._greeter.run(),
            "acks": self.hub.acks.run(),
            "sweep": self.sweeper.run(),
            "wheel": self.hub.run_wheel(),
            "membership": self._membership.run(),
            "notices": self._notices.run(),
            "key watch": self._key_watch.run(),
            "key set": self.key_url.run(),
            "renewals": self.hub.renewals.run(),
            "key search": self._key_search.run(),
            "mover": self.mover.run(),
            **readers,
            **syncs,
        }

    async def leave(self) -> None:
        """Refuse, send away, write acks, say goodbye."""
        settings = self._settings
        self._gate.phase = "draining"
        self.mover.close()
        connections = list(self.hub.registry.connections)
        _log.info("hub leaves", connections=len(connections))
        await self._say_leaving([connection.device_id for connection in connections])
        await send_away(
            connections,
            self._rand,
            pace=Pace(settings.drain_rate, settings.drain_s, settings.move_wave_s, settings.linger_s),
            heir=self._heir,
            is_alone=lambda: self.neighbours.is_alone,
            gone=self.hub.gone,
            close_s=settings.close_s + 0.5,
            on_outcome=lambda outcome: HUB_MOVES.labels("drain", outcome).inc(),
        )
        self.endpoint.close()
        written = await self.hub.acks.flush(settings.flush_s)
        await self._membership.leave()
        await self._publisher.close()
        await self._reader.close()
        _log.info("hub left", acks_written=written)

    def _row(self) -> HubRow:
        settings = self._settings
        url = settings.url or f"ws://{settings.host}:{self.endpoint.port}"
        return HubRow(
            settings.name,
            self._run_id,
            url,
            len(self.hub.registry),
            settings.capacity,
            # Nobody should be sent here while devices are refused, whatever the reason.
            bool(self._gate.reasons),
            self._ops_url,
            self._gate.phase == "draining",
        )

    def _heir(self, connection: Leaving) -> str | None:
        heir = self.neighbours.heir(connection.slot)
        if heir is None:
            return None
        self.neighbours.sent_to(heir.name)
        return self.neighbours.url(heir.name)

    async def _say_leaving(self, device_ids: Sequence[str]) -> None:
        """The row says that this hub leaves, and the cursors that its devices were sent on, before one of them is told:
        else a hub that has not looked since would send them home, which is here.
        """
        try:
            async with asyncio.timeout(SAY_LEAVING_S):
                await self._membership.begin_leaving()
                await self._mark(device_ids)
        except (StoreError, TimeoutError) as error:
            _log.warning("could not mark the devices of a hub that leaves", reason=str(error) or "no answer in time")

    async def _mark(self, device_ids: Sequence[str]) -> None:
        async with self._watch.asking():
            await cursors.mark_rehomed(self._pool, device_ids)

    def _on_change(self) -> None:
        self._membership.changed()

    def _on_bus_state(self, state: BusState) -> None:
        self._states.append(state)
        del self._states[:-1]
        # In doubt, because something may be missed from now on; well again, because something may have been until now.
        self._sweep_soon()
        self._membership.changed()

    def _sweep_soon(self) -> None:
        self.sweeper.soon()
