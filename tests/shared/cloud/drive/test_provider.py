import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtests.emulators.drive import DriveEmulator
from loadtests.emulators.faults import Fault
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.errors import (
    ContentChanged,
    ContentMismatch,
    Misconfigured,
    NameTaken,
    NotAFile,
    NotFound,
    RateLimited,
    StoreFull,
    StoreUnavailable,
)
from shared.cloud.hashes import digest_of
from shared.cloud.provider import Offer
from shared.cloud.store import Existed, Stored
from tests.shared.cloud.drive.account import Account


async def read(provider: DriveProvider, path: str, start: int = 0, length: int | None = None) -> bytes:
    async with provider.open(path) as reader:
        return b"".join([piece async for piece in reader.chunks(start, length)])


def named(drive: DriveEmulator, folder_id: str) -> list[str]:
    return sorted(one.name for one in drive.corpus.children(folder_id) if not drive.corpus.trashed(one))


async def test_a_file_is_put_looked_at_read_and_removed(provider: DriveProvider) -> None:
    content = b"x" * 100_000
    assert await provider.put_new("Responses/truck-7/a.bin", content) == Stored(digest_of(content))
    found = await provider.look("Responses/truck-7/a.bin")
    assert found is not None
    assert found.size == 100_000
    assert found.version.startswith("md5:")
    assert found.hashes["sha256"] == digest_of(content).sha256
    assert await read(provider, "Responses/truck-7/a.bin") == content
    assert await read(provider, "Responses/truck-7/a.bin", 10, 5) == b"xxxxx"
    assert (await provider.content("Responses/truck-7/a.bin"))[1] == digest_of(content)
    assert await provider.remove("Responses/truck-7/a.bin")
    assert not await provider.remove("Responses/truck-7/a.bin")
    assert await provider.look("Responses/truck-7/a.bin") is None
    with pytest.raises(NotFound):
        await read(provider, "Responses/truck-7/a.bin")


async def test_what_is_there_is_left_alone_and_told(provider: DriveProvider) -> None:
    await provider.put_new("a.txt", b"first")
    assert await provider.put_new("a.txt", b"second") == Existed(digest_of(b"first"), digest_of(b"second"))
    again = await provider.put_new("a.txt", b"first")
    assert isinstance(again, Existed)
    assert again.identical
    assert await read(provider, "a.txt") == b"first"


async def test_many_writers_of_one_name_make_one_file(account: Account, root: str, drive: DriveEmulator) -> None:
    providers = [account.provider(root) for _ in range(4)]
    results = await asyncio.gather(*(providers[n % 4].put_new("Responses/truck-7/a.txt", b"%d" % n) for n in range(60)))
    assert sum(isinstance(one, Stored) for one in results) == 1
    winner = next(one for one in results if isinstance(one, Stored))
    assert all(one.content == winner.content for one in results)
    assert named(drive, root) == ["Responses"], "and of its folders there is one each"
    assert named(drive, drive.folder("Fleet/Responses/truck-7")) == ["a.txt"]


async def test_names_that_differ_in_case_only_are_one_name(provider: DriveProvider) -> None:
    await provider.put_new("a.txt", b"first")
    assert isinstance(await provider.put_new("A.TXT", b"second"), Existed)
    assert await read(provider, "A.txt") == b"first"


