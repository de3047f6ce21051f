"""A partition of a bucket, watched by listings of a real S3 server, with a real Postgres behind it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from random import Random

import pytest

from loadtests.s3_process import KEY, S3Server, running_s3
from shared.cloud.http import HttpClient
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.devices import Devices
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.listing import Listing
from shared.cloud.s3.provider import S3Provider
from shared.cloud.s3.watch import Watch
from shared.hash_slots import partition_of
from shared.job_kinds import DEFAULT_KINDS
from shared.store import feeds, leases
from shared.store.pool import Pool
from tests.watcher.remote.conftest import QUICK
from tests.watcher.rig import until
from watcher.remote.feed_set import feeds_of
from watcher.remote.loop import RemoteFeed, RemoteTools
from watcher.remote.record import RemoteRecorder
from watcher.tasks import end


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_s3() as running:
        yield running


@pytest.fixture
async def provider(server: S3Server) -> AsyncIterator[S3Provider]:
    http = HttpClient(deadline_s=20.0)
    client, keys = S3Client(server.bucket, KEY, http), Keys("fleet")
    listing = Listing(client)
    watch = Watch(listing, keys, devices=Devices(listing, keys, round_s=0.01))
    made = S3Provider(client, prefix="fleet", watch=watch)
    yield made
    await made.close()
    await http.close()


@pytest.fixture
async def followed(pool: Pool, provider: S3Provider) -> AsyncIterator[RemoteFeed]:
    """The feed of truck-1's partition."""
    recorder = RemoteRecorder(
        pool,
        store=provider.name,
        kinds=DEFAULT_KINDS,
        after_commit=lambda told: None,
        at_once=asyncio.Semaphore(2),
    )
    tools = RemoteTools(
        pool=pool,
        provider=provider,
        recorder=recorder,
        times=QUICK,
        take_baseline=True,
        hooks_url=None,
        lifetime_s=3600.0,
        rand=Random(7),
    )
    (feed,) = [one for one in feeds_of(tools) if one.partition == partition_of("truck-1")]
    await feeds.ensure(pool, [feed])
    await leases.ensure(pool, [feed.feed_id])
    term = (await leases.claim(pool, [feed.feed_id], "w1", ttl_s=600, limit=1))[feed.feed_id]
    made = RemoteFeed(feed.feed_id, feed.partition, term, trusted=lambda: True, tools=tools)
    task = asyncio.create_task(made.run())
    yield made
    await end([task])


async def test_what_comes_into_a_bucket_becomes_jobs_and_announcements_once_each(
    pool: Pool, provider: S3Provider, followed: RemoteFeed
) -> None:
    async def jobs() -> list[str]:
        return [row["path"] for row in await pool.fetch("SELECT path FROM jobs ORDER BY created_at")]

    async def told(paths: list[str]) -> None:
        async def are_there() -> bool:
            return await jobs() == paths

        await until(are_there, f"jobs for {paths}", deadline_s=20)

    await provider.put_new("Requests/truck-1/a ü.txt", b"one")
    await told(["Requests/truck-1/a ü.txt"])
    await provider.put_new("Requests/truck-1/b.txt", b"two")
    await told(["Requests/truck-1/a ü.txt", "Requests/truck-1/b.txt"])
    # Another content under the same name is another request.
    await provider.remove("Requests/truck-1/b.txt")
    await provider.put_new("Requests/truck-1/b.txt", b"three")
    await told(["Requests/truck-1/a ü.txt", "Requests/truck-1/b.txt", "Requests/truck-1/b.txt"])

    await provider.put_new("Responses/truck-1/report.pdf", b"report")

    async def announced() -> bool:
        rows = await pool.fetch("SELECT path, sha256 FROM response_files")
        return [row["path"] for row in rows] == ["Responses/truck-1/report.pdf"]

    await until(announced, "the response announced", deadline_s=20)
    await provider.remove("Requests/truck-1/a ü.txt")

    async def forgotten() -> bool:
        rows = await pool.fetch("SELECT path FROM items ORDER BY path")
        return [row["path"] for row in rows] == ["Requests/truck-1/b.txt", "Responses/truck-1/report.pdf"]

    await until(forgotten, "the removed file forgotten", deadline_s=20)
    assert len(await jobs()) == 3
    await provider.put_new("Requests/truck-1/c.txt", b"four")

    async def polled(times: int) -> list[tuple[str, str]]:
        """The rows and who wrote them last, when that many polls have passed."""
        (asked,) = await pool.fetch("SELECT generation FROM feeds")

        async def passed() -> bool:
            (now,) = await pool.fetch("SELECT generation, phase FROM feeds")
            return bool(now["generation"] > asked["generation"] + times and now["phase"] == "changes")

        await until(passed, f"{times} polls", deadline_s=20)
        return [tuple(row) for row in await pool.fetch("SELECT item_id, xmin::text FROM items ORDER BY item_id")]

    await told([*(await jobs())[:3], "Requests/truck-1/c.txt"])
    before = await polled(1)
    assert len(before) == 3
    assert await polled(3) == before, "a poll that found nothing new wrote nothing"
