"""One feed among others: what is refused by Postgres, what fails, what overflows, and who is told."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import redis.asyncio

from shared import clock
from shared.bus.message import EVENT, decode
from shared.bus.names import slot_channel
from shared.hash_slots import slot_of
from tests.watcher.rig import InLoop, Rig, until
from watcher import feed_loop, pacing
from watcher.places import Refused

Watch = Callable[..., InLoop]


async def refuse(rig: Rig, code: str) -> None:
    """From now on Postgres takes no item whose path holds `bad`."""
    await rig.db.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.path LIKE '%bad%' THEN RAISE EXCEPTION 'not this' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$"
    )
    await rig.db.execute("CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION refuse()")


async def expect(rig: Rig, *paths: str) -> None:
    async def queued() -> bool:
        return await rig.jobs() == sorted(paths)

    await until(queued, f"jobs for {paths}")


async def test_one_path_that_postgres_will_not_take_keeps_no_other_from_being_recorded(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    await refuse(rig, "22000")
    for number in range(20):
        rig.put(f"Requests/truck-7/{number}.csv")
    rig.put("Requests/truck-7/bad.csv")
    watch(rescan_s=0.3)
    await expect(rig, *(f"Requests/truck-7/{number}.csv" for number in range(20)))
    await rig.scanned(2)
    rig.put("Requests/truck-7/later.csv")
    await expect(rig, "Requests/truck-7/later.csv", *(f"Requests/truck-7/{number}.csv" for number in range(20)))


async def test_a_feed_that_fails_begins_anew_under_another_term(
    rig: Rig, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.held_loops._CRASH_PAUSE_S", 0.1)
    await rig.add_device("truck-7", "truck-8")
    watch()
    await rig.scanned()
    await refuse(rig, "42P10")
    rig.move_in("Requests/truck-7/bad.csv")

    async def failed() -> bool:
        return bool(await rig.db.fetchval("SELECT max(term) > 1 FROM leases"))

    await until(failed, "a second term")
    rig.move_in("Requests/truck-8/good.csv")
    await expect(rig, "Requests/truck-8/good.csv")
    await rig.db.execute("DROP TRIGGER refuse ON items")
    await expect(rig, "Requests/truck-7/bad.csv", "Requests/truck-8/good.csv")
    assert await rig.db.fetchval("SELECT count(*) FROM leases WHERE term > 1") == 1


async def test_more_changes_at_once_than_can_be_remembered_are_found_by_a_scan(
    rig: Rig, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = pacing.Pacing

    def tiny(*, settle_s: float, quiet_s: float) -> pacing.Pacing:
        return small(settle_s=settle_s, quiet_s=quiet_s, limit=10)

    monkeypatch.setattr(feed_loop, "Pacing", tiny)
    monkeypatch.setattr(feed_loop, "_FOLDERS_MAX", 2)
    await rig.add_device("truck-7")
    watch(poll_s=0.1)
    await rig.scanned()
    paths = [f"Requests/truck-7/{number % 10}/{number}.csv" for number in range(60)]
    for path in paths:
        rig.put(path)
    await expect(rig, *paths)


async def test_the_event_of_an_external_response_is_published_as_it_was_recorded(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch()
    await rig.scanned()
    channel = slot_channel(slot_of("truck-7"))
    async with redis.asyncio.Redis.from_url(rig.redis_url) as client, client.pubsub() as bus:
        await bus.ssubscribe(channel)
        rig.move_in("Responses/truck-7/report.pdf", b"pdf")

        async def published() -> bytes | None:
            message = await bus.get_message(ignore_subscribe_messages=True, timeout=0.1)
            return None if message is None else bytes(message["data"])

        kind, device_id, epoch, seq, body = decode(await until(published, "a message"))
    assert (kind, device_id, epoch, seq) == (EVENT, "truck-7", 1, 1)
    assert body.decode() == await rig.db.fetchval("SELECT body FROM events")


async def test_a_feed_is_scanned_again_and_again_and_writes_nothing_when_nothing_changed(
    rig: Rig, watch: Watch
) -> None:
    await rig.add_device("truck-7")
    rig.put("Requests/truck-7/a.csv")
    rig.put("Responses/truck-7/b.pdf")
    watch(rescan_s=0.2)
    await rig.scanned(2)
    before = await rig.db.fetch("SELECT item_id, seen_at, xmin::text FROM items ORDER BY item_id")
    assert len(before) == 2
    await rig.scanned(3)
    assert await rig.db.fetch("SELECT item_id, seen_at, xmin::text FROM items ORDER BY item_id") == before


async def test_a_scan_that_waits_for_room_goes_on_when_what_it_found_cannot_be_read() -> None:
    tools = SimpleNamespace(times=feed_loop.FeedTimes(), on_refused=lambda refused: None, take_baseline=False)
    loop = feed_loop.FeedLoop("f", 1, 1, trusted=lambda: True, tools=tools)  # type: ignore[arg-type]
    for number in range(2 * feed_loop.PAGE_MAX + 1):
        loop.on_difference(f"Requests/truck-7/{number}.csv", pacing.FileStat(number, 1, 1))
    waiting = asyncio.create_task(loop.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    for look in loop._pacing.take(clock.monotonic() + 100, 10_000):
        loop._take(look, Refused(look.path, "unreadable", "Permission denied"))
    async with asyncio.timeout(1):
        await waiting
