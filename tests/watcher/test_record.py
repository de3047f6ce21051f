"""A page is one transaction under its term: all of it, or nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from shared.job_kinds import DEFAULT_KINDS
from shared.store import devices, feeds, leases
from shared.store.errors import StoreBusy, StoreUnavailable, TermOver
from shared.store.pool import Pool, open_pool
from watcher.pacing import FileStat
from watcher.places import Place, locate
from watcher.record import Page, PageRefused, Recorded, Recorder
from watcher.translate import Seen, Verdict

FEED = "local:cloud:0"


class Book:
    """A recorder over a feed that `w1` holds, and what it told after each commit."""

    def __init__(self, pool: Pool, url: str) -> None:
        self.pool = pool
        self.url = url
        self.told: list[Recorded] = []
        self.term = 0
        self.recorder = Recorder(pool, store="local", kinds=DEFAULT_KINDS, after_commit=self.told.append)

    async def open(self) -> None:
        await feeds.ensure(self.pool, [feeds.Feed(FEED, "local", "cloud", 0)])
        await leases.ensure(self.pool, [FEED])
        await devices.ensure(self.pool, "truck-7", "truck")
        await self.claim("w1")

    async def claim(self, owner: str) -> None:
        await self.pool.fetch("UPDATE leases SET expires_at = '-infinity'")
        self.term = (await leases.claim(self.pool, [FEED], owner, ttl_s=30, limit=1))[FEED]

    async def record(self, *seen: Seen, term: int | None = None, **page: Any) -> list[Verdict]:
        given = Page(seen=list(seen), **page)
        return await self.recorder.page(FEED, self.term if term is None else term, given)

    async def count(self, table: str) -> int:
        return int((await self.pool.fetch(f"SELECT count(*) FROM {table}"))[0]["count"])


@pytest.fixture
async def book(database_url: str) -> AsyncIterator[Book]:
    pool = await open_pool(database_url, name="test", max_size=4)
    made = Book(pool, database_url)
    await made.open()
    yield made
    await pool.close()


def seen(path: str, sha256: str = "1" * 64, *, mtime_ns: int = 5, **how: Any) -> Seen:
    place = locate(path)
    assert isinstance(place, Place)
    return Seen(place, FileStat(11, 7, mtime_ns), sha256, **how)


async def test_a_request_becomes_an_item_a_job_and_the_jobs_first_status(book: Book) -> None:
    assert await book.record(seen("Requests/truck-7/in/a.csv", live=True)) == [Verdict.ANNOUNCED]
    (job,) = await book.pool.fetch("SELECT * FROM jobs")
    assert (job["path"], job["name"], job["kind"], job["queue"]) == (
        "Requests/truck-7/in/a.csv",
        "a.csv",
        "table",
        "requests",
    )
    assert (job["device_id"], job["store"], job["size"], job["content_version"]) == ("truck-7", "local", 7, "1" * 64)
    assert job["current_status"] == "queued"
    assert await book.count("job_status") == 1
    assert [recorded.jobs for recorded in book.told] == [[("requests", job["job_id"])]]


async def test_a_response_becomes_rows_and_an_event_that_is_told_after_the_commit(book: Book) -> None:
    await book.record(seen("Responses/truck-7/r.pdf"), seen("Responses/truck-7/sub/s.pdf"))
    rows = await book.pool.fetch(
        "SELECT r.event_id, r.outcome, r.job_id, f.path, f.sha256, e.seq, e.body FROM responses r "
        "JOIN response_files f USING (response_id) JOIN events e USING (event_id) ORDER BY e.seq"
    )
    assert [(row["path"], row["outcome"], row["job_id"], row["seq"]) for row in rows] == [
        ("Responses/truck-7/r.pdf", "ready", None, 1),
        ("Responses/truck-7/sub/s.pdf", "ready", None, 2),
    ]
    (recorded,) = book.told
    assert [(message.device_id, message.epoch, message.seq) for message in recorded.events] == [
        ("truck-7", 1, 1),
        ("truck-7", 1, 2),
    ]
    assert recorded.events[0].body.decode() == rows[0]["body"]


async def test_seeing_the_same_again_announces_nothing(book: Book) -> None:
    both = [seen("Requests/truck-7/a"), seen("Responses/truck-7/r")]
    await book.record(*both)
    assert await book.record(*both) == [Verdict.UNCHANGED, Verdict.UNCHANGED]
    assert await book.record(seen("Requests/truck-7/a", mtime_ns=6)) == [Verdict.TOUCHED]
    assert await book.record(seen("Requests/truck-7/a", mtime_ns=6)) == [Verdict.UNCHANGED]
    assert (await book.count("jobs"), await book.count("events")) == (1, 1)


async def test_a_page_that_is_recorded_again_because_the_answer_to_its_commit_was_lost_announces_nothing_twice(
    book: Book,
) -> None:
    page = Page(seen=[seen("Requests/truck-7/a", fresh=True), seen("Responses/truck-7/r", fresh=True)])
    for _ in range(2):
        await book.recorder.page(FEED, book.term, page)
    assert [await book.count(table) for table in ("jobs", "job_status", "responses", "response_files", "events")] == [
        1
    ] * 5
    await book.record(seen("Requests/truck-7/a", fresh=True), seen("Responses/truck-7/r", fresh=True))
    assert [await book.count(table) for table in ("jobs", "events")] == [2, 2], "put again, it is another file"


async def test_changed_content_is_announced_again(book: Book) -> None:
    await book.record(seen("Requests/truck-7/a"), seen("Responses/truck-7/r"))
    await book.record(seen("Requests/truck-7/a", "2" * 64), seen("Responses/truck-7/r", "2" * 64))
    assert (await book.count("jobs"), await book.count("events"), await book.count("items")) == (2, 2, 2)


async def test_a_file_removed_and_put_again_is_announced_again(book: Book) -> None:
    await book.record(seen("Requests/truck-7/a"), seen("Responses/truck-7/r"))
    await book.record(gone=["Requests/truck-7/a", "Responses/truck-7/r"])
    assert await book.count("items") == 0
    await book.record(seen("Requests/truck-7/a"), seen("Responses/truck-7/r", fresh=True))
    assert (await book.count("jobs"), await book.count("events")) == (2, 2)


async def test_under_a_term_that_is_over_nothing_is_written(book: Book) -> None:
    old = book.term
    await book.claim("w2")
    with pytest.raises(TermOver):
        await book.record(seen("Requests/truck-7/a"), term=old)
    with pytest.raises(TermOver):
        await book.recorder.arrivals(FEED, old, 10)
    assert (await book.count("items"), await book.count("jobs"), book.told) == (0, 0, [])


class Crowd:
    """Four feeds of one recorder that writes one transaction at a time."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.feeds = [f"local:cloud:{number}" for number in range(4)]
        self.terms: dict[str, int] = {}
        self.recorder = Recorder(
            book.pool, store="local", kinds=DEFAULT_KINDS, after_commit=book.told.append, at_once=1
        )

    async def open(self) -> None:
        pool = self.book.pool
        await feeds.ensure(pool, [feeds.Feed(feed, "local", "cloud", n) for n, feed in enumerate(self.feeds)])
        await leases.ensure(pool, self.feeds)
        await pool.fetch("UPDATE leases SET expires_at = '-infinity'")
        self.terms = await leases.claim(pool, self.feeds, "w1", ttl_s=30, limit=9)

    async def record(self, *paths: str, **more: Page) -> list[Any]:
        """What came of a page of each feed, the first written by itself and the others together."""
        pages = [more.get(path) or Page(seen=[seen(path, "\0" if "bad" in path else "1" * 64)]) for path in paths]
        asks = [self.recorder.page(feed, self.terms[feed], page) for feed, page in zip(self.feeds, pages, strict=True)]
        return await asyncio.gather(*asks, return_exceptions=True)


