import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from uuid import UUID

import pytest

from shared.cloud.errors import BadPath, CloudError, StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_source import BytesContent
from shared.cloud.upload_rows import RowJournal, give_up_left
from shared.cloud.versioned_put import Placed, VersionedPut
from shared.store import cloud_uploads
from shared.store.pool import Pool, open_pool
from tests.shared.cloud.plain_provider import UNIT, PlainProvider, Trouble
from tests.shared.cloud.test_transfer import Slept

PART = 4 * UNIT
LARGE = Random(3).randbytes(100 * UNIT)
"""More than goes in one request."""
PATH = "Responses/truck-7/photo.jpg"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=8, acquire_timeout_s=50)
    yield opened
    await opened.close()


@pytest.fixture
async def transfer() -> AsyncIterator[Transfer]:
    slept = Slept()
    made = Transfer(
        part_bytes=PART, buffered_bytes=8 * PART, rand=Random(1), time=slept.time, sleep=slept.sleep, beat_s=3600
    )
    yield made
    await made.close()


@pytest.fixture
def put(pool: Pool, transfer: Transfer) -> VersionedPut:
    return VersionedPut(pool, transfer, RowJournal(pool))


async def placed(put: VersionedPut, provider: PlainProvider, content: bytes, path: str = PATH) -> Placed:
    return await put.put(provider, path, BytesContent(content))


@pytest.mark.parametrize("in_order", [True, False])
async def test_two_hundred_writers_of_one_name_make_two_hundred_versions_in_a_row(
    put: VersionedPut, in_order: bool
) -> None:
    provider = PlainProvider(in_order=in_order)
    # Every tenth goes in parts.
    contents = [(LARGE if n % 10 == 0 else b"") + b"%d" % n for n in range(200)]
    made = await asyncio.gather(*(placed(put, provider, content) for content in contents))
    assert sorted(one.version for one in made) == list(range(1, 201))
    assert [provider.text(one.path) for one in made] == contents
    assert set(provider.objects) == {PATH, *(f"Responses/truck-7/photo (v{n}).jpg" for n in range(2, 201))}
    assert provider.calls["put_new"] == 180, "and nobody probed"


async def test_the_same_content_ends_at_the_same_object_however_often_it_is_put(put: VersionedPut, pool: Pool) -> None:
    provider = PlainProvider()
    for content in (LARGE, b"small"):
        made = await asyncio.gather(*(placed(put, provider, content) for _ in range(8)))
        again = await placed(put, provider, content)
        assert {one.path for one in made} == {again.path}
        assert [one.existed for one in made].count(False) <= 1
        assert again.existed
    assert len(provider.objects) == 2
    assert not await pool.fetch("SELECT FROM cloud_uploads")


async def test_what_somebody_else_put_there_is_passed_over_once_and_for_all(put: VersionedPut) -> None:
    provider = PlainProvider()
    provider.outside(PATH, b"another's")
    provider.outside("Responses/truck-7/photo (v2).jpg", LARGE)
    assert (await placed(put, provider, b"1")).version == 3
    assert (await placed(put, provider, b"2")).version == 4
    assert provider.calls["put_new"] == 4
    assert provider.text(PATH) == b"another's"


async def test_what_somebody_else_put_there_with_the_same_content_is_adopted(put: VersionedPut) -> None:
    provider = PlainProvider()
    provider.outside(PATH, LARGE)
    made = await placed(put, provider, LARGE)
    assert (made.version, made.existed, provider.calls.get("begin")) == (1, True, None)


async def test_a_version_that_was_removed_is_made_again_by_its_content_and_not_given_to_another(
    put: VersionedPut,
) -> None:
    provider = PlainProvider()
    await placed(put, provider, b"1")
    await provider.remove(PATH)
    assert (await placed(put, provider, b"2")).version == 2
    assert (await placed(put, provider, b"1")).version == 1


@pytest.mark.parametrize("call", ["put_new", "begin", "put_part", "finish"])
@pytest.mark.parametrize("trouble", [Trouble.AFTER, Trouble.DOWN])
async def test_who_breaks_off_anywhere_repeats_itself_and_ends_at_one_object(
    put: VersionedPut, pool: Pool, call: str, trouble: Trouble
) -> None:
    def failing(called: str, number: int) -> Trouble | None:
        return trouble if called == call and number > (2 if call == "put_part" else 0) else None

    provider = PlainProvider(trouble=failing)
    content = b"small" if call == "put_new" else LARGE
    if not (trouble is Trouble.AFTER and call in ("put_part", "finish")):
        with pytest.raises(StoreUnavailable):
            await placed(put, provider, content)
    provider.trouble = lambda _call, _number: None
    assert (await placed(put, provider, content)).version == 1
    assert {path: kept.content for path, kept in provider.objects.items()} == {PATH: content}
    assert not await pool.fetch("SELECT FROM cloud_uploads")


