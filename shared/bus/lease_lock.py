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
from redis.asyncio import RedisCluster

from shared.bus.names import lease_lock
from shared.bus.redis_client import REDIS_ERRORS, AnyRedis, LazyRedis

__all__ = ["Held", "LeaseLocks"]

_log = structlog.get_logger(__name__)


class Held(Enum):
    """What Redis says of a lock."""

    MINE = "mine"
    ANOTHERS = "another's"
    UNKNOWN = "cannot be asked"


class LeaseLocks:
    """Locks of one owner. `owner` must be this run's own (name and a random part)."""

    def __init__(self, redis: LazyRedis, *, owner: str, ttl_s: float = 30.0, deadline_s: float = 1.0) -> None:
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
        """Take or renew all these locks in one round trip to each node, within `deadline_s`. Never raises."""
        answers = await self._run(self._hold, names, str(self._ttl_ms))
        return {name: _held(answer) for name, answer in zip(names, answers, strict=True)}

    async def release(self, names: Sequence[str]) -> None:
        """Give back those of these locks that are ours. Those that cannot be reached expire. Never raises."""
        await self._run(self._release, names)

    async def _run(self, script: str, names: Sequence[str], *arguments: str) -> list[Any]:
        if not names:
            return []
        try:
            async with asyncio.timeout(self._deadline_s):
                client = await self._redis.get()
                parts = _by_node(client, names)
                answers = await asyncio.gather(*(self._ask(client, script, part, arguments) for part in parts))
        except REDIS_ERRORS as error:
            await self._failed(error)
            return [None] * len(names)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        if failures:
            await self._failed(failures[0])
        else:
            self._say(reachable=True)
        by_name: dict[str, Any] = {}
        for part, answer in zip(parts, answers, strict=True):
            by_name.update(zip(part, [None] * len(part) if isinstance(answer, BaseException) else answer, strict=True))
        return [by_name[name] for name in names]

    async def _ask(
        self, client: AnyRedis, script: str, names: Sequence[str], arguments: tuple[str, ...]
    ) -> list[Any] | Exception:
        """One pipeline to one node; a node that fails costs only its own answers."""
        pipeline = client.pipeline() if isinstance(client, RedisCluster) else client.pipeline(transaction=False)
        for name in names:
            pipeline.eval(script, 1, lease_lock(name), self._owner, *arguments)
        try:
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            return error
        return answers

    async def _failed(self, error: BaseException) -> None:
        self._say(reachable=False, error=repr(error))
        await self._redis.failed()

    def _say(self, *, reachable: bool, error: str | None = None) -> None:
        if reachable != self._is_reachable:
            self._is_reachable = reachable
            _log.log(20 if reachable else 30, "lease locks", reachable=reachable, error=error)


def _by_node(client: AnyRedis, names: Sequence[str]) -> list[list[str]]:
    if not isinstance(client, RedisCluster):
        return [list(names)]
    parts: dict[str, list[str]] = {}
    for name in names:
        try:
            node = client.get_node_from_key(lease_lock(name))
        except REDIS_ERRORS:
            node = None  # not asked for its nodes yet, or nobody serves that key
        parts.setdefault(node.name if node else "", []).append(name)
    return list(parts.values())


def _held(answer: Any) -> Held:
    # An error for one lock (memory full, a replica that is read-only) says nothing about who has it.
    if answer == 1:
        return Held.MINE
    return Held.ANOTHERS if answer == 0 else Held.UNKNOWN


def _script(name: str) -> str:
    return resources.files("shared.bus").joinpath("lua", f"{name}.lua").read_text("utf-8")
