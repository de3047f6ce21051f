"""The one reader behind all live pages of a process: it reads while somebody looks, and rests while nobody does.

Each round reads what changes fast (hubs, and the devices that somebody looks at) and, in its turn, what changes slowly
or costs more. What counts all devices takes at most a fiftieth of the time, however many there are. A round that
Postgres does not answer leaves what is known standing and says how old it is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeVar

import structlog

from api.dashboard.hub_ports import HubPorts
from api.dashboard.percentiles import MinuteOfStages, Told
from api.dashboard.slices import (
    Asked,
    Rates,
    device_values,
    feed_values,
    hub_values,
    queue_values,
    slots_of,
    stage_value,
    total_value,
)
from api.dashboard.state import encoded, rounded
from api.dashboard.viewers import Viewers
from shared.clock import monotonic
from shared.store import fleet_view, queues
from shared.store.errors import StoreError
from shared.store.fleet_view import Census, FeedGroup, SeenHub, StageTimes
from shared.store.pool import Pool
from shared.store.queues import QueueState

__all__ = ["FleetReader"]

T = TypeVar("T")

REST_AFTER_S: Final = 5.0
ROUND_S: Final = 4.0
TURN_S: Final = 1.5
SLOW_S: Final = 3.0
SHARE: Final = 50.0
HUBS_AT_ONCE: Final = 12
QUANTILES: Final = (0.5, 0.95, 0.99)
NOTHING: Final = (None, None, None)
DELIVERY: Final = "delivery"

_log = structlog.get_logger(__name__)


class _Turn:
    """Something that is read again after a while: never more often, and the more seldom the longer it takes.

    What takes too long is given up, and what it was before stands.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._due = 0.0

    async def read(self, read: Callable[[], Awaitable[T]], before: T) -> T:
        """What it was before, or what it is now."""
        began = monotonic()
        if began < self._due:
            return before
        try:
            async with asyncio.timeout(TURN_S):
                return await read()
        except TimeoutError:
            return before
        finally:
            self._due = began + max(self._every_s, SHARE * (monotonic() - began))


