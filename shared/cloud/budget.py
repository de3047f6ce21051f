"""The budget of calls of one tenant at a provider, shared by all processes through Redis.

Every call reserves its turn first (call_bucket.py); a provider that says "too much" pauses every call to that tenant:
in this process at once, in the others from their next call on. While Redis is away each process keeps to its share of
the limit, and a pause holds in the process that heard of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError

from shared import clock
from shared.bus.names import call_bucket
from shared.bus.redis_client import REDIS_ERRORS, LazyRedis
from shared.cloud.call_bucket import CallBucket, CallLimit
from shared.cloud.errors import RateLimited
from shared.telemetry.metrics import CLOUD_BUDGET_WAIT_SECONDS

__all__ = ["CallBudget"]

_REDIS_DEADLINE_S: Final = 0.5
_REDIS_LEFT_ALONE_S: Final = 2.0
_ASKING_MAX: Final = 4
_UNSAID_PAUSE_S: Final = 5.0
_PROCESSES: Final = 4


class CallBudget:
    """A `Gate` for http.py. `tenant` names the budget (`graph:contoso.example`), `store` is for metrics and messages.

    `redis_s` is how long Redis may take; `processes`: among how many the limit is divided while it is away.
    `wait_max_s`: a turn that comes later is refused at once, so that nobody holds a lease and memory for what may be
    asked in an hour.
    """

    def __init__(
        self,
        tenant: str,
        *,
        store: str,
        limit: CallLimit,
        redis: LazyRedis | None,
        wait_max_s: float = 30.0,
        processes: int = _PROCESSES,
        redis_s: float = _REDIS_DEADLINE_S,
        time: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._key = call_bucket(tenant)
        self._tenant = tenant
        self._store = store
        self._limit = limit
        self._redis = redis
        self._wait_max_s = wait_max_s
        self._redis_s = redis_s
        self._alone = CallBucket(limit.share(processes))
        self._time = time
        self._sleep = sleep
        # The client has few connections and refuses who finds none free; that is not being away.
        self._asking = asyncio.Semaphore(_ASKING_MAX)
        self._paused_until = float("-inf")
        self._redis_away_until = float("-inf")
        self._script = resources.files("shared.bus").joinpath("lua", "call_bucket.lua").read_text("utf-8")

    def __repr__(self) -> str:
        return f"CallBudget({self._tenant}, {self._limit.per_minute:g} a minute, paused {self.paused_s:.1f} s)"

    @property
    def paused_s(self) -> float:
        """For how long the provider wants to hear nothing, as far as this process knows."""
        return max(0.0, self._paused_until - self._time())

    async def admit(self, cost: float) -> None:
        """Wait for the turn of a call of this cost. Raises RateLimited when it is too far off."""
        if self.paused_s > self._wait_max_s:
            raise self._refused(self.paused_s)
        taken, wait_s = await self._reserve(cost)
        wait_s = max(wait_s, self.paused_s)
        if not taken or wait_s > self._wait_max_s:
            raise self._refused(wait_s)
        began = self._time()
        while wait_s > 0:
            await self._sleep(wait_s)
            # Somebody may have been told to come back later meanwhile.
            wait_s = self.paused_s
            if self._time() + wait_s - began > self._wait_max_s:
                raise self._refused(wait_s)
        CLOUD_BUDGET_WAIT_SECONDS.labels(self._store).observe(self._time() - began)

    async def heard(self, status: int, headers: Mapping[str, str], retry_after_s: float | None) -> None:
        """What the provider answered. A pause is in force here when this returns."""
        pause_s = retry_after_s if status in (429, 503) else None
        if status == 429 and pause_s is None:
            pause_s = _UNSAID_PAUSE_S
        if pause_s is None and _number(headers.get("ratelimit-remaining")) == 0:
            pause_s = _number(headers.get("ratelimit-reset"))
        if pause_s is not None and pause_s > 0:
            await self.pause(pause_s)

    async def pause(self, seconds: float) -> None:
        """Nobody calls for so long."""
        now = self._time()
        self._paused_until = max(self._paused_until, now + seconds)
        self._alone.pause(now, seconds)
        await self._ask(cost_s=0.0, pause_s=seconds)

    async def _reserve(self, cost: float) -> tuple[bool, float]:
        answer = await self._ask(cost_s=cost * self._limit.unit_s, pause_s=0.0)
        if answer is None:
            return self._alone.reserve(self._time(), cost, wait_max_s=self._wait_max_s)
        return answer

    async def _ask(self, *, cost_s: float, pause_s: float) -> tuple[bool, float] | None:
        """None: Redis does not say."""
        if self._redis is None or self._time() < self._redis_away_until:
            return None
        arguments = [str(round(1e6 * s)) for s in (self._limit.size_s, cost_s, self._wait_max_s, pause_s)]
        try:
            async with self._asking:
                if self._time() < self._redis_away_until:
                    return None
                async with asyncio.timeout(self._redis_s):
                    client = await self._redis.get()
                    taken, wait_us = await client.eval(self._script, 1, self._key, *arguments)
        except (TimeoutError, RedisConnectionError, *REDIS_ERRORS):
            self._redis_away_until = self._time() + _REDIS_LEFT_ALONE_S
            await self._redis.failed()
            return None
        return bool(taken), wait_us / 1e6

    def _refused(self, wait_s: float) -> RateLimited:
        return RateLimited(f"{self._store} may not be asked for {wait_s:.0f} s", retry_after_s=max(wait_s, 0.1))


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else None
