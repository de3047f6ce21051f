"""A feed that follows a model drive, with a real Postgres behind it."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from loadtests.watching.model_drive import ModelDrive
from shared.job_kinds import DEFAULT_KINDS
from shared.store import devices, feeds, leases
from shared.store.pool import Pool, open_pool
from tests.watcher.rig import until
from watcher.remote.feed_machine import PollTimes
from watcher.remote.feed_set import feeds_of
from watcher.remote.loop import RemoteFeed, RemoteTools
from watcher.remote.outcome import Told
from watcher.remote.record import RemoteRecorder
from watcher.tasks import end

QUICK = PollTimes(
    active_s=0.005, idle_s=0.01, gap_s=0.001, error_base_s=0.01, error_max_s=0.05, store_error_max_s=0.05, keep_s=0.05
)


class Following:
    """A feed of one drive under a lease, and what it did."""

    def __init__(self, pool: Pool, drive: ModelDrive, *, take_baseline: bool = True, **how: Any) -> None:
        self.pool = pool
        self.drive = drive
        self.told: list[Told] = []
        self.term = 0
        self.partition: int | None = None
        recorder = RemoteRecorder(
            pool,
            store=drive.name,
            kinds=DEFAULT_KINDS,
            after_commit=self.told.append,
            at_once=asyncio.Semaphore(2),
        )
        self.tools = RemoteTools(
            pool=pool,
            provider=drive,  # type: ignore[arg-type] # it has what a feed asks for
            recorder=recorder,
            times=how.pop("times", QUICK),
            take_baseline=take_baseline,
            hooks_url=how.pop("hooks_url", None),
            lifetime_s=how.pop("lifetime_s", 3600.0),
            rand=Random(7),
        )
        self.trusted = True
        self.feed: RemoteFeed | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def feed_id(self) -> str:
        return feeds_of(self.tools)[0].feed_id

    async def begin(self, owner: str = "w1") -> None:
        """Claim the feed, under a new term, and follow."""
        (feed, *_) = feeds_of(self.tools)
        await feeds.ensure(self.pool, [feed])
        await leases.ensure(self.pool, [self.feed_id])
        await self.pool.fetch("UPDATE leases SET expires_at = '-infinity'")
        self.term = (await leases.claim(self.pool, [self.feed_id], owner, ttl_s=600, limit=1))[self.feed_id]
        self.feed = RemoteFeed(self.feed_id, feed.partition, self.term, trusted=lambda: self.trusted, tools=self.tools)
        self.task = asyncio.create_task(self.feed.run())

    async def kill(self) -> None:
        """End without a word."""
        if self.task is not None:
            await end([self.task])

    async def settled(self) -> None:
        """Until everything that there is now was told and done."""
        assert self.feed is not None
        asked = self.drive.asked

        async def quiet() -> bool:
            assert self.task is not None
            if self.task.done():
                self.task.result()
            (row,) = await self.pool.fetch(
                "SELECT cursor, phase, more, polled_at FROM feeds WHERE feed_id = $1", self.feed_id
            )
            (left,) = await self.pool.fetch(
                "SELECT (SELECT count(*) FROM cloud_folders WHERE unsettled > 1) "
                "+ (SELECT count(*) FROM items WHERE leaving > 0) AS left"
            )
            ends = f":{len(self.drive.log)}:-1:0:0"
            caught_up = (row["cursor"] or "").endswith(ends) and str(row["cursor"]).startswith(f"d:{self.drive.age}:")
            told = row["phase"] == "changes" and not row["more"] and not left["left"]
            return bool(caught_up and told and self.drive.asked > asked + 2)

        await until(quiet, "feed caught up", deadline_s=20)

    async def jobs(self) -> list[str]:
        return [row["path"] for row in await self.pool.fetch("SELECT path FROM jobs ORDER BY path, created_at")]

    async def announced(self) -> list[str]:
        rows = await self.pool.fetch("SELECT path FROM response_files ORDER BY path, file_id")
        return [row["path"] for row in rows]

    async def ledger(self) -> dict[str, str]:
        rows = await self.pool.fetch("SELECT item_id, path FROM items ORDER BY item_id")
        return {row["item_id"]: row["path"] for row in rows}

    async def states(self) -> dict[str, str]:
        rows = await self.pool.fetch("SELECT path, state FROM items ORDER BY path")
        return {row["path"]: row["state"] for row in rows}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=6)
    for device_id in ("truck-1", "truck-2"):
        await devices.ensure(opened, device_id, "truck")
    yield opened
    await opened.close()


@pytest.fixture
async def following(pool: Pool) -> AsyncIterator[Following]:
    """A feed that is not begun yet, over an empty drive."""
    made = Following(pool, ModelDrive())
    yield made
    await made.kill()
