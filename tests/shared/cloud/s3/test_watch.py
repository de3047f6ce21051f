"""Listings as changes, and how few requests they cost."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.emulators.faults import Fault
from loadtests.fault_proxy import FaultProxy
from loadtests.link_faults import Fault as LinkFault
from loadtests.link_faults import What
from loadtests.s3_process import S3Server
from shared.cloud.errors import CursorExpired, StoreUnavailable
from shared.cloud.provider import Changed, Span
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.cursor import END, after_of, written
from shared.cloud.s3.devices import Devices
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.listing import Listing
from shared.cloud.s3.provider import S3Provider
from shared.cloud.s3.watch import Watch
from shared.hash_slots import PARTITIONS, partition_of

DEVICES = [f"truck-{number}" for number in range(12)]


@pytest.fixture
async def small(client_of: Callable[[], S3Client], prefix: str) -> AsyncIterator[S3Provider]:
    """A provider whose pages hold three objects."""
    client, keys = client_of(), Keys(prefix)
    listing = Listing(client, page_max=3)
    devices = Devices(listing, keys, round_s=0.0)
    made = S3Provider(client, prefix=prefix, watch=Watch(listing, keys, devices=devices, page_max=3))
    yield made
    await made.close()


async def run(provider: S3Provider, partition: int | None, cursor: str | None = None) -> list[str]:
    """The paths of a run, in the order told."""
    paths: list[str] = []
    for _ in range(50):
        page = await provider.changes(cursor, partition=partition)
        assert page.full
        paths += [one.item_id for one in page.changes if isinstance(one, Changed)]
        cursor = page.cursor
        if not page.more:
            assert cursor == END
            return paths
    raise AssertionError("it does not end")


async def test_all_partitions_together_tell_everything_once_and_in_pages(small: S3Provider) -> None:
    paths = {f"{area}/{device}/f{n} ü" for area in ("Requests", "Responses") for device in DEVICES for n in range(4)}
    await asyncio.gather(*(small.put_new(path, b"x") for path in paths))
    await small.put_new("Elsewhere/truck-0/f", b"x")
    told: list[str] = []
    for partition in {partition_of(device) for device in DEVICES}:
        found = await run(small, partition)
        assert {partition_of(path.split("/")[1]) for path in found} == {partition}
        told += found
    assert sorted(told) == sorted(paths)
    assert await run(small, next(n for n in range(PARTITIONS) if all(partition_of(d) != n for d in DEVICES))) == []


async def test_pages_say_between_which_paths_they_tell_everything(small: S3Provider) -> None:
    for number in range(7):
        await small.put_new(f"Requests/truck-1/{number}", b"x")
    cursor, upto, told = None, "", []
    while True:
        page = await small.changes(cursor, partition=partition_of("truck-1"))
        assert page.span is not None
        assert page.span.above == upto
        told += [one.item_id for one in page.changes]
        cursor = page.cursor
        if not page.more:
            break
        upto = page.span.upto or ""
        assert upto == told[-1]
    assert page.span.upto is None
    assert len(told) == 7
    assert told == sorted(told)


def test_a_page_that_ends_at_a_key_that_is_no_text_says_nothing_of_what_is_gone(small: S3Provider, prefix: str) -> None:
    watch = small._watch
    assert watch._span(None, f"{prefix}/Requests/a/\udcff") == Span("", "")
    assert watch._span(f"{prefix}/Requests/a/\x00", None) == Span("", "")
    assert watch._span(f"{prefix}/Requests/a/\u00fc", None) == Span("Requests/a/\u00fc", None)


async def test_a_run_goes_on_in_another_process(small: S3Provider, provider: S3Provider) -> None:
    for number in range(7):
        await small.put_new(f"Requests/truck-1/{number}", b"x")
    partition = partition_of("truck-1")
    first = await small.changes(None, partition=partition)
    assert (len(first.changes), first.more) == (3, True)
    rest = await run(provider, partition, first.cursor)
    assert rest == [f"Requests/truck-1/{number}" for number in range(3, 7)]
    assert await small.changes(first.cursor, partition=partition) == await small.changes(
        first.cursor, partition=partition
    )


async def test_folders_that_are_objects_and_strange_keys_do_not_disturb(
    provider: S3Provider, client_of: Callable[[], S3Client], prefix: str
) -> None:
    client = client_of()
    for key in (
        "Requests/",
        "Requests/truck-1/",
        "Requests/truck-1/a\x01b",
        "Requests/truck-1/ä+ %2F",
        "Requests/loose",
    ):
        assert (await client.ask("put", "PUT", f"{prefix}/{key}", body=b"x")).status == 200
    assert await run(provider, partition_of("truck-1")) == ["Requests/truck-1/a\x01b", "Requests/truck-1/ä+ %2F"]


async def test_partitions_that_ask_together_share_the_listing_of_devices(provider: S3Provider, s3: S3Server) -> None:
    await asyncio.gather(*(provider.put_new(f"Requests/{device}/f", b"x") for device in DEVICES))
    s3.calls()
    runs = await asyncio.gather(*(run(provider, partition) for partition in range(PARTITIONS)))
    assert sorted(path for one in runs for path in one) == sorted(f"Requests/{device}/f" for device in DEVICES)
    # Two areas, once or, for who asks when a listing has begun already, twice; and each device's folder.
    assert s3.calls()["ListObjectsV2"] <= 4 + len(DEVICES)


async def test_what_was_there_before_one_asks_is_always_seen(
    provider: S3Provider, client_of: Callable[[str], S3Client], prefix: str, s3: S3Server
) -> None:
    class Answered:
        """Of a listing that is held up on its way back."""

        def from_server(self, data: bytes) -> None:
            answered.release()

        def to_server(self, data: bytes) -> None:
            pass

    answered = asyncio.Semaphore(0)
    partition = partition_of("truck-1")
    async with FaultProxy(s3.url, taps=Answered) as proxy:
        proxy.script = lambda number: LinkFault(What.HOLD, after=1, hold_s=0.5) if number <= 2 else None
        watcher = S3Provider(client_of(f"http://127.0.0.1:{proxy.port}"), prefix=prefix)
        early = asyncio.create_task(watcher.changes(None, partition=partition))
        async with asyncio.timeout(20):
            await answered.acquire()
            await answered.acquire()
        await provider.put_new("Requests/truck-1/new", b"x")
        late = await watcher.changes(None, partition=partition)
        assert [one.item_id for one in late.changes] == ["Requests/truck-1/new"]
        await early
        await watcher.close()


async def test_a_listing_that_fails_fails_for_all_who_wait_and_not_for_the_next(
    provider: S3Provider, s3: S3Server
) -> None:
    await provider.put_new("Requests/truck-1/f", b"x")
    s3.order(Fault("ListObjectsV2", times=40, status=500))
    asked = await asyncio.gather(*(provider.changes(None, partition=n) for n in range(3)), return_exceptions=True)
    assert all(isinstance(one, StoreUnavailable) for one in asked)
    s3.order()
    assert await run(provider, partition_of("truck-1")) == ["Requests/truck-1/f"]


async def test_a_strange_cursor_is_expired(provider: S3Provider) -> None:
    for cursor in ("", "known.1", "upto.", "upto.\x00", "upto." + "x" * 4000, "after.Requests/truck-1/f"):
        with pytest.raises(CursorExpired):
            await provider.changes(cursor, partition=1)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255))
def test_any_key_is_kept_in_a_cursor_of_plain_text(key: str) -> None:
    text = written(key)
    assert text.isascii()
    assert text.isprintable()
    assert after_of(text) == key
