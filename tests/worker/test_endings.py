import asyncio
import json
from random import Random
from typing import Any

import pytest

from shared.bus.message import Message
from shared.cloud.hashes import digest_of
from shared.store import devices, jobs, log
from shared.store.errors import StoreUnavailable
from shared.store.jobs import Claimed
from shared.store.pool import Pool
from tests.shared.store.test_jobs import claim, new_job, put, status, until_claimed
from worker.endings import Endings
from worker.handlers.contract import Answer
from worker.response_document import DocumentFile, RequestPart, document_of
from worker.response_writer import Committed


class Bus:
    """Remembers what was offered, and whether the job was done by then."""

    def __init__(self) -> None:
        self.offered: list[Message] = []

    def offer(self, message: Message) -> None:
        self.offered.append(message)


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def endings(pool: Pool, bus: Bus) -> Endings:
    return Endings(pool, bus, rand=Random(1), tries=3, pause_s=0.01)


def response(job: Claimed) -> Committed:
    files = [DocumentFile("a.txt", 1, "a" * 64, "text/plain")]
    document = document_of(
        job_id=job.job_id, device_id=job.device_id, request=RequestPart(job.name, 1, "0" * 64), handler="t",
        answer=Answer("processed"), files=files, finished_at="",
    )  # fmt: skip
    return Committed(document, digest_of(b"document"))


async def events(pool: Pool, device_id: str = "d1") -> list[log.StoredEvent]:
    return (await log.read_pages(pool, [log.PageRequest(device_id, 0, 500, 10**7)]))[device_id].events


async def test_an_ending_records_the_event_and_offers_what_was_recorded(pool: Pool, endings: Endings, bus: Bus) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    assert await endings.ready(job, response(job))
    (event,) = await events(pool)
    (message,) = bus.offered
    assert (message.device_id, message.epoch, message.seq, message.body) == ("d1", 1, 1, event.body)
    assert b'"name":"response.json"' in event.body
    assert await status(pool, job.job_id) == "done"


async def test_an_ending_that_comes_twice_or_too_late_records_nothing(pool: Pool, endings: Endings, bus: Bus) -> None:
    await put(pool, new_job())
    (old,) = await claim(pool, lease_s=0.01)
    (new,) = await until_claimed(pool, "heir")
    assert not await endings.ready(old, response(old))
    assert not await endings.failed(old, "late")
    assert await endings.ready(new, response(new))
    assert not await endings.ready(new, response(new))
    assert len(await events(pool)) == len(bus.offered) == 1


async def test_endings_that_come_together_share_transactions(pool: Pool, endings: Endings, bus: Bus) -> None:
    await put(pool, *(new_job(f"{n}", f"d{n % 4}") for n in range(40)))
    claimed = await claim(pool, limit=100)
    before = await transactions(pool)
    results = await asyncio.gather(*(endings.ready(job, response(job)) for job in claimed))
    assert results == [True] * 40
    assert len(bus.offered) == 40
    assert await transactions(pool) - before <= 12
    heads = [state.head for n in range(4) if (state := await devices.get(pool, f"d{n}")) is not None]
    assert heads == [10, 10, 10, 10]


async def test_the_first_to_end_waits_a_moment_for_the_others_at_work(pool: Pool, bus: Bus) -> None:
    await put(pool, *(new_job(f"{n}") for n in range(3)))
    claimed = await claim(pool, limit=3)
    endings = Endings(pool, bus, rand=Random(1), gather_s=30, at_work=lambda: 3)
    first, second = (asyncio.create_task(endings.ready(job, response(job))) for job in claimed[:2])
    await asyncio.sleep(0.05)
    assert not first.done()
    assert bus.offered == []
    before = await transactions(pool)
    assert await endings.ready(claimed[2], response(claimed[2]))
    assert all(await asyncio.gather(first, second))
    assert await transactions(pool) - before <= 3  # one of them is our own question


async def test_the_moment_is_over_also_if_the_others_do_not_end(pool: Pool, bus: Bus) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    endings = Endings(pool, bus, rand=Random(1), gather_s=0.02, at_work=lambda: 9)
    async with asyncio.timeout(10):
        assert await endings.ready(job, response(job))


async def test_a_job_that_is_alone_waits_for_nobody(pool: Pool, bus: Bus) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    endings = Endings(pool, bus, rand=Random(1), gather_s=3600, at_work=lambda: 1)
    async with asyncio.timeout(10):
        assert await endings.ready(job, response(job))


async def test_a_stop_writes_what_waits_and_waits_for_no_more(pool: Pool, bus: Bus) -> None:
    (job_id,) = await put(pool, new_job())
    (job,) = await claim(pool)
    endings = Endings(pool, bus, rand=Random(1), gather_s=3600, at_work=lambda: 9)
    ending = asyncio.create_task(endings.ready(job, response(job)))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await endings.close()
        assert await ending
    assert await status(pool, job_id) == "done"


