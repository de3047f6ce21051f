"""A feed follows a drive: what is in the watched areas is in the ledger, and what is new there is announced once."""

import pytest
from structlog.testing import capture_logs

from loadtests.watching.model_drive import ROOT, ModelDrive, contents
from shared.cloud.errors import NotFound, RateLimited, StoreUnavailable
from shared.store import devices, remote_feeds
from shared.store.pool import Pool
from shared.telemetry.metrics import REGISTRY
from tests.watcher.remote.conftest import Following
from tests.watcher.rig import until


async def test_a_request_becomes_a_job_that_names_the_providers_id(following: Following) -> None:
    item_id = following.drive.put("Requests/truck-1/a.csv")
    await following.begin()
    await following.settled()
    (job,) = await following.pool.fetch("SELECT * FROM jobs")
    assert (job["path"], job["object_id"], job["store"]) == ("Requests/truck-1/a.csv", item_id, "drive:model")
    assert job["content_version"] == following.drive.nodes[item_id].version
    assert [("requests", job["job_id"])] in [told.jobs for told in following.told], "told after the commit"


async def test_a_response_is_announced_with_the_hash_of_its_content(following: Following) -> None:
    await following.begin()
    await following.settled()
    following.drive.put("Responses/truck-1/r.pdf", b"the response")
    await following.settled()
    (file,) = await following.pool.fetch("SELECT * FROM response_files")
    assert file["sha256"] == contents(following.drive, ["Responses/truck-1/r.pdf"])["Responses/truck-1/r.pdf"]
    (event,) = await following.pool.fetch("SELECT * FROM events")
    assert file["sha256"] in event["body"]


async def test_responses_that_were_there_before_us_are_not_announced(following: Following) -> None:
    for number in range(5):
        following.drive.put(f"Responses/truck-1/deep/{number}.pdf")
    await following.begin()
    await following.settled()
    assert await following.announced() == []
    assert set((await following.states()).values()) == {"baseline"}
    following.drive.put("Responses/truck-1/deep/new.pdf")
    await following.settled()
    assert await following.announced() == ["Responses/truck-1/deep/new.pdf"]


async def test_new_content_is_announced_again_and_the_same_is_not(following: Following) -> None:
    await following.begin()
    item_id = following.drive.put("Requests/truck-1/a.csv", b"1")
    await following.settled()
    following.drive.touch(item_id)
    await following.settled()
    assert await following.jobs() == ["Requests/truck-1/a.csv"]
    following.drive.put("Requests/truck-1/a.csv", b"2")
    await following.settled()
    assert await following.jobs() == ["Requests/truck-1/a.csv"] * 2


async def test_what_lies_elsewhere_on_the_drive_is_not_ours(following: Following) -> None:
    following.drive.put("Letters/a.txt")
    following.drive.put("Requests/no device id/a.txt")
    following.drive.put("a.txt")
    await following.begin()
    await following.settled()
    assert await following.ledger() == {}


async def test_files_follow_a_folder_that_is_renamed_and_are_not_announced_again(following: Following) -> None:
    drive = following.drive
    for number in range(7):
        drive.put(f"Requests/truck-1/old/sub/{number}.csv")
    await following.begin()
    await following.settled()
    before = await following.jobs()
    drive.move(drive.folder("Requests/truck-1/old"), drive.folder("Requests/truck-1"), "new")
    await following.settled()
    assert await following.ledger() == drive.files()
    assert all(path.startswith("Requests/truck-1/new/sub/") for path in (await following.ledger()).values())
    assert await following.jobs() == before


async def test_files_in_a_folder_that_comes_into_the_watched_areas_are_found_though_nobody_tells_of_them(
    following: Following,
) -> None:
    drive = following.drive
    for number in range(5):
        drive.put(f"Drafts/parcel/sub/{number}.csv")
    await following.begin()
    await following.settled()
    assert await following.jobs() == []
    drive.move(drive.folder("Drafts/parcel"), drive.folder("Requests/truck-1"))
    await following.settled()
    assert await following.jobs() == [f"Requests/truck-1/parcel/sub/{number}.csv" for number in range(5)]
    assert await following.ledger() == drive.files()
    drive.move(drive.folder("Requests/truck-1/parcel/sub"), drive.folder("Drafts"))
    await following.settled()
    assert await following.ledger() == {}