@pytest.fixture
async def crowd(book: Book) -> Crowd:
    made = Crowd(book)
    await made.open()
    return made


FOUR = [f"Requests/truck-7/{name}" for name in "fabc"]


async def test_pages_of_several_feeds_are_one_transaction_and_each_gets_its_own_verdicts(crowd: Crowd) -> None:
    done, waits = Verdict.ANNOUNCED, Verdict.WAITING
    a = Page(seen=[seen(path) for path in (FOUR[1], "Responses/truck-7/r", "Requests/truck-8/x")])
    b = Page(seen=[seen(FOUR[2])], scanned=True)
    c = Page(seen=[seen(FOUR[3])], gone=["Requests/truck-7/old"])
    assert await crowd.record(FOUR[0], "a", "b", "c", a=a, b=b, c=c) == [[done], [done, done, waits], [done], [done]]
    rows = await crowd.book.pool.fetch("SELECT feed_id, path FROM items ORDER BY path")
    assert [(row["feed_id"], row["path"]) for row in rows] == [
        (crowd.feeds[1], "Requests/truck-7/a"),
        (crowd.feeds[2], "Requests/truck-7/b"),
        (crowd.feeds[3], "Requests/truck-7/c"),
        (crowd.feeds[0], "Requests/truck-7/f"),
        (crowd.feeds[1], "Requests/truck-8/x"),
        (crowd.feeds[1], "Responses/truck-7/r"),
    ]
    assert [(len(one.jobs), len(one.events)) for one in crowd.book.told] == [(1, 0), (3, 1)], "two transactions"
    rows = await crowd.book.pool.fetch("SELECT generation FROM feeds ORDER BY feed_id")
    assert [row["generation"] for row in rows] == [0, 0, 1, 0]


