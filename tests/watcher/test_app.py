"""The whole watcher over a real folder, Postgres and Valkey."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import redis.asyncio

import watcher.app
from loadtests.ports import free_port
from shared.telemetry.metrics import WATCHER_REFUSED
from tests.conftest import ServerFactory
from tests.watcher.rig import InLoop, Rig, until
from watcher import inotify
from watcher.inotify import Event, Inotify

Watch = Callable[..., InLoop]


async def expect_jobs(rig: Rig, *paths: str, deadline_s: float = 10.0) -> None:
    async def queued() -> bool:
        return await rig.jobs() == sorted(paths)

    try:
        await until(queued, "jobs", deadline_s=deadline_s)
    except AssertionError:
        raise AssertionError(f"jobs are {await rig.jobs()}, not {sorted(paths)}") from None


async def expect_announced(rig: Rig, *names: str) -> None:
    async def recorded() -> bool:
        return sorted(await rig.announced()) == sorted(names)

    try:
        await until(recorded, "events")
    except AssertionError:
        raise AssertionError(f"announced are {await rig.announced()}, not {names}") from None


async def test_a_file_becomes_a_job_however_it_comes_into_the_folder(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch()
    await rig.scanned()
    rig.move_in("Requests/truck-7/moved.jpg")
    rig.put("Requests/truck-7/written.csv")
    (rig.outside / "whole").write_bytes(b"linked")
    os.link(rig.outside / "whole", rig.root / "Requests/truck-7/linked.csv")
    rig.put("Requests/truck-7/in/a/folder.csv")
    await expect_jobs(
        rig,
        "Requests/truck-7/in/a/folder.csv",
        "Requests/truck-7/linked.csv",
        "Requests/truck-7/moved.jpg",
        "Requests/truck-7/written.csv",
    )
    assert await rig.db.fetchval("SELECT count(*) FROM job_status WHERE status = 'queued'") == 4


async def test_the_commit_is_followed_by_a_hint_to_the_workers(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch()
    await rig.scanned()
    rig.move_in("Requests/truck-7/a.csv")
    await expect_jobs(rig, "Requests/truck-7/a.csv")
    job_id = await rig.db.fetchval("SELECT job_id::text FROM jobs")
    async with redis.asyncio.Redis.from_url(rig.redis_url) as client:

        async def hinted() -> bool:
            return any(job_id in str(fields) for _, fields in await client.xrange("fw:jobs:requests") or ())

        await until(hinted, "a hint in the stream")


async def test_a_file_that_is_still_written_is_not_taken_before_it_is_closed(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch(rescan_s=0.3)
    await rig.scanned()
    (rig.root / "Requests/truck-7").mkdir()
    await rig.scanned()
    with (rig.root / "Requests/truck-7/slow.csv").open("wb") as slow:
        slow.write(b"first half,")
        slow.flush()
        await rig.scanned(3)
        slow.write(b"second half")
    await expect_jobs(rig, "Requests/truck-7/slow.csv")
    await rig.scanned(2)
    assert await rig.db.fetchval("SELECT array_agg(size) FROM jobs") == [22]


async def test_a_response_that_another_system_drops_is_announced(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch()
    await rig.scanned()
    rig.move_in("Responses/truck-7/report.pdf", b"pdf")
    rig.put("Responses/truck-7/batch/a.txt", b"a")
    await expect_announced(rig, "report.pdf", "a.txt")
    rows = await rig.db.fetch("SELECT path, content_type, size FROM response_files ORDER BY path")
    assert [tuple(row) for row in rows] == [
        ("Responses/truck-7/batch/a.txt", "text/plain", 1),
        ("Responses/truck-7/report.pdf", "application/pdf", 3),
    ]


async def test_what_a_job_writes_into_its_reserved_folder_is_recorded_and_never_announced(
    rig: Rig, watch: Watch
) -> None:
    await rig.add_device("truck-7")
    watch(rescan_s=0.3)
    await rig.scanned()
    rig.move_in("Requests/truck-7/a.csv")
    await expect_jobs(rig, "Requests/truck-7/a.csv")
    for number in range(20):
        # As the worker does it: first the reservation, committed, then the files.
        folder = f"Responses/truck-7/a.{uuid4()}"
        await rig.db.execute(
            "INSERT INTO responses (response_id, device_id, job_id, store, folder) "
            "SELECT gen_random_uuid(), device_id, CASE WHEN $2 THEN job_id END, store, $1 FROM jobs LIMIT 1",
            folder,
            number == 0,
        )
        if number > 0:
            job_id = await rig.db.fetchval(
                "INSERT INTO jobs (job_id, queue, kind, device_id, store, path, name, size, content_version) "
                "SELECT gen_random_uuid(), queue, 'x', device_id, store, $1, 'n', 1, 'v' FROM jobs LIMIT 1 "
                "RETURNING job_id",
                f"p{number}",
            )
            await rig.db.execute("UPDATE responses SET job_id = $1 WHERE folder = $2", job_id, folder)
        rig.put(f"{folder}/thumb.jpg", b"thumb")
        rig.put(f"{folder}/response.json", b"{}")
    await rig.scanned(3)
    assert await rig.announced() == []
    states = {path: state for path, state in (await rig.items()).items() if path.startswith("Responses/")}
    assert set(states.values()) == {"reserved"}
    assert len(states) == 20
    await rig.db.execute("DELETE FROM jobs WHERE path LIKE 'p%'")
    await rig.scanned(2)
    assert await rig.announced() == []


async def test_the_first_scan_announces_no_old_responses_but_takes_old_requests(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    rig.put("Responses/truck-7/old.pdf")
    rig.put("Requests/truck-7/old.csv")
    watch()
    await expect_jobs(rig, "Requests/truck-7/old.csv")
    await until(lambda: _baselined(rig), "the first scan is over")
    rig.put("Responses/truck-7/new.pdf")
    await expect_announced(rig, "new.pdf")
    assert (await rig.items())["Responses/truck-7/old.pdf"] == "baseline"
    rig.put("Responses/truck-7/old.pdf", b"changed since")
    await expect_announced(rig, "new.pdf", "old.pdf")


async def _baselined(rig: Rig) -> bool:
    return bool(await rig.db.fetchval("SELECT count(*) = 64 FROM feeds WHERE baseline_at IS NOT NULL"))


async def test_without_a_baseline_old_responses_are_announced(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    rig.put("Responses/truck-7/old.pdf")
    watch(take_baseline=False)
    await expect_announced(rig, "old.pdf")


async def test_rescans_and_restarts_announce_nothing_twice_even_when_retention_took_everything(
    rig: Rig, watch: Watch
) -> None:
    await rig.add_device("truck-7", "truck-8")
    first = watch(rescan_s=0.3)
    await rig.scanned()
    for number in range(30):
        rig.move_in(f"Requests/truck-7/{number}.csv", b"%d" % number)
        rig.put(f"Responses/truck-8/{number}.pdf", b"%d" % number)
    await expect_announced(rig, *(f"{number}.pdf" for number in range(30)))
    await expect_jobs(rig, *(f"Requests/truck-7/{number}.csv" for number in range(30)))
    await rig.scanned(2)
    assert await first.stop() == 0
    await rig.db.execute("TRUNCATE events, event_keys")
    await rig.db.execute("DELETE FROM jobs")
    os.utime(rig.root / "Requests/truck-7/3.csv")
    watch(rescan_s=0.3)
    await rig.scanned(3)
    assert await rig.jobs() == []
    assert await rig.announced() == []


async def test_a_file_deleted_and_put_again_is_new_and_one_touched_is_not(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch()
    await rig.scanned()
    for name in ("again", "touched", "changed"):
        rig.put(f"Requests/truck-7/{name}.csv")
    await expect_jobs(rig, *(f"Requests/truck-7/{name}.csv" for name in ("again", "touched", "changed")))
    (rig.root / "Requests/truck-7/again.csv").unlink()

    async def forgotten() -> bool:
        return "Requests/truck-7/again.csv" not in await rig.items()

    await until(forgotten, "item removed")
    rig.put("Requests/truck-7/again.csv")
    (rig.root / "Requests/truck-7/touched.csv").touch()
    rig.put("Requests/truck-7/changed.csv", b"something else")
    # At once, before anybody looks: still another file.
    rig.put("Requests/truck-7/changed.csv").unlink()
    rig.put("Requests/truck-7/changed.csv", b"something else")
    await expect_jobs(
        rig,
        "Requests/truck-7/again.csv",
        "Requests/truck-7/again.csv",
        "Requests/truck-7/changed.csv",
        "Requests/truck-7/changed.csv",
        "Requests/truck-7/touched.csv",
    )


async def test_files_of_an_unknown_device_are_kept_and_taken_up_when_it_exists(
    rig: Rig, watch: Watch, capfd: pytest.CaptureFixture[str]
) -> None:
    watch()
    await rig.scanned()
    rig.put("Requests/truck-9/early.csv")
    rig.put("Responses/truck-9/early.pdf")

    async def waiting() -> bool:
        return list((await rig.items()).values()) == ["waiting", "waiting"]

    await until(waiting, "items that wait")
    assert await rig.jobs() == []
    await rig.add_device("truck-9")
    await expect_jobs(rig, "Requests/truck-9/early.csv")
    await expect_announced(rig, "early.pdf")
    said = "".join(capfd.readouterr())
    assert said.count("files wait for a device that nobody registered") == 1
    assert "fleetwire token --device truck-9" in said


async def test_bad_names_links_and_pipes_are_refused_and_stop_nothing(
    rig: Rig, watch: Watch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = _refused()
    await rig.add_device("truck-7")
    (rig.outside / "secret").write_bytes(b"secret")
    watch(rescan_s=0.3)
    await rig.scanned()
    folder = rig.root / "Requests/truck-7"
    folder.mkdir()
    raw = os.fsencode(folder)
    for name in (b"new\nline.csv", b"caf\xe9.csv", b"esc\x1b[31m.csv", b"n" * 250):
        Path(os.fsdecode(raw + b"/" + name)).write_bytes(b"x")
    (folder / "link.csv").symlink_to(rig.outside / "secret")
    (folder / "linked").symlink_to(rig.outside)
    os.mkfifo(folder / "pipe.csv")
    for device in ("BAD", "con", "a..b", "x" * 65):
        rig.put(f"Requests/{device}/a.csv")
    rig.put("Requests/stray.csv")
    rig.put("Requests/truck-7/" + "/".join("abcdefghi") + ".csv")
    for unfinished in (".hidden", "a.tmp", "b.part", "c~"):
        rig.put(f"Requests/truck-7/{unfinished}")
    rig.put("Requests/truck-7/good.csv")
    await expect_jobs(rig, "Requests/truck-7/good.csv")
    await rig.scanned(3)
    assert list(await rig.items()) == ["Requests/truck-7/good.csv"]
    counted = {reason: count - before.get(reason, 0) for reason, count in _refused().items()}
    assert counted == {"file_name": 4, "link": 2, "special": 1, "device_id": 4, "misplaced": 1, "depth": 1}
    said = "".join(capfd.readouterr())
    assert "caf" in said
    assert "esc\x1b" not in said


def _refused() -> dict[str, float]:
    samples = [sample for metric in WATCHER_REFUSED.collect() for sample in metric.samples]
    return {sample.labels["reason"]: sample.value for sample in samples}


class Overflowing(Inotify):
    """A kernel queue that overflows: everything it held is lost, and it says so."""

    losing = False

    def read(self) -> list[Event]:
        events = super().read()
        if self.losing and events:
            return [Event(-1, inotify.Q_OVERFLOW, 0, "")]
        return events


async def test_after_an_overflow_of_the_kernels_queue_a_scan_finds_what_was_lost(
    rig: Rig, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher.app, "Inotify", Overflowing)
    await rig.add_device("truck-7", "truck-8")
    watch()
    await rig.scanned()
    rig.put("Requests/truck-7/before.csv")
    await expect_jobs(rig, "Requests/truck-7/before.csv")
    monkeypatch.setattr(Overflowing, "losing", True)
    rig.put("Requests/truck-7/lost.csv")
    rig.put("Requests/truck-8/lost-too.csv")
    (rig.root / "Requests/truck-7/before.csv").unlink()
    await expect_jobs(rig, "Requests/truck-7/before.csv", "Requests/truck-7/lost.csv", "Requests/truck-8/lost-too.csv")

    async def swept() -> bool:
        return "Requests/truck-7/before.csv" not in await rig.items()

    await until(swept, "what was removed unnoticed is forgotten")


async def test_without_inotify_the_folder_is_polled(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    rig.put("Responses/truck-7/old.pdf")
    watch(notices="poll", poll_s=0.2, quiet_s=0.1)
    await rig.scanned()
    rig.put("Requests/truck-7/a.csv")
    rig.put("Requests/truck-7/deep/b.csv")
    rig.put("Responses/truck-7/new.pdf")
    await expect_jobs(rig, "Requests/truck-7/a.csv", "Requests/truck-7/deep/b.csv")
    await expect_announced(rig, "new.pdf")


async def test_folders_that_cannot_be_watched_are_polled(
    rig: Rig, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted(Inotify):
        def add(self, folder_fd: int) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(watcher.app, "Inotify", Exhausted)
    await rig.add_device("truck-7")
    watch(poll_s=0.2)
    await rig.scanned()
    rig.put("Requests/truck-7/a.csv")
    await expect_jobs(rig, "Requests/truck-7/a.csv")


async def test_folders_made_and_filled_in_one_go_are_missed_never(rig: Rig, watch: Watch) -> None:
    devices = [f"truck-{number}" for number in range(200)]
    await rig.add_device(*devices)
    watch()
    await rig.scanned()
    expected = []

    def write() -> None:
        # In a thread, so that folders are watched and listed at every moment of their making.
        for number, device in enumerate(devices):
            for path in (f"Requests/{device}/a.csv", f"Requests/{device}/b/c.csv"):
                rig.put(path, b"%d" % number)
                expected.append(path)

    await asyncio.to_thread(write)
    await expect_jobs(rig, *expected, deadline_s=20)


async def test_a_whole_folder_moved_in_is_taken_and_one_moved_away_is_forgotten(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch()
    await rig.scanned()
    (rig.outside / "batch/inner").mkdir(parents=True)
    for name in ("a.csv", "inner/b.csv"):
        (rig.outside / "batch" / name).write_bytes(name.encode())
    (rig.root / "Requests/truck-7").mkdir()
    (rig.outside / "batch").rename(rig.root / "Requests/truck-7/batch")
    await expect_jobs(rig, "Requests/truck-7/batch/a.csv", "Requests/truck-7/batch/inner/b.csv")
    (rig.root / "Requests/truck-7/batch").rename(rig.outside / "gone")

    async def forgotten() -> bool:
        return await rig.items() == {}

    await until(forgotten, "items swept")
    # What happens in it now is none of our business.
    (rig.outside / "gone/c.csv").write_bytes(b"c")
    rig.put("Requests/truck-7/batch/d.csv")
    await expect_jobs(
        rig, "Requests/truck-7/batch/a.csv", "Requests/truck-7/batch/d.csv", "Requests/truck-7/batch/inner/b.csv"
    )


async def test_a_folder_that_is_not_mounted_is_not_taken_for_an_empty_one(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    first = watch(rescan_s=0.2)
    await rig.scanned()
    rig.put("Requests/truck-7/a.csv")
    rig.put("Responses/truck-7/r.pdf")
    await expect_jobs(rig, "Requests/truck-7/a.csv")
    await expect_announced(rig, "r.pdf")
    aside = rig.root.with_name("aside")
    rig.root.rename(aside)
    rig.root.mkdir()
    await asyncio.sleep(0.5)
    assert len(await rig.items()) == 2
    assert await first.stop() == 0
    watch(rescan_s=0.2)
    await asyncio.sleep(0.5)
    assert list(rig.root.iterdir()) == []
    rig.root.rmdir()
    aside.rename(rig.root)
    await rig.scanned(2)
    rig.put("Requests/truck-7/b.csv")
    await expect_jobs(rig, "Requests/truck-7/a.csv", "Requests/truck-7/b.csv")
    assert await rig.announced() == ["r.pdf"]


async def test_an_area_that_is_removed_and_made_again_goes_on(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch(rescan_s=0.2)
    await rig.scanned()
    rig.put("Requests/truck-7/a.csv")
    await expect_jobs(rig, "Requests/truck-7/a.csv")
    shutil.rmtree(rig.root / "Requests")
    await asyncio.sleep(0.3)
    rig.put("Requests/truck-7/b.csv")
    await expect_jobs(rig, "Requests/truck-7/a.csv", "Requests/truck-7/b.csv")


async def test_a_large_file_is_hashed_aside_and_does_not_hold_up_small_ones(
    rig: Rig, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.look.SMALL_BYTES", 1000)
    await rig.add_device("truck-7")
    watch(rescan_s=0.3)
    await rig.scanned()
    rig.move_in("Requests/truck-7/large.bin", b"x" * 5_000_000)
    rig.move_in("Requests/truck-7/small.csv")
    await expect_jobs(rig, "Requests/truck-7/large.bin", "Requests/truck-7/small.csv")
    (rig.root / "Requests/truck-7/large.bin").touch()
    await rig.scanned(2)
    assert len(await rig.jobs()) == 2


async def test_without_redis_everything_goes_on(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watcher = watch(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    await rig.scanned()
    rig.move_in("Requests/truck-7/a.csv")
    await expect_jobs(rig, "Requests/truck-7/a.csv")
    assert await watcher.stop() == 0


async def test_a_flushed_redis_moves_no_feed(rig: Rig, watch: Watch) -> None:
    await rig.add_device("truck-7")
    watch(name="w1")
    watch(name="w2")

    async def shared() -> bool:
        return sorted(await rig.holders()) == ["w1", "w2"] and sum((await rig.holders()).values()) == 64

    await until(shared, "feeds shared")
    before = await rig.db.fetch("SELECT name, owner, term FROM leases ORDER BY name")
    async with redis.asyncio.Redis.from_url(rig.redis_url) as client:
        await client.flushall()
    await asyncio.sleep(1.2)
    assert await rig.db.fetch("SELECT name, owner, term FROM leases ORDER BY name") == before


async def test_postgres_away_for_a_while_loses_nothing(
    tmp_path: Path, redis_url: str, postgres_server: ServerFactory
) -> None:
    server = postgres_server()
    connection = await asyncpg.connect(server.url)
    rig = Rig(tmp_path, server.url, redis_url, connection)
    await rig.add_device("truck-7")
    watcher = InLoop(rig.settings())
    try:
        await rig.scanned()
        server.kill()
        rig.move_in("Requests/truck-7/meanwhile.csv")
        rig.put("Requests/truck-7/new/folder.csv")
        await asyncio.sleep(1.5)
        server.launch()
        await server.wait_ready()
        rig.db = await asyncpg.connect(server.url)
        await expect_jobs(rig, "Requests/truck-7/meanwhile.csv", "Requests/truck-7/new/folder.csv")
        assert await watcher.stop() == 0
        await rig.db.close()
    finally:
        await watcher.kill()
        connection.terminate()


async def test_a_watcher_that_stops_gives_everything_back(rig: Rig, watch: Watch) -> None:
    watcher = watch()
    await rig.scanned()
    assert sum((await rig.holders()).values()) == 64
    assert await watcher.stop() == 0
    assert await rig.holders() == {}
    assert await rig.db.fetchval("SELECT count(*) FROM watchers") == 0
    async with redis.asyncio.Redis.from_url(rig.redis_url) as client:
        assert await client.keys("fw:lease:*") == []


async def test_a_second_watcher_takes_its_share_and_a_clean_stop_hands_over_within_a_second(
    rig: Rig, watch: Watch
) -> None:
    devices = [f"truck-{number}" for number in range(40)]
    await rig.add_device(*devices)
    # As fast as it is when nothing is set.
    usual = {"membership_s": 0.5, "heartbeat_s": 10.0, "trust_s": 20.0, "lease_s": 30.0, "silence_s": 15.0}
    first = watch(name="w1", **usual)
    await rig.scanned()
    second = watch(name="w2", **usual)

    async def shared() -> bool:
        holders = await rig.holders()
        return sum(holders.values()) == 64 and 16 < holders.get("w2", 0) < 48

    await until(shared, "feeds shared")
    for number, device in enumerate(devices):
        rig.move_in(f"Requests/{device}/{number}.csv")
    await expect_jobs(rig, *(f"Requests/{device}/{number}.csv" for number, device in enumerate(devices)))
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await first.stop() == 0

    async def handed_over() -> bool:
        return await rig.holders() == {"w2": 64}

    await until(handed_over, "all feeds handed over", deadline_s=2)
    assert loop.time() - began < 2.0
    for number, device in enumerate(devices):
        rig.move_in(f"Requests/{device}/after-{number}.csv")
    await until(lambda: _count(rig, 80), "80 jobs")
    assert not second.ended


async def _count(rig: Rig, wanted: int) -> bool:
    return len(await rig.jobs()) == wanted


async def test_of_two_watchers_of_one_name_the_newer_stays_and_the_older_says_why(
    rig: Rig, watch: Watch, capfd: pytest.CaptureFixture[str]
) -> None:
    older = watch()
    await rig.scanned()
    newer = watch()
    assert await older.result() == 1
    assert "FLEETWIRE_WATCHER_NAME" in "".join(capfd.readouterr())

    async def taken_over() -> bool:
        return bool(await rig.db.fetchval("SELECT count(*) = 64 FROM leases WHERE term >= 2 AND owner = 'watcher-1'"))

    await until(taken_over, "the newer has everything")
    assert not newer.ended
