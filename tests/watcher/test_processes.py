"""Watchers as processes that are killed, stopped for longer than their lease, and told to leave."""

import asyncio
import signal
from collections.abc import Callable

import pytest

from tests.watcher.rig import Process, Rig, until

Start = Callable[..., Process]

pytestmark = pytest.mark.processes


async def _jobs(rig: Rig, wanted: int) -> bool:
    return len(await rig.jobs()) >= wanted


async def _owns_all(rig: Rig, name: str) -> bool:
    return await rig.holders() == {name: 64}


async def test_a_watcher_told_to_leave_gives_back_its_leases_and_ends_well(rig: Rig, watcher_process: Start) -> None:
    await rig.add_device("truck-7")
    process = watcher_process()
    answer = await process.ready()
    assert answer["detail"]["watchers"] == ["watcher-1"]
    process.signal(signal.SIGTERM)
    assert await process.exit_status() == 0
    assert await rig.holders() == {}


async def test_bad_settings_are_all_named_at_once(rig: Rig, watcher_process: Start) -> None:
    process = watcher_process(
        FLEETWIRE_DATABASE_URL="", FLEETWIRE_WATCHER_TRUST_S="none", FLEETWIRE_WATCHER_NAME="no blanks"
    )
    assert await process.exit_status() == 2
    said = process.log()
    for name in ("FLEETWIRE_DATABASE_URL", "FLEETWIRE_WATCHER_TRUST_S", "FLEETWIRE_WATCHER_NAME"):
        assert name in said


async def test_a_watcher_that_waits_for_its_servers_and_its_folder_leaves_when_told(
    rig: Rig, watcher_process: Start
) -> None:
    process = watcher_process(FLEETWIRE_DATABASE_URL="postgresql://nobody:nothing@127.0.0.1:1/none")

    async def trying() -> bool:
        return bool(process.lines("Postgres cannot be used"))

    await until(trying, "a complaint")
    process.signal(signal.SIGTERM)
    assert await process.exit_status() == 0


async def test_a_killed_watcher_that_comes_back_goes_on_at_once(rig: Rig, watcher_process: Start) -> None:
    await rig.add_device("truck-7")
    # With the usual lease of 30 s, which nobody waits for here.
    usual = {
        "FLEETWIRE_WATCHER_LEASE_S": "30",
        "FLEETWIRE_WATCHER_TRUST_S": "20",
        "FLEETWIRE_WATCHER_HEARTBEAT_S": "10",
    }
    process = watcher_process(**usual)
    await process.ready()
    process.kill()
    rig.move_in("Requests/truck-7/meanwhile.csv")
    again = watcher_process(**usual)
    await again.ready()
    await until(lambda: _jobs(rig, 1), "the job", deadline_s=5)
    assert await rig.db.fetchval("SELECT min(term) FROM leases") == 2


async def test_a_killed_watcher_is_replaced_when_its_leases_are_over(rig: Rig, watcher_process: Start) -> None:
    await rig.add_device("truck-7", "truck-8")
    first = watcher_process(FLEETWIRE_WATCHER_NAME="w1")
    await first.ready()
    second = watcher_process(FLEETWIRE_WATCHER_NAME="w2")
    await second.ready()
    first.kill()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for device in ("truck-7", "truck-8"):
        rig.move_in(f"Requests/{device}/a.csv")
    await until(lambda: _owns_all(rig, "w2"), "w2 has everything")
    # The lease is 1.5 s here, 30 s usually; then a look at what is free.
    assert loop.time() - began < 1.5 + 0.75
    await until(lambda: _jobs(rig, 2), "both jobs")
    assert len(await rig.jobs()) == 2


async def test_a_stopped_watcher_that_wakes_up_after_its_lease_changes_nothing(
    rig: Rig, watcher_process: Start
) -> None:
    devices = [f"truck-{number}" for number in range(20)]
    await rig.add_device(*devices)
    first = watcher_process(FLEETWIRE_WATCHER_NAME="w1")
    await first.ready()
    written: list[str] = []

    def write(count: int) -> None:
        for _ in range(count):
            path = f"Requests/{devices[len(written) % len(devices)]}/{len(written)}.csv"
            rig.move_in(path, path.encode())
            written.append(path)

    write(40)
    first.signal(signal.SIGSTOP)  # with notices not read, and perhaps a transaction open
    write(40)
    watcher_process(FLEETWIRE_WATCHER_NAME="w2")
    await until(lambda: _owns_all(rig, "w2"), "w2 has everything", deadline_s=15)
    await until(lambda: _jobs(rig, 80), "80 jobs")
    terms = await rig.db.fetch("SELECT name, term FROM leases ORDER BY name")
    before = await rig.db.fetch("SELECT feed_id, item_id, content_version, state FROM items ORDER BY item_id")
    first.signal(signal.SIGCONT)

    async def noticed() -> bool:
        return bool(first.lines("leases not renewed, trying again")) or sum((await rig.holders()).values()) == 64

    await until(noticed, "the first one looks around")
    await asyncio.sleep(1.0)
    write(40)
    await until(lambda: _jobs(rig, 120), "120 jobs")
    await rig.scanned(2)
    assert await rig.jobs() == sorted(written)
    after = {row["name"]: row["term"] for row in await rig.db.fetch("SELECT name, term FROM leases")}
    assert all(after[row["name"]] >= row["term"] for row in terms)
    kept = await rig.db.fetch(
        "SELECT feed_id, item_id, content_version, state FROM items WHERE item_id = ANY ($1) ORDER BY item_id",
        [row["item_id"] for row in before],
    )
    assert kept == before


async def test_files_come_through_once_while_watchers_are_killed_and_started(rig: Rig, watcher_process: Start) -> None:
    devices = [f"truck-{number}" for number in range(30)]
    await rig.add_device(*devices)
    running = [watcher_process(FLEETWIRE_WATCHER_NAME=f"w{number}") for number in range(2)]
    for process in running:
        await process.ready()
    paths: list[str] = []

    async def drop_files() -> None:
        for number in range(150):
            path = f"Requests/{devices[number % 30]}/{number}.csv"
            (rig.move_in if number % 2 else rig.put)(path, path.encode())
            paths.append(path)
            await asyncio.sleep(0.02)

    dropping = asyncio.create_task(drop_files())
    for turn in range(3):
        await asyncio.sleep(0.7)
        running[turn % 2].kill()
        running[turn % 2] = watcher_process(FLEETWIRE_WATCHER_NAME=f"w{turn % 2}")
    await dropping
    await until(lambda: _jobs(rig, 150), "all jobs", deadline_s=15)
    for process in running:
        # One that was started a moment ago may not hear of a signal yet.
        await process.ready()
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
    final = watcher_process(FLEETWIRE_WATCHER_NAME="w9")
    await final.ready()
    await rig.scanned(2)
    assert await rig.jobs() == sorted(paths)