async def test_a_term_that_is_over_is_left_out_and_harms_none_of_those_it_was_joined_with(crowd: Crowd) -> None:
    crowd.terms[crowd.feeds[2]] -= 1
    over = Page(seen=[seen(FOUR[2])], scanned=True)
    first, a, refused, c = await crowd.record(FOUR[0], FOUR[1], "over", FOUR[3], over=over)
    assert [first, a, c] == [[Verdict.ANNOUNCED]] * 3
    assert isinstance(refused, TermOver)
    rows = await crowd.book.pool.fetch("SELECT path FROM jobs ORDER BY path")
    assert [row["path"] for row in rows] == [FOUR[1], FOUR[3], FOUR[0]]
    assert await crowd.book.count("items") == 3
    assert (await crowd.book.pool.fetch("SELECT max(generation) FROM feeds"))[0]["max"] == 0
    assert [len(one.jobs) for one in crowd.book.told] == [1, 2], "nothing had to be written again"


async def test_a_page_that_postgres_refuses_is_refused_alone_and_the_others_are_recorded_once(crowd: Crowd) -> None:
    paths = [FOUR[0], "Responses/truck-7/a", "Requests/truck-7/bad", "Responses/truck-7/c"]
    first, a, bad, c = await crowd.record(*paths)
    assert [first, a, c] == [[Verdict.ANNOUNCED]] * 3
    assert isinstance(bad, PageRefused)
    assert [await crowd.book.count(table) for table in ("items", "jobs", "events")] == [3, 1, 2]


