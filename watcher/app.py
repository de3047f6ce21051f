"""A watcher as a process: everything is built here, and taken down here from top to bottom."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final, TypeVar
from uuid import uuid4

import structlog

from shared import clock, lifecycle
from shared.asgi_server import PortBusy
from shared.backoff import Backoff
from shared.bus.hints import HintOffers
from shared.bus.lease_lock import LeaseLocks
from shared.bus.publisher import Publisher
from shared.bus.redis_client import LazyRedis
from shared.cloud.errors import CloudError
from shared.cloud.stores import Stores, open_stores
from shared.cloud.threads import FileThreads
from shared.hash_slots import PARTITIONS
from shared.hint_servers import open_offers
from shared.settings import SettingsError, load
from shared.store import feeds
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.telemetry import logs
from shared.telemetry.health import OpsServer, Readiness
from shared.telemetry.traces import Tracer, open_tracer
from watcher.disk import Disk
from watcher.feed_loop import FeedTimes, FeedTools
from watcher.feed_set import FeedSet, Refusals
from watcher.holders import Routed
from watcher.inotify import Inotify
from watcher.leases import LeaseKeeper, LeaseTimes, Replaced
from watcher.look import Looker
from watcher.ownership import Ownership
from watcher.record import PAGE_STATEMENTS, Recorded, Recorder
from watcher.remote.feed_set import RemoteFeedSet
from watcher.remote.parts import REMOTE_STATEMENTS, build_remote, transactions_of_remote
from watcher.settings import Settings
from watcher.tasks import end
from watcher.tree import WatchedTree
from watcher.wake import FeedWake

T = TypeVar("T")

_log = structlog.get_logger(__name__)

STORE: Final = "local"
_LARGE_AT_ONCE: Final = 2
_LEAVE_S: Final = 10.0


def feeds_of_root(root_name: str) -> list[feeds.Feed]:
    """The feeds that a local root is split into."""
    return [feeds.Feed(f"{STORE}:{root_name}:{number}", STORE, root_name, number) for number in range(PARTITIONS)]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What one watcher is made of."""

    settings: Settings
    pool: Pool
    redis: LazyRedis
    publisher: Publisher
    hints: HintOffers
    threads: FileThreads
    large_threads: FileThreads
    tree: WatchedTree
    disk: Disk
    ownership: Ownership
    keeper: LeaseKeeper
    feed_set: FeedSet
    refusals: Refusals
    stores: Stores
    remote: RemoteFeedSet

    def readiness(self) -> Readiness:
        """Ready while Postgres answers and the cloud folder can be used."""
        reasons = []
        if clock.monotonic() - self.keeper.answered_at > self.settings.trust_s:
            reasons.append("Postgres cannot be asked")
        if self.disk.problem is not None:
            reasons.append(f"cloud folder: {self.disk.problem}")
        detail = {
            "feeds": len(self.ownership.held),
            "cloud_feeds": self.remote.status(),
            "watchers": sorted(self.ownership.members),
            "folders_watched": len(self.tree),
            "notices": self.tree.complete,
            "refused": len(self.refusals),
        }
        return Readiness(not reasons, tuple(reasons), detail)


def _build(settings: Settings, pool: Pool, root_feeds: list[feeds.Feed], rand: Random, tracer: Tracer | None) -> _Parts:
    partitions = {feed.feed_id: feed.partition for feed in root_feeds if feed.partition is not None}
    redis = LazyRedis(settings.redis_url, deadline_s=settings.redis_deadline_s, connections=4, name="watcher-leases")
    publisher = Publisher(settings.redis_url, name="watcher-publisher", on_taken=tracer.published if tracer else None)
    hints = open_offers(settings.hints_url, name="watcher-hints")
    threads = FileThreads(settings.cloud_threads, deadline_s=settings.cloud_deadline_s)
    large_threads = FileThreads(_LARGE_AT_ONCE, deadline_s=settings.cloud_deadline_s)
    tree = WatchedTree(_inotify(settings))
    refusals = Refusals()
    disk = Disk(settings.cloud_root, tree, threads, on_refused=refusals.add)

    def after_commit(recorded: Recorded) -> None:
        for queue, job_id in recorded.jobs:
            hints.offer(queue, job_id)
        for message in recorded.events:
            publisher.offer(message)

    async def give_up(feed: str, term: int) -> None:
        await keeper.give_up(feed, term)

    stores = open_stores(settings, pool=pool, redis=redis)
    remote = build_remote(
        settings,
        stores,
        pool,
        hints=hints,
        publisher=publisher,
        refusals=refusals,
        trusted=lambda feed, term: ownership.trusted(feed, term, clock.monotonic()),
        give_up=give_up,
        rand=rand,
        tracer=tracer,
    )
    ownership = Ownership(settings.name, [*partitions, *remote.feed_ids], trust_s=settings.trust_s)
    keeper = LeaseKeeper(
        pool,
        # The same name in every run: a watcher that comes back need not wait for its own locks to expire.
        LeaseLocks(redis, owner=settings.name, ttl_s=settings.lease_s, deadline_s=settings.redis_deadline_s),
        ownership,
        instance=str(uuid4()),
        times=LeaseTimes(
            heartbeat_s=settings.heartbeat_s,
            ttl_s=settings.lease_s,
            scan_s=settings.membership_s,
            silence_s=settings.silence_s,
        ),
        rand=rand,
    )
    # One connection is left to the leases.
    at_once = max(1, settings.db_pool_max - 2 - transactions_of_remote(stores))
    kinds = settings.job_kinds(settings.queue)
    tools = FeedTools(
        pool=pool,
        recorder=Recorder(pool, store=STORE, kinds=kinds, after_commit=after_commit, at_once=at_once, tracer=tracer),
        disk=disk,
        looker=Looker(disk, pool, threads, large_threads, large_at_once=_LARGE_AT_ONCE),
        threads=threads,
        store=STORE,
        times=FeedTimes(
            settle_s=settings.settle_s, quiet_s=settings.quiet_s, rescan_s=settings.rescan_s, poll_s=settings.poll_s
        ),
        take_baseline=settings.take_baseline,
        on_refused=refusals.add,
        rand=rand,
    )
    feed_set = FeedSet(
        partitions,
        tools=tools,
        tree=tree,
        refusals=refusals,
        trusted=lambda feed, term: ownership.trusted(feed, term, clock.monotonic()),
        give_up=keeper.give_up,
    )
    return _Parts(
        settings,
        pool,
        redis,
        publisher,
        hints,
        threads,
        large_threads,
        tree,
        disk,
        ownership,
        keeper,
        feed_set,
        refusals,
        stores,
        remote,
    )