async def test_another_process_goes_on_with_an_upload_when_its_holder_is_silent(pool: Pool, transfer: Transfer) -> None:
    provider = PlainProvider(trouble=lambda c, n: Trouble.DOWN if c == "put_part" and n > 5 else None)
    digest = digest_of(LARGE)

    async def bring(journal: RowJournal) -> None:
        await transfer.put(provider, PATH, BytesContent(LARGE), expect=digest, journal=journal)

    # One that died without a word: its row is still leased, and no other takes it.
    dead = await cloud_uploads.hold(pool, UUID(int=1), provider.name, PATH, digest, lease_s=600)
    with pytest.raises(StoreUnavailable):
        await bring(RowJournal(pool))
    assert len(await pool.fetch("SELECT FROM cloud_uploads")) == 2
    await cloud_uploads.give_back(pool, dead)
    provider.trouble = lambda _call, _number: None
    provider.calls.clear()
    await bring(RowJournal(pool))
    assert provider.text(PATH) == LARGE
    assert (provider.calls["put_part"], provider.calls.get("begin")) == (20, None)


async def test_what_nobody_goes_on_with_is_given_up_at_its_store(pool: Pool, transfer: Transfer) -> None:
    provider = PlainProvider(trouble=lambda c, n: Trouble.DOWN if c == "finish" else None)
    with pytest.raises(StoreUnavailable):
        await transfer.put(provider, PATH, BytesContent(LARGE), journal=RowJournal(pool))
    assert len(provider.sessions) == 1
    assert await give_up_left(pool, provider, older_than_s=3600) == 0
    await pool.fetch("UPDATE cloud_uploads SET changed_at = clock_timestamp() - interval '2 hours'")
    assert await give_up_left(pool, PlainProvider("another"), older_than_s=3600) == 0
    assert await give_up_left(pool, provider, older_than_s=3600) == 1
    assert not provider.sessions
    assert not await pool.fetch("SELECT FROM cloud_uploads")


async def test_what_arrived_wrong_twice_waits_for_a_person(put: VersionedPut, pool: Pool) -> None:
    provider = PlainProvider(trouble=lambda c, _: Trouble.DAMAGED if c == "finish" else None)
    with pytest.raises(CloudError):
        await placed(put, provider, LARGE)
    (row,) = await cloud_uploads.quarantined(pool, "plain")
    assert (row.store, row.path, row.size) == ("plain", PATH, len(LARGE))
    assert row.detail is not None
    assert ".quarantine/" in row.detail


async def test_a_rival_who_died_with_a_number_leaves_no_gap(put: VersionedPut, pool: Pool) -> None:
    provider = PlainProvider(trouble=lambda c, n: Trouble.DOWN if c == "put_new" and n == 2 else None)
    await placed(put, provider, b"1")
    with pytest.raises(StoreUnavailable):
        await placed(put, provider, b"2")
    await placed(put, provider, b"3")
    await pool.fetch("UPDATE cloud_names SET claimed_until = '-infinity' WHERE state = 'claimed'")
    assert (await placed(put, provider, b"4")).version == 2


async def test_a_number_that_was_given_out_again_while_its_first_holder_was_slow_loses_no_byte(
    pool: Pool, transfer: Transfer
) -> None:
    put = VersionedPut(pool, transfer, RowJournal(pool))
    provider = PlainProvider()
    hook: list[Callable[[], object]] = []

    class Slow(BytesContent):
        def open(self):  # type: ignore[no-untyped-def]
            for one in hook:
                one()
            return super().open()

    second: list[asyncio.Task[Placed]] = []
    lapsed = asyncio.Event()

    async def rival() -> Placed:
        await pool.fetch("UPDATE cloud_names SET claimed_until = '-infinity'")
        lapsed.set()
        return await placed(put, provider, b"the rival's")

    hook.append(lambda: second.append(asyncio.create_task(rival())) if not second else None)
    mine = await put.put(provider, PATH, Slow(LARGE), digest=digest_of(LARGE))
    theirs = await second[0]
    assert {provider.text(mine.path), provider.text(theirs.path)} == {LARGE, b"the rival's"}
    assert sorted((mine.version, theirs.version)) == [1, 2]


async def test_a_folder_too_long_for_any_store_is_refused(put: VersionedPut) -> None:
    with pytest.raises(BadPath, match="1024 bytes"):
        await placed(put, PlainProvider(), b"", "/".join(["a" * 190] * 6) + "/x")
