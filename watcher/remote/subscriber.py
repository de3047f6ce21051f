"""Keeps the provider's promise to call us: made, renewed and ended as subscription_plan.py says, under the feed's term.

A feed without one only polls, so nothing here is ever urgent: trouble is said once and tried again, ever later.
"""

import asyncio
import secrets
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from shared import clock
from shared.backoff import Backoff
from shared.cloud.errors import CloudError, NotFound, RateLimited
from shared.cloud.hook_secret import hook_secret
from shared.cloud.provider import Provider, Subscription
from shared.store import leases, remote_feeds
from shared.store.errors import StoreError, TermOver
from shared.store.pool import Connection, Pool
from shared.telemetry.metrics import FEED_SUBSCRIPTIONS
from watcher.remote.subscription_plan import End, Renew, Reserve, Rest, Retire, Standing, ended, lost, made, plan

if TYPE_CHECKING:
    from watcher.remote.loop import RemoteTools

_log = structlog.get_logger(__name__)

_REST_MAX_S: Final = 3600.0
_CALL_S: Final = 60.0


class Subscriber:
    """For one feed under one term. `run()` lasts until stopped."""

    def __init__(self, feed_id: str, term: int, *, trusted: Callable[[], bool], tools: "RemoteTools") -> None:
        self._feed_id = feed_id
        self._term = term
        self._trusted = trusted
        self._pool: Pool = tools.pool
        self._provider: Provider = tools.provider
        self._rand: Random = tools.rand
        self._lifetime_s = tools.lifetime_s
        pushes = tools.provider.capabilities.push and tools.hooks_url is not None
        self._address = tools.hooks_url if pushes else None
        self._secret: str | None = None
        self._doubted = False
        self._stopping = False
        self._wake = asyncio.Event()
        self.active = False

    def doubt(self) -> None:
        """The provider said that the subscription ended, or will."""
        self._doubted = True
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Until stopped. Raises TermOver."""
        backoff = Backoff(self._rand, base=1.0, cap=300.0)
        standing: Standing | None = None
        while not self._stopping:
            wait_s = 0.0
            try:
                if not self._trusted():
                    wait_s = 1.0
                elif standing is None:
                    standing = await self._load()
                else:
                    standing, wait_s = await self._step(standing)
                    self.active = standing.active is not None
                if not wait_s:
                    backoff.reset()
            except TermOver:
                raise
            except (CloudError, StoreError, TimeoutError) as error:
                if backoff.attempt == 0:
                    _log.warning("calls of the provider cannot be arranged", feed=self._feed_id, error=str(error))
                FEED_SUBSCRIPTIONS.labels(self._provider.name, "failed").inc()
                wait_s = max(backoff.next(), error.retry_after_s if isinstance(error, RateLimited) else 0.5)
                # Whether the row was written is not known: what it says counts.
                standing = None if isinstance(error, StoreError) else standing
            if wait_s:
                await self._rest(wait_s)

    async def _step(self, standing: Standing) -> tuple[Standing, float]:
        now = clock.wall()
        task = plan(standing, now, address=self._address, lifetime_s=self._lifetime_s, doubted=self._doubted)
        if isinstance(task, Rest):
            return standing, min(_REST_MAX_S, max(0.05, task.until - now))
        if isinstance(task, Retire):
            return await self._save(task.standing, "retired"), 0.0
        if isinstance(task, End):
            async with asyncio.timeout(_CALL_S):
                await self._provider.unsubscribe(task.retired)
            return await self._save(ended(standing, task.retired), "ended"), 0.0
        address, secret = self._address, self._secret
        assert address is not None, "nothing is made without an address"
        if isinstance(task, Reserve):
            standing = await self._save(task.standing, "reserved")
            secret = self._secret
            assert secret is not None, "saving gives the feed its secret"
            async with asyncio.timeout(_CALL_S):
                new = await self._provider.subscribe(address, secret, lifetime_s=self._lifetime_s)
        else:
            renewed = await self._renew(task, address, secret)
            if renewed is None:
                return await self._save(lost(standing), "lost"), 0.0
            new = renewed
        self._doubted = False
        change = "made" if isinstance(task, Reserve) else "renewed"
        return await self._save(made(standing, new, clock.wall(), address), change), 0.0

    async def _renew(self, task: Renew, address: str, secret: str | None) -> Subscription | None:
        assert secret is not None, "what is active was made with a secret"
        try:
            async with asyncio.timeout(_CALL_S):
                return await self._provider.renew(task.active, address, secret, lifetime_s=self._lifetime_s)
        except NotFound:
            return None

    async def _load(self) -> Standing:
        body, self._secret = await remote_feeds.subscriptions(self._pool, self._feed_id)
        if body is None:
            return Standing()
        try:
            return msgspec.json.decode(body, type=Standing)
        except msgspec.DecodeError as error:
            _log.error("row of subscriptions makes no sense, beginning anew", feed=self._feed_id, error=str(error))
            return Standing()

    async def _save(self, standing: Standing, change: str) -> Standing:
        body = msgspec.json.encode(standing).decode()
        secret = self._secret or hook_secret(self._feed_id, secrets.token_bytes(16))

        async def work(connection: Connection) -> None:
            await leases.fence(connection, self._feed_id, self._term)
            await remote_feeds.save_subscriptions(connection, self._feed_id, body, secret)

        await self._pool.run(work, repeatable=True)
        if self._secret is None:
            _, self._secret = await remote_feeds.subscriptions(self._pool, self._feed_id)
        FEED_SUBSCRIPTIONS.labels(self._provider.name, change).inc()
        _log.info("calls of the provider", feed=self._feed_id, change=change)
        return standing

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
