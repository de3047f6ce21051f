"""A feed follows an emulated Google Drive over its wire: the same as at a model, with everything real in between."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from loadtests.emulators.drive import DriveEmulator, running_drive
from loadtests.emulators.faults import Fault
from shared.cloud.drive.auth import Tokens, read_key
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.names import PostgresClaims
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.http import HttpClient
from shared.cloud.retrying import RetryPolicy
from shared.store.pool import Pool
from tests.watcher.remote.conftest import Following
from tests.watcher.rig import until


class AtDrive:
    """A feed, and the folder that it follows."""

    def __init__(self, following: Following, drive: DriveEmulator, root: str) -> None:
        self.following = following
        self.drive = drive
        self.root = root

    def put(self, path: str, content: bytes) -> str:
        folder, _, name = path.rpartition("/")
        return self.drive.put(name, content, parent=self.drive.folder(folder, parent=self.root)).id

    async def until(self, asked: Callable[[], Awaitable[list[str]]], wanted: list[str]) -> None:
        async def is_so() -> bool:
            assert self.following.task is not None
            if self.following.task.done():
                self.following.task.result()
            return await asked() == wanted

        await until(is_so, f"{wanted}", deadline_s=30)

    async def polled(self, times: int = 3) -> None:
        """So many more pages were read."""
        wanted = self.drive.calls.get("changes.list", 0) + times

        async def is_so() -> bool:
            return self.drive.calls.get("changes.list", 0) >= wanted

        await until(is_so, "polled", deadline_s=30)


@pytest.fixture
async def at_drive(pool: Pool, tmp_path: Path) -> AsyncIterator[AtDrive]:
    async with running_drive(tmp_path / "drive") as drive:
        policy = RetryPolicy(tries=3, total_s=5.0, base_s=0.01, cap_s=0.05)
        http = HttpClient(deadline_s=5.0, policy=policy, rand=Random(1))
        key = read_key(drive.account.write_key_file(tmp_path / "key.json", f"{drive.url}/token"))
        client = DriveClient(http, Tokens(http, key, store="drive"), url=drive.url, store="drive")
        root = drive.folder("Fleet")
        provider = DriveProvider(client, root, name="drive", claims=PostgresClaims(pool, "drive"))
        following = Following(pool, provider, hooks_url="http://127.0.0.1:9")  # type: ignore[arg-type]
        yield AtDrive(following, drive, root)
        await following.kill()
        await http.close()


async def test_requests_become_jobs_and_responses_are_announced_once(at_drive: AtDrive) -> None:
    following = at_drive.following
    await following.begin()
    await at_drive.polled()
    request = at_drive.put("Requests/truck-1/a.csv", b"request")
    at_drive.put("Responses/truck-1/r.pdf", b"response")
    await at_drive.until(following.jobs, ["Requests/truck-1/a.csv"])
    await at_drive.until(following.announced, ["Responses/truck-1/r.pdf"])
    (job,) = await following.pool.fetch("SELECT object_id, store, content_version FROM jobs")
    assert (job["object_id"], job["store"]) == (request, "drive")
    assert job["content_version"].startswith("md5:")
    (file,) = await following.pool.fetch("SELECT sha256 FROM response_files")
    assert file["sha256"] == hashlib.sha256(b"response").hexdigest()
    await at_drive.polled()
    assert await following.jobs() == ["Requests/truck-1/a.csv"]


async def test_nothing_is_announced_twice_through_lost_tokens_and_folders_with_other_names(at_drive: AtDrive) -> None:
    following, drive = at_drive.following, at_drive.drive
    paths = [f"Requests/truck-1/day/{n}.csv" for n in range(5)]
    for path in paths:
        at_drive.put(path, path.encode())
    await following.begin()
    await at_drive.until(following.jobs, paths)
    drive.corpus.expire_tokens()
    drive.script.add(Fault("files.list", "cut_answer", after_bytes=50, times=2), Fault("changes.list", status=500))
    at_drive.put("Requests/truck-2/late.csv", b"late")
    await at_drive.until(following.jobs, [*paths, "Requests/truck-2/late.csv"])
    day = drive.folder("Requests/truck-1/day", parent=at_drive.root)
    for name in ("another day", "day"):
        drive.change(day, name=name)
        await at_drive.polled()
    at_drive.put("Requests/truck-2/last.csv", b"last")
    await at_drive.until(following.jobs, [*paths, "Requests/truck-2/last.csv", "Requests/truck-2/late.csv"])
    await at_drive.polled()
    assert await following.jobs() == [*paths, "Requests/truck-2/last.csv", "Requests/truck-2/late.csv"]


async def test_a_feed_has_one_channel_and_its_id_in_its_row(at_drive: AtDrive) -> None:
    following, drive = at_drive.following, at_drive.drive
    await following.begin()

    async def is_open() -> bool:
        return len(drive.channels.open) == 1

    await until(is_open, "a channel", deadline_s=30)
    (channel,) = drive.channels.open.values()

    async def is_written() -> bool:
        (row,) = await following.pool.fetch("SELECT subscriptions::text AS text FROM feeds")
        return channel.id in str(row["text"])

    await until(is_written, "its id in the row", deadline_s=30)
    assert channel.address == "http://127.0.0.1:9"