async def test_a_file_that_somebody_else_put_has_its_name(
    provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    drive.put("a.txt", b"theirs", parent=root)
    assert await provider.put_new("a.txt", b"ours") == Existed(digest_of(b"theirs"), digest_of(b"ours"))


async def test_of_files_with_one_name_the_claimed_one_is_meant_else_the_oldest(
    provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    oldest = drive.put("b.txt", b"oldest", parent=root)
    drive.clock.advance(5)
    newer = drive.put("b.txt", b"newer", parent=root)
    assert await read(provider, "b.txt") == b"oldest"
    async with provider.open("b.txt", object_id=newer.id) as reader:
        assert b"".join([piece async for piece in reader.chunks()]) == b"newer"
    drive.clock.advance(5)
    await provider.put_new("a.txt", b"claimed")
    mine = await provider.look("a.txt")
    assert mine is not None
    drive.corpus.file(drive.put("a.txt", b"older", parent=root).id).created = 0.0
    assert await read(provider, "a.txt") == b"claimed"
    assert await provider.remove("b.txt", object_id=oldest.id)
    assert not await provider.remove("b.txt", object_id=oldest.id), "never another of that name"
    assert await read(provider, "b.txt") == b"newer"


async def test_a_name_is_free_again_when_its_file_went_to_the_trash_elsewhere_or_for_good(
    provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    for step in range(4):
        assert isinstance(await provider.put_new("a.txt", b"%d" % step), Stored)
        found = await provider.look("a.txt")
        assert found is not None
        match step:
            case 0:
                drive.change(found.object_id, trashed=True)
            case 1:
                drive.change(found.object_id, name="b.txt")
            case 2:
                drive.delete(found.object_id)


async def test_who_claimed_and_died_is_replaced_by_the_next(
    provider: DriveProvider, account: Account, drive: DriveEmulator, root: str
) -> None:
    drive.script.add(Fault("upload.begin", status=500, times=5))
    with pytest.raises(StoreUnavailable):
        await provider.put_new("a.txt", b"dead")
    assert await account.provider(root).put_new("a.txt", b"alive") == Stored(digest_of(b"alive"))
    assert named(drive, root) == ["a.txt"]


async def test_an_answer_that_was_lost_makes_no_second_file(
    provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    drive.script.add(Fault("upload.begin", "lose_answer", times=2), Fault("files.create", "lose_answer"))
    assert await provider.put_new("Responses/a.txt", b"once") == Stored(digest_of(b"once"))
    assert named(drive, root) == ["Responses"]
    assert named(drive, drive.folder("Fleet/Responses")) == ["a.txt"]


async def test_a_wrong_byte_on_the_way_is_found_and_put_again(provider: DriveProvider, drive: DriveEmulator) -> None:
    drive.sessions.corrupt = 1
    assert await provider.put_new("a.txt", b"right") == Stored(digest_of(b"right"))
    assert await read(provider, "a.txt") == b"right"
    drive.sessions.corrupt = 2
    with pytest.raises(ContentMismatch):
        await provider.put_new("b.txt", b"right")
    assert await provider.look("b.txt") is None


async def test_what_was_announced_otherwise_is_not_put(provider: DriveProvider) -> None:
    with pytest.raises(ContentMismatch):
        await provider.put_new("a.txt", b"abc", expect=digest_of(b"abd"))
    assert await provider.look("a.txt") is None


async def test_a_large_stream_is_put_without_a_known_size(
    provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    piece = bytes(range(256)) * 4096

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield piece

    drive.script.add(
        Fault("upload.put", "cut_request", after_bytes=3_000_000), Fault("upload.put", "lose_answer", skip=1)
    )
    put = await provider.put_new("big.bin", stream())
    assert put == Stored(digest_of(piece * 20))
    assert drive.content(await found(provider, "big.bin")) == piece * 20
    assert named(drive, drive.folder("Fleet/.uploads")) == []
    assert isinstance(await provider.put_new("big.bin", stream()), Existed)
    assert named(drive, drive.folder("Fleet/.uploads")) == [], "what was not needed is removed"


async def found(provider: DriveProvider, path: str) -> str:
    there = await provider.look(path)
    assert there is not None
    return there.object_id


async def test_a_stream_that_fails_leaves_no_trace(provider: DriveProvider, drive: DriveEmulator, root: str) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield bytes(1024 * 1024)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await provider.put_new("big.bin", stream())
    assert await provider.look("big.bin") is None
    assert named(drive, drive.folder("Fleet/.uploads")) == []


async def test_folders_and_documents_are_no_files(provider: DriveProvider, drive: DriveEmulator, root: str) -> None:
    drive.folder("Requests", parent=root)
    drive.corpus.make("Plan", "application/vnd.google-apps.document", root)
    for path in ("Requests", "Plan"):
        with pytest.raises(NotAFile):
            await provider.look(path)
    await provider.put_new("a.txt", b"x")
    with pytest.raises(NotAFile):
        await provider.put_new("a.txt/b.txt", b"x")


async def test_everything_below_a_folder_is_listed(provider: DriveProvider, drive: DriveEmulator, root: str) -> None:
    drive.page_max = 3
    wanted = {f"Requests/truck-{n}/{m}.txt" for n in range(5) for m in range(2)} | {"Requests/top.txt"}
    for path in sorted(wanted):
        await provider.put_new(path, path.encode())
    await provider.put_new("Responses/other.txt", b"")
    assert {one.path async for one in provider.list("Requests")} == wanted
    assert {one.path async for one in provider.list("")} == wanted | {"Responses/other.txt"}
    assert [one async for one in provider.list("Nothing")] == []


async def test_a_file_moves_with_its_id_and_takes_no_name_that_is_taken(
    provider: DriveProvider, drive: DriveEmulator
) -> None:
    await provider.put_new("a.txt", b"moves")
    await provider.put_new("there/taken.txt", b"stays")
    before = await provider.look("a.txt")
    assert before is not None
    with pytest.raises(NameTaken):
        await provider.move("a.txt", "there/taken.txt")
    moved = await provider.move("a.txt", "there/b.txt")
    assert (moved.object_id, moved.path, moved.version) == (before.object_id, "there/b.txt", before.version)
    assert await provider.look("a.txt") is None
    assert await read(provider, "there/b.txt") == b"moves"
    assert isinstance(await provider.put_new("a.txt", b"next"), Stored), "its old name is free"
    with pytest.raises(NotFound):
        await provider.move("nothing.txt", "c.txt")
    drive.script.add(Fault("files.update", "lose_answer"))
    assert (await provider.move("there/b.txt", "c.txt")).object_id == before.object_id


async def test_a_path_leads_to_where_its_folder_is_now(account: Account, root: str, drive: DriveEmulator) -> None:
    provider = account.provider(root)
    provider._tree._trusted_s = 0.0
    await provider.put_new("Requests/truck-7/a.txt", b"x")
    drive.change(drive.folder("Fleet/Requests/truck-7"), name="truck-8")
    assert await provider.look("Requests/truck-7/a.txt") is None
    assert await provider.look("Requests/truck-8/a.txt") is not None


async def test_a_shared_drive_is_a_world_of_its_own(account: Account, drive: DriveEmulator) -> None:
    shared = drive.corpus.make_drive("Depot")
    provider = account.provider(shared, drive_id=shared)
    assert isinstance(await provider.put_new("Requests/a.txt", b"x"), Stored)
    assert [one.path async for one in provider.list("")] == ["Requests/a.txt"]
    assert isinstance(await provider.put_new("Requests/a.txt", b"y"), Existed)
    assert await provider.remove("Requests/a.txt")


async def test_a_broken_download_goes_on_where_it_broke(provider: DriveProvider, drive: DriveEmulator) -> None:
    content = bytes(range(256)) * 8192
    await provider.put_new("a.bin", content)
    drive.script.add(Fault("files.download", "cut_answer", after_bytes=700_000, times=2))
    assert await read(provider, "a.bin") == content
    assert drive.calls["files.download"] == 3


async def test_a_file_that_changes_while_it_is_read_is_not_mixed(provider: DriveProvider, drive: DriveEmulator) -> None:
    content = bytes(2_000_000)
    await provider.put_new("a.bin", content)
    object_id = await found(provider, "a.bin")
    drive.script.add(Fault("files.download", "cut_answer", after_bytes=700_000))

    async def read_while_it_changes() -> None:
        async with provider.open("a.bin") as reader:
            async for _ in reader.chunks():
                if drive.content(object_id) == content:
                    drive.write(object_id, b"1" * 2_000_000)

    with pytest.raises(ContentChanged):
        await read_while_it_changes()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("files.list", status=403, reason="userRateLimitExceeded", times=9), RateLimited),
        (Fault("files.list", status=429, reason="rateLimitExceeded", times=9, retry_after="0"), RateLimited),
        (Fault("files.list", status=403, reason="dailyLimitExceeded"), RateLimited),
        (Fault("files.list", status=403, reason="insufficientFilePermissions"), Misconfigured),
        (Fault("files.list", status=401, reason="authError", times=9), Misconfigured),
        (Fault("files.list", status=500, times=9), StoreUnavailable),
        (Fault("files.list", "cut_answer", after_bytes=3, times=9), StoreUnavailable),
        (Fault("files.list", "lose_answer", times=9), StoreUnavailable),
    ],
)
async def test_what_drive_says_becomes_what_it_means(
    provider: DriveProvider, drive: DriveEmulator, fault: Fault, error: type[Exception]
) -> None:
    drive.script.add(fault)
    with pytest.raises(error) as caught:
        await provider.look("a.txt")
    assert type(caught.value) is error


async def test_a_short_quarrel_with_limits_is_not_seen(provider: DriveProvider, drive: DriveEmulator) -> None:
    drive.script.add(
        Fault("files.list", status=403, reason="userRateLimitExceeded"),
        Fault("files.list", status=503),
        Fault("upload.begin", status=403, reason="rateLimitExceeded"),
    )
    assert isinstance(await provider.put_new("a.txt", b"x"), Stored)


async def test_a_full_drive_says_so(provider: DriveProvider, drive: DriveEmulator) -> None:
    drive.quota = 10
    with pytest.raises(StoreFull):
        await provider.put_new("a.txt", b"more than ten bytes")
    probe = await provider.probe()
    assert (probe.who, probe.used, probe.total) == (drive.account.email, 0, 10)


async def test_a_folder_that_is_not_shared_is_named_with_the_account_to_share_it_with(
    account: Account, drive: DriveEmulator
) -> None:
    with pytest.raises(Misconfigured, match="share it with fleet@"):
        await account.provider("1nothing").probe()


async def test_there_is_no_address_that_anybody_may_ask(provider: DriveProvider) -> None:
    await provider.put_new("a.txt", b"x")
    assert await provider.download_url("a.txt", name="a.txt", content_type="text/plain", lifetime_s=60) is None


async def test_a_process_without_postgres_reads_and_does_not_put(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    drive.put("a.txt", b"x", parent=root)
    provider = DriveProvider(account.client(), root, name="drive")
    assert await read(provider, "a.txt") == b"x"
    with pytest.raises(Misconfigured, match="FLEETWIRE_DATABASE_URL"):
        await provider.put_new("b.txt", b"x")


@pytest.mark.parametrize("how", ["trashed", "deleted", "a folder above is trashed", "a folder above is deleted"])
async def test_a_folder_that_went_is_made_anew(
    provider: DriveProvider, drive: DriveEmulator, root: str, how: str
) -> None:
    await provider.put_new("Responses/truck-7/a.txt", b"a")
    upload = await provider.begin("Responses/truck-7/b.txt", Offer(1))
    await provider.put_part(upload, 0, b"b")
    await provider.put_new("c.txt", b"c")

    def go() -> None:
        for one in drive.corpus.children(root):
            if one.name == "Responses" and not drive.corpus.trashed(one):
                inner = one if "above" in how else drive.corpus.children(one.id)[-1]
                if "trashed" in how:
                    drive.change(inner.id, trashed=True)
                else:
                    drive.delete(inner.id)

    go()
    assert isinstance(await provider.put_new("Responses/truck-7/d.txt", b"d"), Stored)
    go()
    assert (await provider.finish(upload, [])).path == "Responses/truck-7/b.txt"
    go()
    await provider.move("c.txt", "Responses/truck-7/c.txt")
    assert [one.path async for one in provider.list("Responses")] == ["Responses/truck-7/c.txt"]
    assert await read(provider, "Responses/truck-7/c.txt") == b"c"


async def test_a_shared_drive_that_nobody_sees_is_a_matter_of_settings(account: Account) -> None:
    provider = account.provider("0Anothing", drive_id="0Anothing")
    with pytest.raises(Misconfigured, match="no member"):
        await provider.changes(None)
    with pytest.raises(Misconfigured, match="no member"):
        await provider.look("a.txt")
