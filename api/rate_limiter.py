"""Rate limits around every request of a known caller: taken together in Redis, or, while that is away, by this
instance's own share.

Requests that come at the same time ask in one round trip. The first answer that does not come in time makes Redis
count as away: from then on nobody waits for it, and one probe at a time finds out when it is back. What Redis had
counted before is its own affair; a share begins full, unless the principal had spent more than half lately.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

import structlog

from api.problems import Problem
from shared.bus.redis_client import REDIS_ERRORS
from shared.bus.token_buckets import TokenBuckets
from shared.clock import monotonic
from shared.rate_limits import GLOBAL, Asked, Limit, Limits, LocalBuckets, Verdict, policy_field, quota_field
from shared.telemetry.metrics import API_RATE_LIMITED, API_RATE_LOCAL, API_RATE_PRINCIPALS
from shared.tokens import Claims

__all__ = ["Fields", "RateLimiter"]

BATCH_MAX: Final = 100
AT_ONCE: Final = 4

_PROBE: Final = Asked("probe", None, 0.0)

_log = structlog.get_logger(__name__)

Fields = tuple[tuple[bytes, bytes], ...]


class _Waiting(NamedTuple):
    asked: Asked
    verdict: "asyncio.Future[Verdict]"


class RateLimiter:
    """`spend()` before a request is handled; `run()` is the probe."""

    def __init__(
        self,
        limits: Limits | None,
        buckets: TokenBuckets,
        *,
        instances: Callable[[], int],
        probe_s: float,
        rand: Random,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """No limits: everything may happen."""
        self._limits = limits
        self._shared = limits.shared if limits is not None else None
        self._buckets = buckets
        self._instances = instances
        self._probe_s = probe_s
        self._rand = rand
        self._clock = clock
        self._waiting: deque[_Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._lost = asyncio.Event()
        self.local = LocalBuckets()
        API_RATE_PRINCIPALS.set_function(lambda: len(self.local))

    def __repr__(self) -> str:
        return f"RateLimiter({'local' if self.is_local else 'Redis'}, {len(self._waiting)} waiting, {self.local!r})"

    @property
    def is_local(self) -> bool:
        """Whether Redis is away, and this instance limits by itself."""
        return self._lost.is_set()

    async def spend(self, claims: Claims, cost: float) -> Fields:
        """Take what the request costs. The fields for its answer. Raises Problem (429)."""
        if self._limits is None or cost <= 0:
            return ()
        kind = claims.principal.partition(":")[0]
        limit = self._limits.of(kind, claims.device_class)
        if limit is None and self._shared is None:
            return ()
        verdict = await self._ask(Asked(claims.principal, limit, cost))
        fields = _fields(limit, verdict)
        if verdict.refused_by is not None:
            API_RATE_LIMITED.labels(GLOBAL if verdict.refused_by == GLOBAL else kind).inc()
            raise _refused(verdict, fields)
        return fields

    async def start(self) -> None:
        """Connect, so that the first request need not wait for it."""
        if self._limits is not None:
            await self._verdicts([_PROBE])

    async def run(self) -> None:
        """While Redis is away, ask again and again whether it is back. Until cancelled."""
        while True:
            await self._lost.wait()
            await asyncio.sleep(self._probe_s * self._rand.uniform(0.5, 1.0))
            try:
                await self._buckets.take([_PROBE], self._shared)
            except REDIS_ERRORS:
                continue
            self._lost.clear()
            API_RATE_LOCAL.set(0)
            _log.info("rate limits are kept in Redis again")

    async def _ask(self, asked: Asked) -> Verdict:
        if self.is_local:
            return self._alone(asked)
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(asked, verdict))
        if len(self._running) < AT_ONCE:
            task = asyncio.create_task(self._work(), name="rate limits")
            self._running.add(task)
        return await verdict

    async def _work(self) -> None:
        batch: list[_Waiting] = []
        try:
            while batch := self._take():
                try:
                    verdicts = await self._verdicts([one.asked for one in batch])
                except Exception as error:  # noqa: BLE001 - it is raised again where it was asked
                    for one in batch:
                        if not one.verdict.done():
                            one.verdict.set_exception(error)
                    continue
                for one, verdict in zip(batch, verdicts, strict=True):
                    if not one.verdict.done():
                        one.verdict.set_result(verdict)
        finally:
            # In the same step as the last look at who waits: a request that comes after it must find a place free.
            task = asyncio.current_task()
            if task is not None:
                self._running.discard(task)
            for one in batch:
                one.verdict.cancel()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < BATCH_MAX:
            one = self._waiting.popleft()
            if not one.verdict.done():  # whoever asked may have gone
                batch.append(one)
        return batch

    async def _verdicts(self, asked: list[Asked]) -> list[Verdict]:
        if not self.is_local:
            try:
                verdicts = await self._buckets.take(asked, self._shared)
            except REDIS_ERRORS as error:
                self._lose(error)
            else:
                self._learn(asked, verdicts)
                return verdicts
        return [self._alone(one) for one in asked]

    def _learn(self, asked: list[Asked], verdicts: list[Verdict]) -> None:
        if not self.is_local:  # others may have found meanwhile that Redis is away: then the shares count already
            now = self._clock()
            for one, verdict in zip(asked, verdicts, strict=True):
                self.local.learn(one, verdict.left, now)

    def _lose(self, error: Exception) -> None:
        if not self.is_local:
            self._lost.set()
            API_RATE_LOCAL.set(1)
            _log.warning("rate limits are kept by each instance: Redis is away", error=repr(error))

    def _alone(self, asked: Asked) -> Verdict:
        return self.local.take(asked, self._shared, self._clock(), instances=self._instances())


def _fields(limit: Limit | None, verdict: Verdict) -> Fields:
    if limit is None:
        return ()
    return (
        (b"ratelimit-policy", policy_field(limit).encode("ascii")),
        (b"ratelimit", quota_field(limit, verdict).encode("ascii")),
    )


def _refused(verdict: Verdict, fields: Fields) -> Problem:
    after = max(1, math.ceil(verdict.wait_s))
    whose = "all together ask" if verdict.refused_by == GLOBAL else "you ask"
    headers = {"Retry-After": str(after), **{name.decode(): value.decode() for name, value in fields}}
    members: dict[str, Any] = {"limit": verdict.refused_by, "violated-policies": [verdict.refused_by]}
    return Problem("rate-limited", f"{whose} more often than is served; again in {after} s", headers=headers, **members)