class FleetReader:
    """`run()` until cancelled; publishes to `viewers`."""

    def __init__(
        self, pool: Pool, ports: HubPorts, viewers: Viewers, *, period_s: float, silence_s: float, rand: Random
    ) -> None:
        self._pool = pool
        self._ports = ports
        self._viewers = viewers
        self._period_s = period_s
        self._silence_s = silence_s
        self._rand = rand
        self._census: Census | None = None
        self._feeds: Sequence[FeedGroup] = ()
        self._queues: Sequence[QueueState] = ()
        self._stages: StageTimes | None = None
        self._dead = 0
        self._minute = MinuteOfStages()
        self._deliveries = MinuteOfStages()
        self._sent, self._acks = Rates(), Rates()
        self._slots: tuple[tuple[str, ...], Mapping[str, int]] = ((), {})
        slow_s = max(SLOW_S, period_s)
        self._turns = {name: _Turn(slow_s) for name in ("census", "feeds", "queues", "stages", "dead")}
        self._asked: Mapping[str, Asked] = {}
        self._news: Mapping[str, Asked] = {}
        self._turn = 0
        self._well_at = 0.0

    def __repr__(self) -> str:
        return f"FleetReader({self._viewers!r})"

    async def run(self) -> None:
        """Round after round while somebody looks."""
        while True:
            await self._viewers.wait_until_one_came()
            self._viewers.forget()
            looked_at = self._well_at = monotonic()
            while len(self._viewers) or monotonic() - looked_at < REST_AFTER_S:
                if len(self._viewers):
                    await self._round()
                    looked_at = monotonic()
                await asyncio.sleep(self._period_s * self._rand.uniform(0.95, 1.05))

    async def _round(self) -> None:
        now = monotonic()
        try:
            async with asyncio.timeout(ROUND_S):
                values = await self._read(now)
        except (StoreError, TimeoutError) as error:
            _log.warning("the fleet cannot be read", detail=str(error) or "no answer in time")
        except Exception:  # noqa: BLE001 - a page that cannot be drawn must not end the process
            _log.exception("the fleet cannot be drawn")
        else:
            self._well_at = now
            self._viewers.publish(encoded(values))
            return
        self._viewers.publish({**self._viewers.state, **encoded({"store": _store(monotonic() - self._well_at)})})

    async def _read(self, now: float) -> dict[str, Any]:
        pool = self._pool
        hubs = await fleet_view.hubs(pool)
        rows = await fleet_view.devices(pool, self._viewers.device_ids())
        live = [hub for hub in hubs if hub.silent_s <= self._silence_s]
        wanted: dict[str, list[str]] = {}
        for row in rows:
            if row.hub is not None:
                wanted.setdefault(row.hub, []).append(row.device_id)
        asked = await self._look(live, wanted)
        await self._read_slowly()
        figures = self._figures(live, asked, now)
        stages = stage_value(self._stages, self._minute.quantiles(QUANTILES))
        return {
            "store": _store(0.0),
            "total": total_value(self._census, figures, self._queues),
            "stages": stages,
            **hub_values(hubs, asked, self._slots_of(live), silence_s=self._silence_s),
            **device_values(rows, asked),
            **feed_values(self._feeds),
            **queue_values(self._queues, self._dead),
        }

    async def _look(self, live: Sequence[SeenHub], wanted: Mapping[str, Sequence[str]]) -> Mapping[str, Asked]:
        """What each of the hubs says; of many, those whose turn it is, so that more hubs cost no more."""
        turn, self._turn = self._turn, self._turn + HUBS_AT_ONCE
        rows = [hub.row for hub in live]
        chosen = rows if len(rows) <= HUBS_AT_ONCE else [rows[(turn + n) % len(rows)] for n in range(HUBS_AT_ONCE)]
        self._news = await self._ports.look(chosen, wanted)
        names = {row.name for row in rows}
        self._asked = {name: one for name, one in {**self._asked, **self._news}.items() if name in names}
        return self._asked

    async def _read_slowly(self) -> None:
        pool, turns = self._pool, self._turns
        self._census = await turns["census"].read(lambda: fleet_view.census(pool), self._census)
        self._queues = await turns["queues"].read(lambda: queues.states(pool), self._queues)
        self._stages = await turns["stages"].read(lambda: fleet_view.stage_times(pool), self._stages)
        self._feeds = await turns["feeds"].read(lambda: fleet_view.feeds(pool), self._feeds)
        self._dead = await turns["dead"].read(lambda: fleet_view.dead_jobs(pool), self._dead)

    def _slots_of(self, live: Sequence[SeenHub]) -> Mapping[str, int]:
        names = tuple(sorted(hub.row.name for hub in live if not hub.row.leaving))
        if names != self._slots[0]:
            self._slots = (names, slots_of(names))
        return self._slots[1]

    def _figures(self, live: Sequence[SeenHub], asked: Mapping[str, Asked], now: float) -> dict[str, Any]:
        """Sums over the hubs that live."""
        connections = capacity = moves = 0
        runs: set[str] = set()
        for hub in live:
            answer = asked.get(hub.row.name)
            state = answer.state if answer is not None else None
            connections += hub.row.connections if state is None else state.connections
            capacity += hub.row.capacity
            if state is None:
                continue
            run = f"{hub.row.name} {hub.row.instance}"
            runs.add(run)
            moves += state.moving.left + state.moving.leaving
            if hub.row.name in self._news:
                figures = state.figures
                self._sent.saw(run, figures.sent, now)
                self._acks.saw(run, figures.acks, now)
                self._minute.add(run, Told(figures.bounds, figures.stages), now)
                self._deliveries.add(run, Told(figures.delivery.bounds, {DELIVERY: figures.delivery.counts}), now)
        for kept in (self._sent, self._acks, self._minute, self._deliveries):
            kept.keep(frozenset(runs))
        return {
            "hubs": len(live),
            "connections": connections,
            "capacity": capacity,
            "moves": moves,
            "sent_per_s": round(self._sent.per_s, 1),
            "acks_per_s": round(self._acks.per_s, 1),
            "ack_ms": rounded(self._deliveries.quantiles(QUANTILES).get(DELIVERY, (0, NOTHING))[1]),
        }


def _store(silent_s: float) -> dict[str, Any]:
    return {"ok": silent_s == 0.0, "silent_s": int(silent_s)}
