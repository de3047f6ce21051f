import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.cloud.errors import (
    BadPath,
    ContentChanged,
    ContentMismatch,
    Misconfigured,
    NotAFile,
    NotFound,
    StoreUnavailable,
)
from shared.cloud.hashes import Digest, digest_of
from shared.cloud.local import LocalStore
from shared.cloud.store import Entry, Existed, Store, Stored


async def read(store: LocalStore, path: str) -> bytes:
    async with store.open(path) as reader:
        return b"".join([piece async for piece in reader.chunks()])


async def in_pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def listed(store: LocalStore, folder: str) -> list[Entry]:
    return sorted([entry async for page in store.entries(folder) for entry in page], key=lambda entry: entry.name)


def test_the_local_store_is_a_store(store: LocalStore) -> None:
    port: Store = store
    assert port is store


async def test_what_is_put_is_there_with_its_parents_and_nothing_is_left_aside(
    store: LocalStore, root: Path, tmp: Path
) -> None:
    answer = await store.put_new("Responses/truck-7/a.1/photo.jpg", b"picture")
    assert answer == Stored(Digest(7, sha256(b"picture").hexdigest()))
    assert (root / "Responses/truck-7/a.1/photo.jpg").read_bytes() == b"picture"
    assert list(tmp.iterdir()) == []


