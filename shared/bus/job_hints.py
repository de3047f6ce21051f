"""Hints that a job waits, by a Redis Stream per queue with one group of workers.

A hint is acknowledged when its worker asks for the next ones: by then it has asked Postgres. One whose taker died in
between is claimed by another worker after a moment, so that polling may be as slow as one likes. Entries beyond a bound
are trimmed, and workers that were killed are struck off the group. None of this is relied upon: what brings a job back
is its lease in Postgres.
"""

import asyncio
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any, Final
from uuid import UUID

import structlog
from redis.exceptions import ResponseError

from shared.bus import resp
from shared.bus.client import SOCKET_TIMEOUT_S
from shared.bus.hints import HELD_MAX, Offer
from shared.bus.names import job_stream
from shared.bus.redis_client import REDIS_ERRORS, AnyRedis, LazyRedis
from shared.bus.routed_queue import Limits, RoutedQueue
from shared.bus.slot_map import key_slot
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_MALFORMED, HINTS_REACHABLE, HINTS_TAKEN

__all__ = ["JobHintReader", "JobHints", "Offer"]

STREAM_MAX: Final = HELD_MAX
GROUP: Final = "workers"
# Far longer than a worker takes from reading a hint to asking Postgres.
CLAIM_AFTER_S: Final = 2.0
_STRIKE_OFF_AFTER_S: Final = 3600.0
_LOOK_FOR_DEAD_S: Final = 600.0
_BLOCK_MAX_S: Final = SOCKET_TIMEOUT_S - 1.0
# What an answer may take beyond the time that Redis was asked to block for.
_GRACE_S: Final = 0.25
_FROM_START: Final = b"0-0"

_log = structlog.get_logger(__name__)


class JobHints:
    """The sending side: `offer()` after the commit. `run()` is its task; `close()` flushes and ends it."""

    def __init__(
        self, url: str, *, name: str = "job-hints", rand: Random | None = None, limits: Limits | None = None
    ) -> None:
        """`name` is shown by CLIENT LIST (no blanks). Opens nothing until `run()`."""
        self._queue = RoutedQueue(url, role="job_hints", name=name, rand=rand or SystemRandom(), limits=limits)

    def __repr__(self) -> str:
        return f"JobHints({self._queue!r})"

    @property
    def connected(self) -> bool:
        """Whether there is a connection to every node now."""
        return self._queue.connected

    @property
    def held(self) -> int:
        """What was offered and not answered by Redis yet."""
        return self._queue.held

    def offer(self, queue: str, job_id: UUID) -> Offer:
        """Queue a hint for the workers of `queue`. Never waits."""
        stream = job_stream(queue)
        command = resp.pack(("XADD", stream, "MAXLEN", "~", str(STREAM_MAX), "*", "job", str(job_id)))
        return self._queue.offer(key_slot(stream.encode()), command)

    async def run(self) -> None:
        """Keep the connections and drain the queue until `close()`."""
        await self._queue.run()

    async def close(self) -> None:
        """Flush for at most a second, then end `run()`."""
        await self._queue.close()