async def test_files_that_come_to_another_device_are_announced_there(following: Following) -> None:
    drive = following.drive
    drive.put("Requests/truck-1/in/a.csv")
    await following.begin()
    await following.settled()
    drive.move(drive.folder("Requests/truck-1/in"), drive.folder("Requests/truck-2"))
    await following.settled()
    assert await following.jobs() == ["Requests/truck-1/in/a.csv", "Requests/truck-2/in/a.csv"]


async def test_a_folder_that_goes_takes_what_is_below_it_and_not_what_was_taken_out(
    following: Following,
) -> None:
    drive = following.drive
    drive.page = 1
    kept = drive.put("Requests/truck-1/doomed/kept.csv")
    drive.put("Requests/truck-1/doomed/sub/gone.csv")
    await following.begin()
    await following.settled()
    before = await following.jobs()
    drive.move(kept, drive.folder("Requests/truck-1"))
    drive.remove(drive.folder("Requests/truck-1/doomed"))
    await following.settled()
    assert await following.ledger() == {kept: "Requests/truck-1/kept.csv"}
    assert await following.jobs() == before


async def test_a_folder_that_was_taken_out_of_one_that_went_keeps_the_folders_below_it(following: Following) -> None:
    drive = following.drive
    drive.folder("Requests/truck-1/doomed/kept/deep")
    await following.begin()
    await following.settled()
    kept = drive.folder("Requests/truck-1/doomed/kept")
    drive.nodes[kept].parent = drive.folder("Requests/truck-1")
    drive.remove(drive.folder("Requests/truck-1/doomed"))
    await following.settled()
    # Only now is it told that it was moved, and of what lies below it nothing is.
    drive.touch(kept)
    drive.put("Requests/truck-1/kept/deep/a.csv")
    await following.settled()
    assert await following.ledger() == drive.files()
    assert await following.jobs() == ["Requests/truck-1/kept/deep/a.csv"]


async def test_a_lost_cursor_means_everything_is_read_and_nothing_announced_twice(following: Following) -> None:
    drive = following.drive
    gone = drive.put("Requests/truck-1/gone.csv")
    for number in range(20):
        drive.put(f"Requests/truck-1/{number:02}.csv")
    await following.begin()
    await following.settled()
    assert len(await following.jobs()) == 21
    await following.kill()
    drive.remove(gone)
    drive.put("Requests/truck-1/new.csv")
    drive.expire()
    await following.begin("w2")
    await following.settled()
    assert len(await following.jobs()) == 22
    assert await following.ledger() == drive.files()
    state = await remote_feeds.state(following.pool, following.feed_id)
    assert state is not None
    assert (state.phase, state.generation) == ("changes", 2)


async def test_a_run_that_somebody_wants_begins_within_a_moment(following: Following) -> None:
    following.drive.put("Requests/truck-1/a.csv")
    await following.begin()
    await following.settled()
    await remote_feeds.ask_full(following.pool, [following.feed_id])
    assert await remote_feeds.full_asked(following.pool, [following.feed_id]) == [following.feed_id]
    assert following.feed is not None
    following.feed.on_full_asked()

    async def ran() -> bool:
        state = await remote_feeds.state(following.pool, following.feed_id)
        return state is not None and state.generation == 2 and state.phase == "changes"

    await until(ran, "everything read again")
    assert await remote_feeds.full_asked(following.pool, [following.feed_id]) == []
    assert await following.jobs() == ["Requests/truck-1/a.csv"]


async def test_trouble_and_rate_limits_are_waited_out(following: Following) -> None:
    following.drive.put("Requests/truck-1/a.csv")
    following.drive.fail = [StoreUnavailable("down"), RateLimited("slow", retry_after_s=0.05), StoreUnavailable("down")]
    await following.begin()
    await following.settled()
    assert await following.jobs() == ["Requests/truck-1/a.csv"]