async def test_bytes_a_file_and_a_stream_are_put_alike(store: LocalStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000
    outside = tmp_path / "made elsewhere"
    outside.write_bytes(content)
    for name, source in (("bytes", content), ("path", outside), ("stream", in_pieces(content, 60_000))):
        assert await store.put_new(name, source) == Stored(digest_of(content))
        assert await read(store, name) == content


async def test_an_empty_file_can_be_put(store: LocalStore) -> None:
    assert await store.put_new("empty", b"") == Stored(digest_of(b""))
    assert await read(store, "empty") == b""


async def test_an_existing_file_is_left_alone_and_told_with_what_is_needed_to_adopt_it(store: LocalStore) -> None:
    await store.put_new("a/response.json", b"first")
    again = await store.put_new("a/response.json", b"first")
    assert again == Existed(digest_of(b"first"), digest_of(b"first"))
    assert isinstance(again, Existed)
    assert again.identical
    other = await store.put_new("a/response.json", b"second")
    assert isinstance(other, Existed)
    assert not other.identical
    assert other.content == digest_of(b"first")
    assert await read(store, "a/response.json") == b"first"


async def test_of_many_writers_of_one_name_exactly_one_makes_it(store: LocalStore) -> None:
    answers = await asyncio.gather(*(store.put_new("x/y/one", f"writer {n}".encode()) for n in range(50)))
    (made,) = [answer for answer in answers if isinstance(answer, Stored)]
    assert digest_of(await read(store, "x/y/one")) == made.content
    assert {answer.content for answer in answers} == {made.content}


async def test_a_source_that_is_not_what_was_announced_makes_nothing(store: LocalStore, root: Path, tmp: Path) -> None:
    for expect in (Digest(6, digest_of(b"hello").sha256), digest_of(b"hallo")):
        with pytest.raises(ContentMismatch):
            await store.put_new("f", b"hello", expect=expect)
    with pytest.raises(ContentMismatch, match="more bytes"):
        await store.put_new("f", in_pieces(b"hello", 2), expect=Digest(4, "0" * 64))
    assert list(root.iterdir()) == []
    assert list(tmp.iterdir()) == []


async def test_a_stream_that_fails_or_is_cancelled_leaves_no_trace(store: LocalStore, root: Path, tmp: Path) -> None:
    async def fails() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await store.put_new("f", fails())

    begun = asyncio.Event()

    async def hangs() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        begun.set()
        await asyncio.Event().wait()

    put = asyncio.create_task(store.put_new("f", hangs()))
    await begun.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert list(root.iterdir()) == []
    assert list(tmp.iterdir()) == []


async def test_a_put_cancelled_at_any_moment_leaves_a_whole_file_or_none(
    store: LocalStore, root: Path, tmp: Path
) -> None:
    for turns in range(0, 120, 3):
        put = asyncio.create_task(store.put_new(f"f{turns}", b"whole"))
        for _ in range(turns):
            await asyncio.sleep(0)
        put.cancel()
        await asyncio.gather(put, return_exceptions=True)
    await store.close()
    assert {file.read_bytes() for file in root.iterdir()} <= {b"whole"}
    assert list(tmp.iterdir()) == []


async def test_a_link_at_the_name_or_on_the_way_is_never_followed(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"theirs")
    (root / "folder").symlink_to(outside)
    (root / "name").symlink_to(outside / "victim")
    (root / "dangling").symlink_to(outside / "new")
    for path in ("folder/victim", "folder/new", "name", "dangling"):
        with pytest.raises(NotAFile):
            await store.put_new(path, b"ours")
        with pytest.raises(NotAFile):
            await read(store, path)
        with pytest.raises(NotAFile):
            await store.stat(path)
    assert [(file.name, file.read_bytes()) for file in outside.iterdir()] == [("victim", b"theirs")]


async def test_pipes_and_folders_are_refused_at_once(store: LocalStore, root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    os.mkfifo(tmp_path / "outside")
    for path in ("pipe", "folder"):
        with pytest.raises(NotAFile):
            await read(store, path)
        with pytest.raises(NotAFile):
            await store.stat(path)
        with pytest.raises(NotAFile):
            await store.put_new(path, b"")
    with pytest.raises(NotAFile):
        await store.put_new("new", tmp_path / "outside")


async def test_paths_are_checked_before_anything_is_opened(store: LocalStore) -> None:
    for path in ("../x", "/etc/passwd", "a/../../x", "a\0", "\udcff"):
        for refused in (store.put_new(path, b""), store.stat(path), read(store, path)):
            with pytest.raises(BadPath):
                await refused
        with pytest.raises(BadPath):
            await listed(store, path)


async def test_what_is_missing_is_none_for_stat_and_not_found_for_the_rest(store: LocalStore, root: Path) -> None:
    (root / "file").write_bytes(b"")
    assert await store.stat("none/none") is None
    assert await store.stat("file/below") is None
    with pytest.raises(NotFound):
        await read(store, "none")
    with pytest.raises(NotFound):
        await listed(store, "none")


async def test_a_file_is_read_from_any_place_and_for_any_length(store: LocalStore) -> None:
    content = os.urandom(3_000_000)
    await store.put_new("f", content)
    async with store.open("f") as reader:
        assert reader.stat.size == len(content)
        for start, length in ((0, 1), (2_999_999, 1), (5, 2_500_000), (1_048_576, None)):
            pieces = [piece async for piece in reader.chunks(start, length)]
            assert b"".join(pieces) == content[start : None if length is None else start + length]
            assert max(map(len, pieces)) <= 1_048_576


async def test_a_file_cut_while_it_is_read_is_said_and_not_padded(store: LocalStore, root: Path) -> None:
    (root / "f").write_bytes(b"x" * 100)
    async with store.open("f") as reader:
        os.truncate(root / "f", 10)
        with pytest.raises(ContentChanged):
            _ = [piece async for piece in reader.chunks()]


async def test_the_digest_of_a_file_comes_with_the_stat_of_what_was_read(store: LocalStore, root: Path) -> None:
    content = os.urandom(9_000_000)
    await store.put_new("f", content)
    stat, digest = await store.content("f")
    assert digest == digest_of(content)
    found = (root / "f").stat()
    assert (stat.size, stat.mtime_ns, stat.inode) == (found.st_size, found.st_mtime_ns, found.st_ino)
    assert await store.stat("f") == stat


async def test_a_folder_is_listed_in_pages_with_the_kind_of_each_entry(store: LocalStore, root: Path) -> None:
    for n in range(1100):
        (root / f"f{n:04}").write_bytes(b"x" * (n % 3))
    (root / "a folder").mkdir()
    (root / "a link").symlink_to("f0000")
    os.mkfifo(root / "a pipe")
    (root / os.fsdecode(b"a\xff")).write_bytes(b"")
    pages = [page async for page in store.entries()]
    assert max(map(len, pages)) <= 512
    entries = await listed(store, "")
    assert [entry.kind for entry in entries[:3]] == ["folder", "link", "other"]
    assert len(entries) == 1104
    assert {entry.stat.size for entry in entries if entry.name.startswith("f")} == {0, 1, 2}


async def test_drafts_of_dead_processes_are_removed_by_age_and_living_ones_kept(store: LocalStore, tmp: Path) -> None:
    (tmp / "dead.part").write_bytes(b"half")
    (tmp / "young.part").write_bytes(b"half")
    (tmp / "other file").write_bytes(b"")
    os.utime(tmp / "dead.part", (1, 1))
    os.utime(tmp / "other file", (1, 1))
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        begun.set()
        await go_on.wait()

    put = asyncio.create_task(store.put_new("f", slow()))
    await begun.wait()
    for draft in tmp.glob("*.part"):
        if draft.name != "young.part":
            os.utime(draft, (1, 1))
    assert await store.remove_leftovers(older_than_s=3600) == 1
    assert not (tmp / "dead.part").exists()
    go_on.set()
    assert isinstance(await put, Stored)
    assert sorted(file.name for file in tmp.iterdir()) == ["other file", "young.part"]


async def test_a_vanished_folder_for_drafts_is_said_with_its_setting(store: LocalStore, tmp: Path) -> None:
    tmp.rmdir()
    with pytest.raises(StoreUnavailable, match="FLEETWIRE_CLOUD_TMP"):
        await store.put_new("f", b"")


async def test_the_check_finds_a_removed_folder(store: LocalStore, root: Path) -> None:
    await store.check()
    root.rmdir()
    with pytest.raises(StoreUnavailable, match="FLEETWIRE_CLOUD_ROOT"):
        await store.check()


def test_a_store_that_cannot_work_is_refused_with_the_setting_to_mend(root: Path, tmp: Path, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="FLEETWIRE_CLOUD_ROOT"):
        LocalStore(tmp_path / "none", tmp)
    with pytest.raises(Misconfigured, match=r"FLEETWIRE_CLOUD_TMP.*inside"):
        LocalStore(root, root / "tmp")
    elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))
    with pytest.raises(Misconfigured, match=r"FLEETWIRE_CLOUD_TMP.*another file system"):
        LocalStore(root, elsewhere)
    elsewhere.rmdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Misconfigured, match="FLEETWIRE_CLOUD_TMP"):
        LocalStore(root, tmp_path / "file" / "tmp")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 700_000), max_size=8))
def test_a_stream_cut_anyhow_arrives_whole(root: Path, tmp: Path, sizes: list[int]) -> None:
    async def scenario() -> None:
        store = LocalStore(root, tmp)
        pieces = [bytes([n]) * size for n, size in enumerate(sizes)]

        async def stream() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        content = b"".join(pieces)
        name = digest_of(repr(sizes).encode()).sha256
        assert (await store.put_new(name, stream(), expect=digest_of(content))).content == digest_of(content)
        assert (root / name).read_bytes() == content
        await store.close()

    asyncio.run(scenario())


async def test_a_file_is_removed_once_and_nothing_else_ever_is(store: LocalStore, root: Path) -> None:
    await store.put_new("Photos/p", b"1")
    assert await store.remove("Photos/p")
    assert not await store.remove("Photos/p")
    assert not await store.remove("nowhere/p")
    (root / "outside").mkdir()
    (root / "link").symlink_to(root / "outside")
    for path in ("outside", "link"):
        with pytest.raises(NotAFile):
            await store.remove(path)
    with pytest.raises((NotAFile, NotFound)):
        await store.remove("link/p")
    with pytest.raises(BadPath):
        await store.remove("../cloud/outside")
    assert (root / "outside").is_dir()