class JobHintReader:
    """The receiving side of one worker: `wait()` is a sleep that a hint ends early."""

    def __init__(
        self,
        url: str,
        queue: str,
        *,
        consumer: str,
        claim_after_s: float = CLAIM_AFTER_S,
        rand: Random | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`consumer` is the worker's name. Opens nothing until `wait()`."""
        self._redis = LazyRedis(url, deadline_s=SOCKET_TIMEOUT_S, connections=2, name=f"hints-{consumer}")
        self._stream = job_stream(queue)
        self._consumer = consumer
        self._claim_after_s = claim_after_s
        self._rand = rand or SystemRandom()
        self._clock = clock
        self._has_group = False
        self._is_reachable = True
        self._given: list[bytes] = []
        self._claim_from = _FROM_START
        self._claim_at = 0.0
        self._look_at = clock() + self._rand.uniform(0.0, 1.0) * _LOOK_FOR_DEAD_S
        self._reachable = HINTS_REACHABLE.labels(queue)
        self._taken = {how: HINTS_TAKEN.labels(queue, how) for how in ("new", "claimed")}

    def __repr__(self) -> str:
        return f"JobHintReader({self._stream}, {'reachable' if self._is_reachable else 'not reachable'})"

    async def wait(self, timeout_s: float, *, count: int = 50) -> list[UUID]:
        """Jobs that may wait now: at once when there are hints, else after `timeout_s` an empty list. Never raises.

        A Redis that is away makes this a plain sleep.
        """
        until = self._clock() + timeout_s
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S):
                hints = await self._read(until, count)
        except REDIS_ERRORS as error:
            self._has_group = False
            self._say(reachable=False, error=repr(error))
            await self._redis.failed()
            await asyncio.sleep(max(0.0, until - self._clock()))
            return []
        self._say(reachable=True)
        return hints

    async def rest(self) -> None:
        """Nothing is kept that was not given, so there is only to say that what was given was used."""
        try:
            async with asyncio.timeout(_GRACE_S):
                await self._acknowledge(await self._redis.get())
        except REDIS_ERRORS:
            await self._redis.failed()

    async def close(self) -> None:
        """Leave the group, unless others have to claim what was not used, and end the connections."""
        try:
            if not self._given:
                async with asyncio.timeout(0.5):
                    await (await self._redis.get()).xgroup_delconsumer(self._stream, GROUP, self._consumer)
        except REDIS_ERRORS:
            pass
        self._reachable.set(0)
        await self._redis.aclose()

    async def _read(self, until: float, count: int) -> list[UUID]:
        redis = await self._redis.get()
        if not self._has_group:
            await self._make_group(redis)
        await self._acknowledge(redis)
        while (now := self._clock()) < until:
            if now >= self._claim_at and (hints := await self._claim(redis, count)):
                return hints
            if now >= self._look_at:
                await self._strike_off_the_dead(redis)
            # Zero would mean for ever.
            block = max(1, round(min(until - now, self._claim_after_s, _BLOCK_MAX_S) * 1000))
            reply: Any = await redis.xreadgroup(GROUP, self._consumer, {self._stream: ">"}, count=count, block=block)
            # Over RESP3: per stream a list of lists of (entry, fields).
            if hints := self._give([entry for parts in (reply or {}).values() for part in parts for entry in part]):
                self._taken["new"].inc(len(hints))
                return hints
            await self._acknowledge(redis)
        return []

    async def _acknowledge(self, redis: AnyRedis) -> None:
        given, self._given = self._given, []
        if given:
            await redis.xack(self._stream, GROUP, *given)

    async def _claim(self, redis: AnyRedis, count: int) -> list[UUID]:
        """Hints of workers that took them and did not come back."""
        self._claim_at = self._clock() + self._rand.uniform(0.5, 1.0) * self._claim_after_s
        idle_ms = round(self._claim_after_s * 1000)
        self._claim_from, entries, *_ = await redis.xautoclaim(
            self._stream, GROUP, self._consumer, idle_ms, self._claim_from, count=count
        )
        hints = self._give(entries)
        self._taken["claimed"].inc(len(hints))
        return hints

    async def _strike_off_the_dead(self, redis: AnyRedis) -> None:
        """A worker that was killed stays in the group. What it had taken must have been claimed before it goes."""
        self._look_at = self._clock() + self._rand.uniform(0.5, 1.0) * _LOOK_FOR_DEAD_S
        for one in await redis.xinfo_consumers(self._stream, GROUP):
            if not one["pending"] and one["idle"] > _STRIKE_OFF_AFTER_S * 1000:
                await redis.xgroup_delconsumer(self._stream, GROUP, one["name"])

    async def _make_group(self, redis: AnyRedis) -> None:
        try:
            await redis.xgroup_create(self._stream, GROUP, id="$", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._has_group = True
        self._given.clear()
        self._claim_from = _FROM_START

    def _give(self, entries: list[Any]) -> list[UUID]:
        ids: list[UUID] = []
        for entry, fields in entries:
            self._given.append(entry)
            try:
                ids.append(UUID(fields[b"job"].decode()))
            except (KeyError, TypeError, ValueError):
                BUS_MALFORMED.inc()
        return ids

    def _say(self, *, reachable: bool, error: str | None = None) -> None:
        self._reachable.set(reachable)
        if reachable != self._is_reachable:
            self._is_reachable = reachable
            _log.log(20 if reachable else 30, "job hints", reachable=reachable, error=error)
