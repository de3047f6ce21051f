"""The Redis half of a lease: a lock with a time to live that keeps two watchers from trying the same feed at once.

It only avoids contention. Who owns a feed is decided by the lease row and its term in Postgres, which also refuses
what a former owner still tries; so this may answer "cannot be asked", and its caller goes on by the row alone. A lock
that vanished (restart, flush) is taken back by the renewal of its owner.
"""

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum
from importlib import resources
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.bus.names import lease_lock

__all__ = ["Held", "LeaseLocks"]

_log = structlog.get_logger(__name__)


class Held(Enum):
    """What Redis says of a lock."""

    MINE = "mine"
    ANOTHERS = "another's"
    UNKNOWN = "cannot be asked"


class LeaseLocks:
    """Locks of one owner. `redis` comes from `open_redis`; `owner` must be this run's own (name and a random part)."""

    def __init__(self, redis: Redis, *, owner: str, ttl_s: float = 30.0, deadline_s: float = 1.0) -> None:
        self._redis = redis
        self._owner = owner
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._deadline_s = deadline_s
        self._hold = _script("lease_hold")
        self._release = _script("lease_release")
        self._is_reachable = True

    def __repr__(self) -> str:
        return f"LeaseLocks({self._owner}, {'reachable' if self._is_reachable else 'not reachable'})"

    async def hold(self, names: Sequence[str]) -> Mapping[str, Held]:
        """Take or renew all these locks in one round trip, within `deadline_s`. Never raises."""
        answers = await self._run(self._hold, names, str(self._ttl_ms))
        return {name: _held(answer) for name, answer in zip(names, answers, strict=True)}

    async def release(self, names: Sequence[str]) -> None:
        """Give back those of these locks that are ours. Those that cannot be reached expire. Never raises."""
        await self._run(self._release, names)

    async def _run(self, script: str, names: Sequence[str], *arguments: str) -> list[Any]:
        if not names:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        for name in names:
            pipeline.eval(script, 1, lease_lock(name), self._owner, *arguments)
        try:
            async with asyncio.timeout(self._deadline_s):
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            self._say(reachable=False, error=repr(error))
            return [None] * len(names)
        self._say(reachable=True)
        return answers

    def _say(self, *, reachable: bool, error: str | None = None) -> None:
        if reachable != self._is_reachable:
            self._is_reachable = reachable
            _log.log(20 if reachable else 30, "lease locks", reachable=reachable, error=error)


def _held(answer: Any) -> Held:
    # An error for one lock (memory full, a replica that is read-only) says nothing about who has it.
    if answer == 1:
        return Held.MINE
    return Held.ANOTHERS if answer == 0 else Held.UNKNOWN


def _script(name: str) -> str:
    return resources.files("shared.bus").joinpath("lua", f"{name}.lua").read_text("utf-8")
