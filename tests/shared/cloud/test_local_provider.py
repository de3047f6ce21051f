"""The local disk by the contract of all providers, and what only a disk does."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.errors import ContentMismatch, NameTaken, NotAFile, NotFound
from shared.cloud.local_provider import LocalProvider
from shared.cloud.local_uploads import first_gap
from shared.cloud.local_walk import Walk
from shared.cloud.provider import Changed, Offer, Provider, Upload
from shared.hash_slots import partition_of
from tests.shared.cloud.contract import ProviderContract, hashed, made_up, read


@pytest.fixture(params=["openat2", "walk"])
async def local(request: pytest.FixtureRequest, root: Path, tmp: Path) -> AsyncIterator[LocalProvider]:
    opened = LocalProvider(root, tmp, allow_openat2=request.param == "openat2")
    yield opened
    await opened.close()


class TestContract(ProviderContract):
    @pytest.fixture
    async def provider(self, root: Path, tmp: Path) -> AsyncIterator[Provider]:
        opened = LocalProvider(root, tmp)
        yield opened
        await opened.close()


async def upload_whole(local: LocalProvider, upload: Upload, content: bytes) -> None:
    await local.finish(upload, [await local.put_part(upload, 0, content)])


async def test_a_probe_tells_how_full_the_disk_is(local: LocalProvider, root: Path) -> None:
    probe = await local.probe()
    assert probe.used is not None
    assert probe.total is not None
    assert 0 < probe.used < probe.total


async def test_links_are_neither_listed_nor_moved_nor_moved_through(
    local: LocalProvider, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"theirs")
    (root / "folder").symlink_to(outside)
    (root / "name").symlink_to(outside / "victim")
    await local.put_new("f", b"ours")
    assert [found.path async for found in local.list("")] == ["f"]
    assert [found async for found in local.list("folder")] == []
    for path, to in (("name", "g"), ("folder/victim", "g"), ("f", "folder/g")):
        with pytest.raises(NotAFile):
            await local.move(path, to)
    with pytest.raises(NameTaken):
        await local.move("f", "name")
    assert sorted(path.name for path in outside.iterdir()) == ["victim"]


async def test_a_file_is_not_moved_onto_itself_and_stays(local: LocalProvider) -> None:
    await local.put_new("a/f", b"x")
    with pytest.raises(NameTaken):
        await local.move("a/f", "a/f")
    assert await read(local, "a/f") == b"x"


async def test_where_the_system_cannot_rename_without_replacing_it_is_linked_first(
    local: LocalProvider, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.cloud.beneath._renameat2", None)
    await local.put_new("a/f", b"x")
    await local.put_new("taken", b"y")
    with pytest.raises(NameTaken):
        await local.move("a/f", "taken")
    with pytest.raises(NameTaken):
        await local.move("a/f", "a/f")
    await local.move("a/f", "b/g")
    # As if a move had been cut off between its two steps.
    os.link(root / "b/g", root / "a/f")
    await local.move("a/f", "b/g")
    assert [found.path async for found in local.list("")] == ["taken", "b/g"]


# Parts


async def test_a_finish_that_was_cut_off_can_be_repeated(local: LocalProvider, root: Path, tmp: Path) -> None:
    content = made_up(10_000)
    upload = await local.begin("f", Offer(len(content)))
    part = await local.put_part(upload, 0, content)
    (data,) = (path for path in tmp.iterdir() if path.suffix == ".upload")
    os.link(data, root / "f")
    made = await local.finish(upload, [part])
    assert made.size == 10_000
    assert await read(local, "f") == content
    assert list(tmp.iterdir()) == []
    with pytest.raises(NotFound):
        await local.finish(upload, [part])


async def test_bytes_that_never_came_or_changed_on_disk_are_found_at_the_end(local: LocalProvider, tmp: Path) -> None:
    content = made_up(10_000)
    upload = await local.begin("f", Offer(len(content), hashed(content)))
    await local.put_part(upload, 0, content[:4_000])
    await local.put_part(upload, 5_000, content[5_000:])
    with pytest.raises(ContentMismatch, match="from 4000 on never came"):
        await local.finish(upload, [])
    await local.put_part(upload, 3_000, content[3_000:6_000])
    (data,) = (path for path in tmp.iterdir() if path.suffix == ".upload")
    with data.open("r+b") as stream:
        stream.write(b"!")
    with pytest.raises(ContentMismatch, match="what is on disk"):
        await local.finish(upload, [])
    assert await local.look("f") is None
    await upload_whole(local, upload, content)
    assert await read(local, "f") == content


async def test_a_record_cut_by_a_crash_costs_only_the_part_it_was_of(local: LocalProvider, tmp: Path) -> None:
    upload = await local.begin("f", Offer(300))
    await local.put_part(upload, 0, b"x" * 100)
    (record,) = (path for path in tmp.iterdir() if path.suffix == ".upload-parts")
    with record.open("ab") as stream:
        stream.write(b"100 2")
    assert [(part.start, part.end) for part in await local.parts(upload)] == [(0, 100)]


@pytest.mark.parametrize(
    "state", ["", "[]", "{}", '{"file": 7}', '{"file": "../../etc/passwd"}', '{"file": "' + "a" * 32 + '"}']
)
async def test_a_state_that_is_none_of_ours_is_an_upload_that_is_gone(local: LocalProvider, state: str) -> None:
    upload = Upload("f", 3, state)
    for asked in (local.parts(upload), local.put_part(upload, 0, b"abc"), local.finish(upload, [])):
        with pytest.raises(NotFound):
            await asked
    await local.abort(upload)


async def test_parts_outside_the_file_are_refused(local: LocalProvider) -> None:
    upload = await local.begin("f", Offer(10))
    for start, content in ((5, b"x" * 6), (-1, b"x"), (11, b"x")):
        with pytest.raises(ValueError, match="outside"):
            await local.put_part(upload, start, content)


async def test_uploads_that_nobody_goes_on_with_are_cleared_after_a_week(local: LocalProvider, tmp: Path) -> None:
    old = await local.begin("old", Offer(10))
    for path in tmp.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
    young = await local.begin("young", Offer(10))
    assert await local.remove_leftovers(older_than_s=0) == 2
    assert await local.parts(young) == []
    with pytest.raises(NotFound):
        await local.parts(old)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted), max_size=12), st.integers(0, 30))
def test_the_first_gap_is_the_first_byte_that_no_range_has(ranges: list[list[int]], size: int) -> None:
    missing = [byte for byte in range(size) if not any(start <= byte < end for start, end in ranges)]
    assert first_gap(sorted((start, end) for start, end in ranges), size) == (missing[0] if missing else None)


# Changes by walking


async def walked(local: LocalProvider, page: int, partition: int | None = None) -> list[str]:
    found: list[str] = []
    after: str | None = None
    while True:
        changes, reached = await Walk(local.entries, after=after, partition=partition, page=page).page()
        found += [one.item_id for one in changes]
        if reached is None:
            return found
        assert len(changes) == page
        after = reached


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_a_walk_in_pages_of_any_size_tells_everything_once_and_in_order(local: LocalProvider, page: int) -> None:
    paths = {"a", "a b/c", "a.d/e/f", "b/1", "b/2", "b/3/x", "b.txt", "c"}
    for path in paths:
        await local.put_new(path, b"")
    folders = {"a b", "a.d", "a.d/e", "b", "b/3"}
    found = await walked(local, page)
    assert set(found) == paths | folders
    assert found == sorted(paths | folders, key=lambda path: path.split("/"))


async def test_a_walk_goes_on_when_the_place_it_had_come_to_is_gone(local: LocalProvider, root: Path) -> None:
    for path in ("a/1", "a/2", "b/1"):
        await local.put_new(path, b"")
    _, reached = await Walk(local.entries, after=None, partition=None, page=2).page()
    assert reached == "a/1"
    await local.remove("a/1")
    await local.remove("a/2")
    (root / "a").rmdir()
    rest, end = await Walk(local.entries, after=reached, partition=None).page()
    assert ([change.item_id for change in rest], end) == (["b", "b/1"], None)


async def test_a_partition_has_its_own_devices_only(local: LocalProvider) -> None:
    devices = [f"truck-{number}" for number in range(20)]
    for device in devices:
        await local.put_new(f"Requests/{device}/f", b"")
    ours = partition_of(devices[0])
    page = await local.changes(None, partition=ours)
    files = {change.path for change in page.changes if isinstance(change, Changed) and change.kind == "file"}
    assert files == {f"Requests/{device}/f" for device in devices if partition_of(device) == ours}


async def test_names_that_no_store_could_keep_are_passed_over(local: LocalProvider, root: Path) -> None:
    (root / "bad\nname").write_bytes(b"x")
    (root / "good").write_bytes(b"x")
    os.mkfifo(root / "pipe")
    assert [found.path async for found in local.list("")] == ["good"]
    assert [change.item_id for change in (await local.changes(None)).changes] == ["good"]
