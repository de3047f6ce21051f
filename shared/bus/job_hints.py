"""Hints that a job waits, by a Redis Stream per queue. The job is committed already and polling finds it within a
second or two.

So a hint carries only the id, may be lost, and nobody waits for it to be sent. Each goes to one worker of the queue;
it is not kept for one that dies, because the job's lease in Postgres is what brings the job back.
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
from shared.bus.names import job_stream
from shared.bus.redis_client import REDIS_ERRORS, AnyRedis, LazyRedis
from shared.bus.routed_queue import Limits, Offer, RoutedQueue
from shared.bus.slot_map import key_slot
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_MALFORMED

__all__ = ["JobHintReader", "JobHints", "Offer"]

STREAM_MAX: Final = 10_000
GROUP: Final = "workers"
_BLOCK_MAX_S: Final = SOCKET_TIMEOUT_S - 1.0
# What an answer may take beyond the time that Redis was asked to block for.
_GRACE_S: Final = 0.25

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

    def __init__(self, url: str, queue: str, *, consumer: str, clock: Callable[[], float] = monotonic) -> None:
        """`consumer` is the worker's name. Opens nothing until `wait()`."""
        self._redis = LazyRedis(url, deadline_s=SOCKET_TIMEOUT_S, connections=2, name=f"hints-{consumer}")
        self._stream = job_stream(queue)
        self._consumer = consumer
        self._clock = clock
        self._has_group = False
        self._is_reachable = True

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

    async def close(self) -> None:
        """Leave the group and end the connections."""
        try:
            async with asyncio.timeout(0.5):
                await (await self._redis.get()).xgroup_delconsumer(self._stream, GROUP, self._consumer)
        except REDIS_ERRORS:
            pass
        await self._redis.aclose()

    async def _read(self, until: float, count: int) -> list[UUID]:
        redis = await self._redis.get()
        if not self._has_group:
            await self._make_group(redis)
        while (left := until - self._clock()) > 0:
            # Zero would mean for ever.
            block = max(1, round(min(left, _BLOCK_MAX_S) * 1000))
            reply: Any = await redis.xreadgroup(
                GROUP, self._consumer, {self._stream: ">"}, count=count, block=block, noack=True
            )
            if hints := _job_ids(reply):
                return hints
        return []

    async def _make_group(self, redis: AnyRedis) -> None:
        try:
            await redis.xgroup_create(self._stream, GROUP, id="$", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._has_group = True

    def _say(self, *, reachable: bool, error: str | None = None) -> None:
        if reachable != self._is_reachable:
            self._is_reachable = reachable
            _log.log(20 if reachable else 30, "job hints", reachable=reachable, error=error)


def _job_ids(reply: Any) -> list[UUID]:
    """Ids out of what XREADGROUP answers over RESP3: per stream a list of lists of (entry, fields)."""
    ids: list[UUID] = []
    for _, fields in [entry for parts in (reply or {}).values() for part in parts for entry in part]:
        try:
            ids.append(UUID(fields[b"job"].decode()))
        except (KeyError, TypeError, ValueError):
            BUS_MALFORMED.inc()
    return ids
