"""A redis-py client for whatever the server turns out to be, made when it is first needed.

Commands, not pub/sub: every one has a deadline and is tried once, because what is in Redis is a hint and waiting for
it is worse than going on without. All of ours are about one key, so they work on a cluster as they are.
"""

import asyncio
from typing import Any, Final, TypeAlias

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError

from shared.bus import resp
from shared.bus.client import Endpoint, client_name, open_redis

__all__ = ["REDIS_ERRORS", "AnyRedis", "LazyRedis"]

AnyRedis: TypeAlias = "Redis | RedisCluster"
# What a command may raise: redis-py's errors about a cluster as a whole are not among its others.
REDIS_ERRORS: Final = (RedisError, RedisClusterException, OSError)


class LazyRedis:
    """`await get()` before every use; `failed()` after every error; `aclose()` ends it. Opens nothing before."""

    def __init__(
        self, url: str, *, deadline_s: float = 1.0, connections: int = 16, name: str = "fleetwire", ask_s: float = 1.0
    ) -> None:
        """`name` is shown by CLIENT LIST. `ask_s` bounds finding out what the server is, `deadline_s` each command."""
        self._url = url
        self._seeds = Endpoint.several(url)
        self._deadline_s = deadline_s
        self._connections = connections
        self._name = name
        self._ask_s = ask_s
        self._client: AnyRedis | None = None
        self._asking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"LazyRedis({self._seeds[0]}, {type(self._client).__name__ if self._client else 'not asked yet'})"

    @property
    def at_hand(self) -> "AnyRedis | None":
        """The client, if it is there already."""
        return self._client

    async def get(self) -> AnyRedis:
        """The client. Raises one of `REDIS_ERRORS` when no server answers what it is."""
        async with self._asking:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def failed(self) -> None:
        """A command failed: a cluster's client would go on asking the same nodes, so it is made anew."""
        client = self._client
        if isinstance(client, RedisCluster):
            self._client = None
            await client.aclose()

    async def aclose(self) -> None:
        """End its connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _open(self) -> AnyRedis:
        error: Exception | None = None
        for seed in self._seeds:
            try:
                connection = await resp.connect(
                    seed,
                    deadline_s=self._ask_s / len(self._seeds),
                    name=self._name,
                    on_reply=lambda reply: None,
                    on_lost=lambda: None,
                )
            except (OSError, resp.RedisRefused) as reason:
                error = reason
                continue
            is_cluster = connection.server.is_cluster
            connection.abort()
            if is_cluster:
                cluster = self._cluster()
                try:
                    await cluster.initialize()
                except BaseException:
                    await cluster.aclose()
                    raise
                return cluster
            return open_redis(
                self._url,
                deadline_s=self._deadline_s,
                connections=self._connections,
                name=self._name,
            )
        raise RedisConnectionError(f"Redis cannot be asked: {error!r}")

    def _cluster(self) -> RedisCluster:
        first = self._seeds[0]
        tls: dict[str, Any] = {}
        if first.tls:
            tls = {
                "ssl": True,
                "ssl_ca_certs": first.tls_ca_file,
                "ssl_cert_reqs": "required" if first.tls_verify else "none",
                "ssl_check_hostname": first.tls_verify,
            }
        return RedisCluster(
            startup_nodes=[ClusterNode(seed.host, seed.port) for seed in self._seeds],
            username=first.username,
            password=first.password,
            # One shard without an owner must not keep the others from being asked.
            require_full_coverage=False,
            socket_timeout=self._deadline_s,
            socket_connect_timeout=min(self._deadline_s, self._ask_s),
            retry=Retry(NoBackoff(), 0),
            max_connections=self._connections,
            client_name=client_name(self._name),
            protocol=3,
            **tls,
        )