def _inotify(settings: Settings) -> Inotify | None:
    if settings.notices == "poll":
        return None
    try:
        return Inotify()
    except OSError as error:
        _log.warning("changes are not told here, polling instead", error=str(error), seconds=settings.poll_s)
        return None


def _statements(settings: Settings) -> tuple[str, ...]:
    return (*PAGE_STATEMENTS, *REMOTE_STATEMENTS) if settings.cloud_stores else PAGE_STATEMENTS


async def serve(settings: Settings, stop: lifecycle.Stop) -> int:
    """Run until `stop`: finish the pages, give the leases back, flush the hints, go."""
    rand = SystemRandom()
    pool = await _until_it_works(
        lambda: settings.open_pool("watcher", prepared=_statements(settings)), "Postgres cannot be used", stop, rand
    )
    if pool is None:
        return 0
    root_feeds = feeds_of_root(settings.root_name)
    tracer = open_tracer(settings, process="watcher", name=settings.name)
    parts = _build(settings, pool, root_feeds, rand, tracer)
    ops = OpsServer(
        settings.ops_host, settings.ops_port, process="watcher", readiness=parts.readiness, token=settings.ops_token
    )
    senders = [
        asyncio.create_task(parts.publisher.run(), name="publisher"),
        asyncio.create_task(parts.hints.run(), name="job hints"),
    ]

    async def join() -> bool:
        await feeds.ensure(pool, [*root_feeds, *(feed for feed, _ in parts.remote.rows)])
        if not await feeds.ever_scanned(pool, [feed.feed_id for feed in root_feeds]):
            await parts.disk.make_areas()
        await parts.keeper.join(Routed(parts.feed_set, parts.remote))
        return True

    status = 0
    try:
        await ops.start()
        parts.tree.start(parts.feed_set)
        if await _until_it_works(join, "cannot join the watchers", stop, rand):
            _log.info("watching", root=str(settings.cloud_root), name=settings.name, ops_port=ops.port)
            status = await _watch(parts, stop)
            async with asyncio.timeout(_LEAVE_S):
                await parts.keeper.close()
    except TimeoutError:
        _log.warning("leases not given back in time, they end by themselves")
    finally:
        await asyncio.gather(parts.feed_set.close(), parts.remote.close())
        parts.tree.close()
        await asyncio.gather(parts.publisher.close(), parts.hints.close())
        await end(senders)
        await ops.close()
        await asyncio.gather(parts.threads.close(grace_s=2.0), parts.large_threads.close(grace_s=2.0))
        if tracer is not None:
            await tracer.close()
        await parts.stores.close()
        await parts.redis.aclose()
        await pool.close(timeout_s=2.0)
        parts.disk.close()
    return status


async def _watch(parts: _Parts, stop: lifecycle.Stop) -> int:
    """Until `stop`, or until another takes this watcher's name."""
    tasks = [
        asyncio.create_task(parts.keeper.run(), name="leases"),
        asyncio.create_task(_look_for_arrivals(parts), name="arrivals"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    if parts.stores.names:
        tasks.append(asyncio.create_task(_wake(parts).run(), name="wakes"))
    status = 0
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except Replaced as replaced:
        _log.error("stopping", detail=str(replaced))
        status = 1
    finally:
        await end(tasks)
    return status


def _wake(parts: _Parts) -> FeedWake:
    return FeedWake(
        parts.pool,
        parts.settings.redis_url,
        held=lambda: parts.remote.held,
        on_hint=parts.remote.on_hint,
        look_s=parts.settings.hints_s,
        rand=SystemRandom(),
    )


async def _look_for_arrivals(parts: _Parts) -> None:
    while True:
        await asyncio.sleep(parts.settings.arrivals_s)
        await parts.feed_set.look_for_arrivals()
        await parts.remote.look()


async def _until_it_works(
    attempt: Callable[[], Awaitable[T]], trouble: str, stop: lifecycle.Stop, rand: Random
) -> T | None:
    """What `attempt` returns, tried with backoff; None when `stop` comes first."""
    backoff = Backoff(rand, base=0.2, cap=5.0)
    while not stop.requested:
        try:
            return await attempt()
        except (StoreError, CloudError, OSError) as error:
            _log.warning(trouble, error=str(error))
            await stop.wait_for(backoff.next())
    return None


def main() -> int:
    """The process: settings from the environment, exit status for the shell."""
    try:
        settings = load(Settings, os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    logs.configure("watcher", settings.log_level, json=settings.log_format == "json")

    async def run(stop: lifecycle.Stop) -> int:
        try:
            return await serve(settings, stop)
        except (PortBusy, SettingsError) as error:
            _log.error("cannot start", detail=str(error))
            return 2

    return lifecycle.run(run, environ=os.environ)
