"""The log: numbered without a hole, each key once, read by snapshot, trimmed by prefix."""

import asyncio
import json
from datetime import timedelta
from random import Random

import pytest

from shared.store import cursors, log
from shared.store.log import PageRequest, Retention
from shared.store.pool import Connection, Pool
from tests.shared.store.samples import event, make_devices

AT_ONCE = Retention(acked=timedelta(0), any=timedelta(0), keys=timedelta(0))
ACKED_ONLY = Retention(acked=timedelta(0), any=timedelta(days=30))


async def test_events_of_a_batch_are_numbered_in_its_order(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    results = await log.append_committed(pool, [event("b", "1"), event("a", "2"), event("b", "3"), event("a", "4")])
    assert [(result.status, result.seq) for result in results] == [("recorded", n) for n in (1, 1, 2, 2)]
    assert all(result.epoch == 1 for result in results)


async def test_a_repeated_key_is_recorded_once_and_another_body_under_it_is_a_conflict(pool: Pool) -> None:
    await make_devices(pool, "a")
    first = await log.append_committed(
        pool, [event("a", "1"), event("a", "1"), event("a", "1", {"x": 1}), event("gone", "1"), event("gone", "1")]
    )
    assert [result.status for result in first] == [
        "recorded", "duplicate", "conflict", "unknown_device", "unknown_device",
    ]  # fmt: skip
    again = await log.append_committed(pool, [event("a", "1"), event("a", "1", {"x": 1}), event("a", "2")])
    assert [(result.status, result.seq) for result in again] == [("duplicate", 0), ("conflict", 0), ("recorded", 2)]


async def test_a_stated_key_stands_in_for_the_event_id(pool: Pool) -> None:
    await make_devices(pool, "a")
    one, two = event("a", "1"), event("a", "2")
    keyed = [log.NewEvent(e.device_id, e.event_id, e.type, e.body, e.body_hash, "job:7") for e in (one, two)]
    results = await log.append_committed(pool, keyed)
    assert [result.status for result in results] == ["recorded", "duplicate"]


async def test_nothing_is_recorded_when_the_transaction_is_not_committed(pool: Pool) -> None:
    await make_devices(pool, "a")

    async def fails(connection: Connection) -> None:
        await log.append(connection, [event("a", "1")])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await pool.run(fails)
    assert [result.seq for result in await log.append_committed(pool, [event("a", "1")])] == [1]


async def test_rivals_with_contended_and_repeated_keys_leave_no_hole_and_no_double(pool: Pool) -> None:
    names = [f"d{n}" for n in range(8)]
    await make_devices(pool, *names)
    recorded: list[tuple[str, str]] = []

    async def appender(seed: int) -> None:
        rand = Random(seed)
        for _ in range(25):
            batch = [event(rand.choice(names), str(rand.randrange(300))) for _ in range(20)]
            for item, result in zip(batch, await log.append_committed(pool, batch), strict=True):
                assert result.status in ("recorded", "duplicate")
                if result.status == "recorded":
                    recorded.append((item.device_id, item.event_id))

    await asyncio.gather(*(appender(seed) for seed in range(4)))
    assert len(recorded) == len(set(recorded))
    pages = await log.read_pages(pool, [PageRequest(name, 0, 500, 10**7) for name in names])
    for name in names:
        page = pages[name]
        assert [stored.seq for stored in page.events] == list(range(1, page.head + 1))
    in_log = {(name, json.loads(stored.body)["id"]) for name in names for stored in pages[name].events}
    assert in_log == set(recorded)


async def test_a_page_goes_on_after_a_seq_within_its_bounds(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    await log.append_committed(pool, [event("a", str(n), {"x": "y" * 1000}) for n in range(10)])
    page = (await log.read_pages(pool, [PageRequest("a", 3, max_rows=4), PageRequest("b", 0), PageRequest("zz", 0)]))[
        "a"
    ]
    assert [stored.seq for stored in page.events] == [4, 5, 6, 7]
    assert (page.floor, page.head, page.acked) == (0, 10, 0)
    small = (await log.read_pages(pool, [PageRequest("a", 0, max_bytes=2500)]))["a"]
    assert [stored.seq for stored in small.events] == [1, 2]
    tiny = (await log.read_pages(pool, [PageRequest("a", 0, max_bytes=1)]))["a"]
    assert [stored.seq for stored in tiny.events] == [1], "the first event comes whatever its size"


async def test_a_device_with_nothing_to_read_has_a_page_and_an_unknown_one_has_none(pool: Pool) -> None:
    await make_devices(pool, "a")
    pages = await log.read_pages(pool, [PageRequest("a", 0), PageRequest("zz", 0)])
    assert list(pages) == ["a"]
    assert pages["a"].events == []


async def test_what_is_read_is_byte_for_byte_what_was_recorded(pool: Pool) -> None:
    await make_devices(pool, "a")
    item = event("a", "1", {"text": 'quote " back \\ tab \t ä 🚚 \x00'})
    await log.append_committed(pool, [item])
    assert (await log.read_pages(pool, [PageRequest("a", 0)]))["a"].events[0].body == item.body


async def test_retention_takes_only_a_prefix_of_what_was_acked_and_raises_the_floor(pool: Pool) -> None:
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", str(n)) for n in range(10)])
    await cursors.record_acks(pool, [cursors.Ack("a", 1, 6)])
    assert await log.trim(pool, ACKED_ONLY, events=4) == 6
    page = (await log.read_pages(pool, [PageRequest("a", 0)]))["a"]
    assert page.floor == 6
    assert [stored.seq for stored in page.events] == [7, 8, 9, 10]
    assert await log.trim(pool, ACKED_ONLY) == 0


async def test_when_everything_is_trimmed_numbers_still_go_on(pool: Pool) -> None:
    await make_devices(pool, *(f"d{n}" for n in range(7)))
    await log.append_committed(pool, [event(f"d{n % 7}", str(n)) for n in range(50)])
    assert await log.trim(pool, AT_ONCE, devices=2, events=3) == 50
    assert [result.seq for result in await log.append_committed(pool, [event("d0", "new")])] == [9]


async def test_a_key_outlives_its_event_and_is_pruned_by_its_own_age(pool: Pool) -> None:
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", "1")])
    await log.trim(pool, AT_ONCE)
    assert [result.status for result in await log.append_committed(pool, [event("a", "1")])] == ["duplicate"]
    await log.prune(pool, Retention())
    assert [result.status for result in await log.append_committed(pool, [event("a", "1")])] == ["duplicate"]
    await log.prune(pool, AT_ONCE)
    assert [result.status for result in await log.append_committed(pool, [event("a", "1")])] == ["recorded"]


async def test_a_read_for_many_devices_with_large_events_is_bounded_and_says_who_has_to_ask_again(pool: Pool) -> None:
    names = [f"d{number:02}" for number in range(60)]
    await make_devices(pool, *names)
    await log.append_committed(pool, [event(name, "1", {"x": "y" * 250_000}) for name in names])
    served: list[str] = []
    waiting, statements = names, 0
    while waiting:
        pages = await log.read_pages(pool, [PageRequest(name, 0) for name in waiting])
        statements += 1
        assert sum(len(stored.body) for page in pages.values() for stored in page.events) <= 9 * 2**20
        assert all(page.deferred != bool(page.events) for page in pages.values())
        served += [name for name in waiting if pages[name].events]
        waiting = [name for name in waiting if pages[name].deferred]
    assert served == names
    assert statements == 2


async def test_an_empty_batch_is_no_work(pool: Pool) -> None:
    assert await log.append_committed(pool, []) == []
    assert await log.read_pages(pool, []) == {}
