"""A file whose hash its provider comes to know later is the same file with the same content."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import msgspec

from loadtests.watching.model_drive import ModelDrive
from shared.cloud.graph import wire
from shared.cloud.provider import Change, Changed, Object
from shared.store.pool import Pool
from tests.watcher.remote.conftest import Following

Told = TypeVar("Told", Changed, Object)


class Late(ModelDrive):
    """Tells a tag of its own until it knows hashes."""

    knows = False

    def _ids(self, kind: str, start: int, upto: int, seed: int) -> list[str]:
        """Files before folders."""
        return sorted(super()._ids(kind, start, upto, seed))

    def _change(self, item_id: str) -> Change:
        told = super()._change(item_id)
        if not isinstance(told, Changed) or told.kind != "file":
            return told
        return self._late(item_id, told)

    def objects(self, folder: str) -> Iterator[Object]:
        for one in super().objects(folder):
            yield self._late(one.object_id, one)

    def _late(self, item_id: str, one: Told) -> Told:
        tag = f"ctag:{item_id}-{self.nodes[item_id].edits}"
        return replace(one, stand_in=tag) if self.knows else replace(one, version=tag)


async def test_nothing_is_announced_again_when_its_hash_becomes_known(pool: Pool) -> None:
    following = Following(pool, drive := Late())
    # Known before, or the folders would be listed, where versions are the final ones.
    drive.folder("Requests/truck-1")
    drive.folder("Responses/truck-1")
    await following.begin()
    await following.settled()
    request = drive.put("Requests/truck-1/a.csv")
    response = drive.put("Responses/truck-1/r.pdf")
    try:
        await following.settled()
        drive.knows = True
        drive.touch(request)
        await following.settled()
        drive.expire()
        await following.settled()
        assert await following.jobs() == ["Requests/truck-1/a.csv"]
        assert await following.announced() == ["Responses/truck-1/r.pdf"]
        rows = await pool.fetch("SELECT item_id, content_version FROM items")
        assert {row["item_id"]: row["content_version"] for row in rows} == {
            one: drive.nodes[one].version for one in (request, response)
        }
        drive.put("Requests/truck-1/a.csv", b"other")
        drive.put("Responses/truck-1/r.pdf", b"other")
        await following.settled()
        assert await following.jobs() == ["Requests/truck-1/a.csv"] * 2
        assert await following.announced() == ["Responses/truck-1/r.pdf"] * 2
    finally:
        await following.kill()


async def test_nothing_is_announced_again_when_its_hash_is_told_by_a_listing_or_before_its_folder(pool: Pool) -> None:
    following = Following(pool, drive := Late())
    drive.page = 1
    listed = drive.folder("Requests/truck-1/listed")
    drive.put("Requests/truck-1/listed/a.csv")
    told = drive.put("Requests/truck-1/b.csv")
    await following.begin()
    try:
        await following.settled()
        drive.knows = True
        # Of a folder that moved is told, and no more: what lies in it is listed.
        drive.move(listed, drive.folder("Requests/truck-1"), "moved")
        await following.settled()
        # A run over everything lists no folder that is new in it.
        drive.move(told, drive.folder("Requests/truck-1/made"))
        drive.expire()
        await following.settled()
        assert await following.ledger() == drive.files()
        assert await following.jobs() == ["Requests/truck-1/b.csv", "Requests/truck-1/listed/a.csv"]
    finally:
        await following.kill()


def test_graph_says_which_tag_stood_in_for_a_hash() -> None:
    def item(**more: object) -> wire.DriveItem:
        return msgspec.convert({"id": "1", "cTag": "c1", **more}, wire.DriveItem)

    hashed = item(file={"hashes": {"quickXorHash": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}})
    bare = item(file={"hashes": {}})
    assert wire.version_of(bare) == wire.stand_in_of(hashed) == "ctag:c1"
    assert wire.version_of(hashed).startswith("qx:")
    assert wire.stand_in_of(bare) is None
