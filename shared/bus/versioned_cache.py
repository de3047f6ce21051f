"""Answers kept in Redis for all processes of a kind, each with the version that it is of.

A hint like everything in Redis: an entry may be missing, old or lost, so whoever takes one asks Postgres whether it is
the newest. One is replaced by a newer one only, so a slow writer does not bring back what was. Nothing here raises, and
nothing takes longer than `deadline_s`; after a failure Redis is left alone for a while, so one that hangs delays one
request in that time and not all of them.
"""

import asyncio
from collections.abc import Callable
from importlib import resources
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import ResponseError

from shared.bus.redis_client import REDIS_ERRORS, AnyRedis, LazyRedis
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_CACHE_FAILURES

__all__ = ["KeptAnswer", "VersionedCache"]

AT_ONCE: Final = 8
"""Commands under way at once, below the connections of the client: more wait, within their deadline."""
PAUSE_S: Final = 1.0
WRITES_MAX: Final = 64

_log = structlog.get_logger(__name__)


class KeptAnswer(NamedTuple):
    """An answer, the version it is of, and when that was made (microseconds since 1970)."""

    version: int
    at_us: int
    body: bytes


class VersionedCache:
    """`get` and `put` for keys that are in `names`; `aclose()` ends the connections."""

    def __init__(
        self,
        redis: LazyRedis,
        *,
        ttl_s: float,
        deadline_s: float,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._redis = redis
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._deadline_s = deadline_s
        self._pause_s = pause_s
        self._clock = clock
        self._script = resources.files("shared.bus").joinpath("lua", "cache_put.lua").read_text("utf-8")
        self._places = asyncio.Semaphore(AT_ONCE)
        self._away_until = float("-inf")
        self._is_reachable = True
        self._opening: asyncio.Task[AnyRedis] | None = None
        self._writes: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"VersionedCache({'reachable' if self._is_reachable else 'left alone'}, {len(self._writes)} writes)"

    async def get(self, key: str) -> KeptAnswer | None:
        """What is kept, whichever version it is of; None when there is nothing, or nobody to ask."""

        async def ask(redis: AnyRedis) -> Any:
            return await redis.hmget(key, ["version", "at", "body"])

        return _read(await self._ask(ask))

    def put(self, key: str, answer: KeptAnswer) -> None:
        """Keep an answer unless a newer one is there. Does not wait, and gives up when many are under way."""
        if len(self._writes) >= WRITES_MAX:
            BUS_CACHE_FAILURES.labels("full").inc()
            return
        write = asyncio.create_task(self._write(key, answer), name="cache write")
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def aclose(self) -> None:
        """Give up what is under way, then the connections."""
        for task in [*self._writes, *([self._opening] if self._opening else [])]:
            task.cancel()
        await self._redis.aclose()

    async def _write(self, key: str, answer: KeptAnswer) -> None:
        async def ask(redis: AnyRedis) -> Any:
            values = (str(answer.version), str(answer.at_us), answer.body, str(self._ttl_ms))
            return await redis.eval(self._script, 1, key, *values)

        await self._ask(ask)

    async def _ask(self, command: Callable[[AnyRedis], Any]) -> Any:
        if self._clock() < self._away_until:
            BUS_CACHE_FAILURES.labels("left_alone").inc()
            return None
        try:
            async with asyncio.timeout(self._deadline_s), self._places:
                answer = await command(await self._client())
        except ResponseError as error:
            # It answers: the key holds something else, or there is no memory left.
            BUS_CACHE_FAILURES.labels("refused").inc()
            self._say(reachable=True, error=repr(error))
            return None
        except REDIS_ERRORS as error:
            BUS_CACHE_FAILURES.labels("unreachable").inc()
            self._away_until = self._clock() + self._pause_s
            self._say(reachable=False, error=repr(error))
            await self._redis.failed()
            return None
        self._say(reachable=True)
        return answer

    async def _client(self) -> AnyRedis:
        """Connecting goes on when the one who waits for it has waited long enough."""
        if (client := self._redis.at_hand) is not None:
            return client
        if self._opening is None:
            self._opening = asyncio.create_task(self._redis.get(), name="cache connects")
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, task: "asyncio.Task[AnyRedis]") -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # nobody may be left to hear of it

    def _say(self, *, reachable: bool, error: str | None = None) -> None:
        if reachable != self._is_reachable:
            self._is_reachable = reachable
            _log.log(20 if reachable else 30, "cache in Redis", reachable=reachable, error=error)


def _read(found: Any) -> KeptAnswer | None:
    if not isinstance(found, list | tuple) or len(found) != 3:
        return None
    version, at_us, body = found
    try:
        return KeptAnswer(int(version), int(at_us), body) if isinstance(body, bytes) and body else None
    except (TypeError, ValueError):
        return None
