"""Contents read for their hash: one version each, small ones at once, large ones beside the feed, failures later."""

import asyncio
import hashlib

import pytest

from loadtests.watching.model_drive import ModelDrive
from shared.cloud.errors import NotFound, RateLimited, StoreUnavailable
from tests.watcher.rig import until
from watcher.remote import hashing
from watcher.remote.hashing import Hasher
from watcher.remote.outcome import Content, Hashed, Unreadable

PATH = "Responses/truck-1/r.pdf"


class Reading:
    """A hasher over a drive with one file."""

    def __init__(self) -> None:
        self.drive = ModelDrive()
        self.item_id = self.drive.put(PATH, b"content")
        self.ready = 0
        self.hasher = Hasher(self.drive, self._on_ready)  # type: ignore[arg-type] # it has what is asked for

    def _on_ready(self) -> None:
        self.ready += 1

    @property
    def content(self) -> Content:
        node = self.drive.nodes[self.item_id]
        return Content(self.item_id, PATH, node.version, len(node.content))

    async def one(self, content: Content) -> Hashed | Unreadable:
        return (await self.hasher.hashes([content]))[content.item_id, content.version]


async def test_a_small_file_is_read_while_the_page_waits_and_once() -> None:
    reading = Reading()
    for _ in range(2):
        assert await reading.one(reading.content) == Hashed(
            reading.content.version, 7, hashlib.sha256(b"content").hexdigest()
        )
    assert reading.drive.reads == 1


async def test_a_file_that_was_replaced_is_hashed_as_what_it_is_now() -> None:
    reading = Reading()
    told = reading.content
    reading.drive.put(PATH, b"newer content")
    hashed = await reading.one(told)
    assert hashed == Hashed(reading.content.version, 13, hashlib.sha256(b"newer content").hexdigest())


async def test_a_file_that_was_removed_is_not_hashed_as_the_other_that_has_its_path_now() -> None:
    reading = Reading()
    told = reading.content
    reading.drive.remove(reading.item_id)
    reading.drive.put(PATH, b"content of another")
    assert isinstance(await reading.one(told), Unreadable)


async def test_a_file_that_cannot_be_read_is_tried_ever_later() -> None:
    reading = Reading()
    reading.drive.unreadable[PATH] = NotFound("gone")
    waits = []
    for _ in range(10):
        outcome = await reading.one(reading.content)
        assert isinstance(outcome, Unreadable)
        waits.append(outcome.retry_s)
    assert waits == sorted(waits)
    assert waits[-1] == 300.0


async def test_trouble_at_the_provider_is_the_pages_until_it_turns_out_to_be_the_files() -> None:
    reading = Reading()
    reading.drive.unreadable[PATH] = StoreUnavailable("503")
    for _ in range(4):
        with pytest.raises(StoreUnavailable):
            await reading.one(reading.content)
    assert isinstance(await reading.one(reading.content), Unreadable)


async def test_a_rate_limit_is_always_the_pages() -> None:
    reading = Reading()
    reading.drive.unreadable[PATH] = RateLimited("slow", retry_after_s=3.0)
    for _ in range(10):
        with pytest.raises(RateLimited):
            await reading.one(reading.content)


async def test_a_large_file_is_read_beside_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "SMALL_BYTES", 3)
    reading = Reading()
    assert isinstance(await reading.one(reading.content), Unreadable)

    async def ready() -> bool:
        return reading.ready > 0

    await until(ready, "large file read")
    assert isinstance(await reading.one(reading.content), Hashed)
    await asyncio.wait_for(reading.hasher.close(), 5)


async def test_of_very_many_large_files_only_some_wait_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "SMALL_BYTES", 3)
    monkeypatch.setattr(hashing, "LARGE_MAX", 5)
    reading = Reading()
    asked = [Content(f"file-{number}", f"Responses/truck-1/{number}", "qx:1", 9) for number in range(20)]
    outcomes = await reading.hasher.hashes(asked)
    assert len(outcomes) == 20
    assert all(isinstance(outcome, Unreadable) for outcome in outcomes.values())
    assert sum(task.get_name().startswith("hash Responses") for task in asyncio.all_tasks()) <= 5
    await asyncio.wait_for(reading.hasher.close(), 5)
