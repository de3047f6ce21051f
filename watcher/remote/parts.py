"""Building what watches cloud providers, from settings."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from shared.bus.hints import HintOffers
from shared.bus.publisher import Publisher
from shared.cloud.provider import Provider
from shared.cloud.stores import Stores
from shared.store import remote_feeds, remote_items
from shared.store.pool import Pool
from shared.telemetry.metrics import WATCHER_FILES
from shared.telemetry.traces import Tracer
from watcher.feed_set import Refusals
from watcher.remote.feed_machine import PollTimes
from watcher.remote.feed_set import RemoteFeedSet
from watcher.remote.loop import RemoteTools
from watcher.remote.outcome import Told
from watcher.remote.record import RemoteRecorder
from watcher.settings import Settings

REMOTE_STATEMENTS: Final = (*remote_feeds.TRANSACTION_STATEMENTS, *remote_items.TRANSACTION_STATEMENTS)
"""What steps run inside their transactions, for every connection to know beforehand."""
_AT_ONCE: Final = 2
_HOOKS: Final = {"sharepoint": "graph", "drive": "drive", "s3": "s3"}


def transactions_of_remote(stores: Stores) -> int:
    """How many connections the feeds of providers may use at once."""
    return _AT_ONCE if stores.names else 0


def build_remote(
    settings: Settings,
    stores: Stores,
    pool: Pool,
    *,
    hints: HintOffers,
    publisher: Publisher,
    refusals: Refusals,
    trusted: Callable[[str, int], bool],
    give_up: Callable[[str, int], Awaitable[None]],
    rand: Random,
    tracer: Tracer | None = None,
) -> RemoteFeedSet:
    """The feeds of all stores that are open."""
    at_once = asyncio.Semaphore(_AT_ONCE)
    kinds = settings.job_kinds(settings.queue)

    def after_commit(told: Told) -> None:
        for queue, job_id in told.jobs:
            hints.offer(queue, job_id)
        for message in told.events:
            publisher.offer(message)
        for verdict in told.verdicts:
            WATCHER_FILES.labels(verdict.value).inc()
        if told.gone:
            WATCHER_FILES.labels("gone").inc(told.gone)
        for refused in told.refused:
            refusals.add(refused)

    def tools(provider: Provider) -> RemoteTools:
        recorder = RemoteRecorder(
            pool,
            store=provider.name,
            kinds=kinds,
            after_commit=after_commit,
            at_once=at_once,
            rand=rand,
            tracer=tracer,
        )
        return RemoteTools(
            pool=pool,
            provider=provider,
            recorder=recorder,
            times=times_of(settings, provider),
            take_baseline=settings.take_baseline,
            hooks_url=hook_address(settings.cloud_hooks_url, provider.name),
            lifetime_s=settings.subscription_s,
            rand=rand,
        )

    return RemoteFeedSet({one.name: tools(one) for one in stores}, pool=pool, trusted=trusted, give_up=give_up)


def times_of(settings: Settings, provider: Provider) -> PollTimes:
    """How often a provider is asked."""
    lists = provider.capabilities.changes == "listing"
    idle_s = settings.listing_s if lists else settings.remote_idle_s
    return PollTimes(
        active_s=min(idle_s, settings.remote_active_s * (5 if lists else 1)), idle_s=idle_s, resync_s=settings.resync_s
    )


def hook_address(hooks_url: str | None, store: str) -> str | None:
    """Where a provider calls us about a store."""
    kind = _HOOKS.get(store.partition(":")[0])
    return f"{hooks_url}/api/v1/hooks/{kind}" if hooks_url is not None and kind is not None else None
