"""Token buckets in Redis, by Redis' own clock: what all instances of the API take from together.

Many requests ask in one script, so one Redis is asked once for principals and for all. In a cluster the buckets lie
where their keys fall: each principal's is asked at its node, all nodes at once, and then the shared one about those
that are left; a principal that is refused by the shared one has then spent its token. A bucket that is full again is no
key, so what is kept is bounded by who asked within the last minute.
"""

import asyncio
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.bus.names import rate_bucket, shared_rate_bucket
from shared.bus.redis_client import REDIS_ERRORS, AnyRedis, LazyRedis
from shared.rate_limits import GLOBAL, Asked, Limit, Verdict

__all__ = ["TokenBuckets"]

_NONE: Final = ("0", "0")


class TokenBuckets:
    """`take()` within `deadline_s`, or one of `REDIS_ERRORS`: then nobody knows what was taken."""

    def __init__(self, redis: LazyRedis, *, deadline_s: float) -> None:
        self._redis = redis
        self._deadline_s = deadline_s
        self._script = resources.files("shared.bus").joinpath("lua", "token_bucket.lua").read_text("utf-8")

    def __repr__(self) -> str:
        return f"TokenBuckets({self._redis!r})"

    async def take(self, asked: Sequence[Asked], shared: Limit | None) -> list[Verdict]:
        """A verdict for each, in their order. Raises one of `REDIS_ERRORS`."""
        try:
            async with asyncio.timeout(self._deadline_s):
                client = await self._redis.get()
                if isinstance(client, RedisCluster):
                    return await self._take_from_cluster(client, asked, shared)
                return await self._take(client, asked, shared)
        except TimeoutError as error:
            await self._redis.failed()
            raise RedisConnectionError("no answer in time") from error
        except REDIS_ERRORS:
            await self._redis.failed()
            raise

    async def _take(self, client: AnyRedis, asked: Sequence[Asked], shared: Limit | None) -> list[Verdict]:
        keys = [rate_bucket(one.principal) for one in asked]
        if shared is not None:
            keys.append(shared_rate_bucket())
        answer = await client.eval(self._script, len(keys), *keys, *_arguments(asked, shared))
        return _verdicts(answer, asked)

    async def _take_from_cluster(
        self, client: RedisCluster, asked: Sequence[Asked], shared: Limit | None
    ) -> list[Verdict]:
        nodes: dict[str, list[int]] = {}
        for index, one in enumerate(asked):
            node = client.get_node_from_key(rate_bucket(one.principal))
            nodes.setdefault(node.name if node else "", []).append(index)
        parts = list(nodes.values())
        answers = await asyncio.gather(*(self._take_at_node(client, [asked[n] for n in part]) for part in parts))
        verdicts: dict[int, Verdict] = {}
        for part, answer in zip(parts, answers, strict=True):
            verdicts.update(zip(part, answer, strict=True))
        passed = [index for index, verdict in verdicts.items() if verdict.refused_by is None]
        if shared is not None and passed:
            crowd = [asked[index]._replace(limit=None) for index in passed]
            keys = [shared_rate_bucket()] * (len(crowd) + 1)
            answer = await client.eval(self._script, len(keys), *keys, *_arguments(crowd, shared))
            for index, verdict in zip(passed, _verdicts(answer, crowd), strict=True):
                verdicts[index] = verdict._replace(left=verdicts[index].left)
        return [verdicts[index] for index in range(len(asked))]

    async def _take_at_node(self, client: RedisCluster, asked: Sequence[Asked]) -> list[Verdict]:
        pipeline = client.pipeline()
        for one in asked:
            pipeline.eval(self._script, 1, rate_bucket(one.principal), *_arguments([one], None))
        answers = await pipeline.execute()
        return [_verdicts(answer, [one])[0] for answer, one in zip(answers, asked, strict=True)]


def _arguments(asked: Sequence[Asked], shared: Limit | None) -> list[str]:
    found = [str(len(asked)), *(_NONE if shared is None else _size(shared))]
    for one in asked:
        found += (*(_NONE if one.limit is None else _size(one.limit)), str(round(one.cost * 1000)))
    return found


def _size(limit: Limit) -> tuple[str, str]:
    return f"{limit.capacity:.3f}", str(limit.token_us)


def _verdicts(answer: Any, asked: Sequence[Asked]) -> list[Verdict]:
    found = []
    for one, refused, left, wait_us in zip(asked, answer[::3], answer[1::3], answer[2::3], strict=True):
        name = None
        if refused:
            name = one.limit.name if refused == 1 and one.limit is not None else GLOBAL
        found.append(Verdict(name, left / 1000, wait_us / 1e6))
    return found