async def test_a_response_that_cannot_be_read_waits_and_holds_up_no_other(following: Following) -> None:
    await following.begin()
    await following.settled()
    following.drive.unreadable["Responses/truck-1/bad.pdf"] = NotFound("virus")
    following.drive.put("Responses/truck-1/bad.pdf")
    following.drive.put("Responses/truck-1/good.pdf")
    await following.settled()
    assert await following.announced() == ["Responses/truck-1/good.pdf"]
    assert (await following.states())["Responses/truck-1/bad.pdf"] == "waiting"
    following.drive.unreadable.clear()
    await following.pool.fetch("UPDATE items SET retry_at = clock_timestamp()")
    assert following.feed is not None
    following.feed.on_arrivals()
    await until(
        lambda: following.pool.fetch("SELECT FROM response_files WHERE name = 'bad.pdf'"), "announced once readable"
    )


async def test_files_of_a_device_that_does_not_exist_are_announced_when_it_does(following: Following) -> None:
    await following.begin()
    await following.settled()
    following.drive.put("Requests/truck-9/a.csv")
    following.drive.put("Responses/truck-9/r.pdf")
    await following.settled()
    assert await following.jobs() == []
    await devices.ensure(following.pool, "truck-9", "truck")
    assert following.feed is not None
    following.feed.on_arrivals()
    await until(lambda: following.pool.fetch("SELECT FROM response_files"), "response announced")
    assert await following.jobs() == ["Requests/truck-9/a.csv"]


async def test_what_lies_in_the_folder_of_a_job_is_recorded_and_not_announced(following: Following) -> None:
    await following.begin()
    await following.settled()
    following.drive.put("Requests/truck-1/a.csv")
    await following.settled()
    folder = "Responses/truck-1/a.0001"
    await following.pool.fetch(
        "INSERT INTO responses (response_id, device_id, job_id, store, folder) "
        "SELECT gen_random_uuid(), 'truck-1', job_id, $1, $2 FROM jobs",
        following.drive.name,
        folder,
    )
    following.drive.put(f"{folder}/response.json")
    await following.settled()
    assert await following.announced() == []
    assert (await following.states())[f"{folder}/response.json"] == "reserved"


async def test_who_goes_on_after_another_term_began_changes_nothing(following: Following) -> None:
    await following.begin()
    await following.settled()
    await following.pool.fetch("UPDATE leases SET term = term + 1")
    following.drive.put("Requests/truck-1/a.csv")
    assert following.task is not None

    async def ended() -> bool:
        assert following.task is not None
        return following.task.done()

    await until(ended, "fenced")
    assert "TermOver" in repr(following.task.exception())
    assert await following.jobs() == []


async def test_the_root_itself_is_no_folder_that_could_go(following: Following) -> None:
    following.drive.put("Requests/truck-1/a.csv")
    await following.begin()
    await following.settled()
    following.drive.touch(ROOT)
    await following.settled()
    assert list((await following.ledger()).values()) == ["Requests/truck-1/a.csv"]


@pytest.mark.parametrize("letter", ["\x00", "\udc80"])
async def test_a_name_that_no_database_holds_is_refused_and_holds_up_nothing(pool: Pool, letter: str) -> None:
    # Where a store only lists, the name is the id.
    following = Following(pool, ModelDrive(log=False, page=100))
    following.drive.put(f"Requests/truck-1/a{letter}b.csv")
    following.drive.put("Requests/truck-1/c.csv")
    await following.begin()
    try:

        async def made() -> bool:
            return await following.jobs() == ["Requests/truck-1/c.csv"]

        await until(made, "the other file's job", deadline_s=20)
        refused = [one.path for told in following.told for one in told.refused]
        assert f"Requests/truck-1/a{letter}b.csv" in refused
    finally:
        await following.kill()


async def test_a_poll_of_a_store_that_only_lists_is_not_told_as_a_run_over_everything(pool: Pool) -> None:
    following = Following(pool, ModelDrive(log=False, page=100, name="drive:lists"))

    async def polled() -> bool:
        assert following.feed is not None
        return int(str(following.feed.status().get("generation", 0))) >= 4

    try:
        with capture_logs() as logs:
            await following.begin()
            await until(polled, "several polls", deadline_s=20)
    finally:
        await following.kill()
    said = [one["reason"] for one in logs if one["event"] == "reading everything" and one["log_level"] == "info"]
    assert said == ["first"]
    counted = "fleetwire_feed_resyncs_total"
    assert REGISTRY.get_sample_value(counted, {"store": "drive:lists", "reason": "first"}) == 1
    assert REGISTRY.get_sample_value(counted, {"store": "drive:lists", "reason": "provider"}) is None