async def test_a_page_that_waits_too_long_for_a_lock_does_not_keep_back_those_joined_with_it(crowd: Crowd) -> None:
    await crowd.book.pool.fetch(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = ''300ms''', current_database()); END $$"
    )
    await crowd.book.pool.reconnect()
    rival = await asyncpg.connect(crowd.book.url)
    try:
        await rival.execute("BEGIN")
        await rival.execute(f"SELECT FROM feeds WHERE feed_id = '{crowd.feeds[2]}' FOR UPDATE")
        first, a, stuck, c = await crowd.record(*FOUR)
    finally:
        await rival.close()
    assert [first, a, c] == [[Verdict.ANNOUNCED]] * 3
    assert isinstance(stuck, StoreBusy)
    assert [await crowd.book.count(table) for table in ("items", "jobs")] == [3, 3]


async def test_a_claim_waits_for_the_page_that_is_being_recorded(book: Book) -> None:
    async with book.pool.transaction() as connection:
        await leases.fence(connection, FEED, book.term)
        await book.pool.fetch("UPDATE leases SET expires_at = '-infinity'")
        assert await leases.claim(book.pool, [FEED], "w2", ttl_s=30, limit=1) == {}
    assert await leases.claim(book.pool, [FEED], "w2", ttl_s=30, limit=1) == {FEED: book.term + 1}


async def test_a_reservation_committed_after_the_file_was_seen_still_counts(book: Book) -> None:
    # The file is seen, and only then, before the page is recorded, does the job's reservation become visible here.
    file = seen("Responses/truck-7/a.job/response.json", live=True)
    await reserve(book, "Responses/truck-7/a.job")
    assert await book.record(file) == [Verdict.RESERVED]
    assert await book.count("events") == 0


async def test_a_recorded_job_folder_stays_reserved_when_the_job_is_deleted(book: Book) -> None:
    await reserve(book, "Responses/truck-7/a.job")
    await book.record(folders=["Responses/truck-7/a.job", "Responses/truck-7/a.job"])
    await book.pool.fetch("DELETE FROM jobs")
    assert await book.record(seen("Responses/truck-7/a.job/late.pdf")) == [Verdict.RESERVED]
    assert await book.count("events") == 0


async def test_files_of_an_unknown_device_wait_and_are_taken_up_once(book: Book) -> None:
    waiting = [seen("Requests/truck-8/a"), seen("Responses/truck-8/r")]
    assert await book.record(*waiting) == [Verdict.WAITING, Verdict.WAITING]
    assert await book.recorder.arrivals(FEED, book.term, 10) == []
    await devices.ensure(book.pool, "truck-8", "truck")
    assert await book.recorder.arrivals(FEED, book.term, 1) == [Verdict.ANNOUNCED]
    assert await book.recorder.arrivals(FEED, book.term, 10) == [Verdict.ANNOUNCED]
    assert await book.recorder.arrivals(FEED, book.term, 10) == []
    assert (await book.count("jobs"), await book.count("events")) == (1, 1)


async def test_a_time_that_cannot_be_relied_on_is_not_kept(book: Book) -> None:
    await book.record(seen("Requests/truck-7/a", racy=True))
    assert (await book.pool.fetch("SELECT mtime_ns FROM items"))[0]["mtime_ns"] is None


async def test_what_postgres_will_not_take_is_said_to_be_so_and_nothing_is_written(book: Book) -> None:
    with pytest.raises(PageRefused):
        await book.record(seen("Requests/truck-7/good"), seen("Requests/truck-7/a", "bad\0version"))
    assert await book.count("items") == 0


async def test_a_stopped_transaction_is_ended_by_the_database_and_hinders_nobody_for_long(book: Book) -> None:
    await book.pool.fetch(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET idle_in_transaction_session_timeout = ''200ms''', "
        "current_database()); END $$"
    )
    stopped = await asyncpg.connect(book.url)
    try:
        await stopped.execute("BEGIN")
        await stopped.fetchrow("SELECT FROM leases WHERE name = $1 AND term = $2 FOR KEY SHARE", FEED, book.term)
        await book.pool.fetch("UPDATE leases SET expires_at = '-infinity'")
        async with asyncio.timeout(5):
            while not await leases.claim(book.pool, [FEED], "w2", ttl_s=30, limit=1):
                await asyncio.sleep(0.02)
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await stopped.execute("COMMIT")
    finally:
        await stopped.close()


async def test_a_postgres_that_is_away_is_said_to_be_so(book: Book) -> None:
    await book.pool.close()
    with pytest.raises(StoreUnavailable):
        await book.record(seen("Requests/truck-7/a"))


async def reserve(book: Book, folder: str) -> None:
    await book.record(seen("Requests/truck-7/request.csv"))
    await book.pool.fetch(
        "INSERT INTO responses (response_id, device_id, job_id, request_name, store, folder) "
        "SELECT gen_random_uuid(), device_id, job_id, name, store, $1 FROM jobs",
        folder,
    )