async def test_a_lease_lost_inside_a_batch_has_no_effect_and_the_others_are_unharmed(pool: Pool, bus: Bus) -> None:
    await put(pool, new_job("kept"), new_job("lost"))
    claimed = {job.name: job for job in await claim(pool, limit=2, lease_s=0.01)}
    heirs = [await until_claimed(pool, "heir"), await claim(pool, "heir")]
    heir = {job.name: job for batch in heirs for job in batch}
    endings = Endings(pool, bus, rand=Random(1), gather_s=0.5, at_work=lambda: 3)
    results = await asyncio.gather(
        endings.ready(heir["kept"], response(heir["kept"])),
        endings.ready(claimed["lost"], response(claimed["lost"])),
        # The same worker may hold the job again: its late first attempt must not pass for the second.
        endings.failed(heir["lost"], "the heir's word counts"),
    )
    assert list(results) == [True, False, True]
    assert len(await events(pool)) == len(bus.offered) == 2
    assert await status(pool, heir["lost"].job_id) == "dead"


async def test_an_answer_goes_out_in_the_event_and_names_no_file(pool: Pool, endings: Endings, bus: Bus) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    assert await endings.answered(job, {"outcome": "processed", "summary": {"n": 1}})
    assert not await endings.answered(job, {"outcome": "processed", "summary": {"n": 2}})
    (event,) = await events(pool)
    data = json.loads(event.body)["data"]
    assert (data["files"], data["answer"]["summary"]) == ([], {"n": 1})
    assert await status(pool, job.job_id) == "done"
    assert len(bus.offered) == 1


async def transactions(pool: Pool) -> int:
    await pool.fetch("SELECT pg_stat_force_next_flush()")
    rows = await pool.fetch("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    return int(rows[0][0])


async def test_a_failed_job_is_dead_and_keeps_its_whole_error_of_which_the_device_is_told_the_beginning(
    pool: Pool, endings: Endings
) -> None:
    (job_id,) = await put(pool, new_job())
    (job,) = await claim(pool)
    assert await endings.failed(job, "E" * 2000)
    found = await jobs.get(pool, job_id)
    assert found is not None
    assert (found.current_status, found.error) == ("dead", "E" * 2000)
    (event,) = await events(pool)
    assert b"RequestFailed" in event.body
    assert b"E" * 500 in event.body
    assert b"E" * 501 not in event.body


async def test_one_ending_that_cannot_be_written_does_not_take_others_along(pool: Pool, endings: Endings) -> None:
    await put(pool, new_job("good"), new_job("bad"), new_job("fine"))
    claimed = {job.name: job for job in await claim(pool)}
    broken = response(claimed["bad"])
    wrong = DocumentFile("a.txt", -1, "a" * 64, "x")
    broken.document.files[0] = wrong
    results = await asyncio.gather(
        endings.ready(claimed["good"], response(claimed["good"])),
        endings.ready(claimed["bad"], broken),
        endings.ready(claimed["fine"], response(claimed["fine"])),
        return_exceptions=True,
    )
    assert results[0] is True
    assert isinstance(results[1], Exception)
    assert results[2] is True


async def test_a_caller_that_is_cancelled_does_not_stop_its_ending(pool: Pool, endings: Endings) -> None:
    (job_id,) = await put(pool, new_job())
    (job,) = await claim(pool)
    ending = asyncio.create_task(endings.ready(job, response(job)))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    await endings.close()
    assert await status(pool, job_id) == "done"


async def test_a_database_that_is_away_is_told_to_the_caller_in_bounded_time(pool: Pool, endings: Endings) -> None:
    await put(pool, new_job())
    (job,) = await claim(pool)
    await pool.close()
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable):
            await endings.ready(job, response(job))


async def test_a_commit_whose_answer_is_lost_is_not_made_twice(pool: Pool, bus: Bus) -> None:
    """The first transaction commits and its answer is lost; trying again finds the job ended."""
    await put(pool, new_job())
    (job,) = await claim(pool)
    forgetful = _Forgetful(pool)
    endings = Endings(forgetful, bus, rand=Random(1), pause_s=0.01)  # type: ignore[arg-type]
    assert not await endings.ready(job, response(job))
    assert forgetful.commits == 2
    assert len(await events(pool)) == 1


class _Forgetful:
    """A pool whose first commit succeeds while its connection breaks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.witness = pool.witness
        self.commits = 0

    async def run(self, work: Any) -> Any:
        self.commits += 1
        result = await self._pool.run(work)
        if self.commits == 1:
            raise StoreUnavailable("connection was closed in the middle of operation")
        return result
