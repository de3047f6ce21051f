import asyncio

import pytest

from loadtests.emulators.drive import DriveEmulator
from loadtests.emulators.faults import Fault
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.drive.uploads import BLOCK
from shared.cloud.errors import ContentMismatch, NameTaken, NotFound, RateLimited, StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.provider import Offer, Part, Upload
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_source import BytesContent
from tests.shared.cloud.drive.account import Account

PART = 4 * BLOCK
CONTENT = bytes(range(256)) * 12_001


def offer() -> Offer:
    return Offer(len(CONTENT), {"sha256": digest_of(CONTENT).sha256})


async def bring(provider: DriveProvider, upload: Upload, start: int = 0, until: int = len(CONTENT)) -> list[Part]:
    return [
        await provider.put_part(upload, at, CONTENT[at : min(at + PART, until)]) for at in range(start, until, PART)
    ]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("upload.put", status=503, skip=1, times=2),
        Fault("upload.put", "lose_answer", skip=1, times=2),
        Fault("upload.put", "cut_request", skip=1, after_bytes=PART // 2 + 5),
        Fault("upload.put", "cut_request", skip=2, after_bytes=0),
        Fault("upload.put", "lose_answer", skip=2),
    ],
    ids=["refused", "answers lost", "cut in the middle", "cut before it", "last answer lost"],
)
async def test_a_part_that_breaks_goes_on_where_the_session_is(
    provider: DriveProvider, drive: DriveEmulator, fault: Fault
) -> None:
    drive.script.add(fault)
    upload = await provider.begin("big.bin", offer())
    await bring(provider, upload)
    made = await provider.finish(upload, [])
    assert drive.content(made.object_id) == CONTENT


async def test_a_session_that_keeps_less_than_it_was_sent_gets_the_rest_again(
    provider: DriveProvider, drive: DriveEmulator
) -> None:
    drive.sessions.persist_max = BLOCK + 100
    upload = await provider.begin("big.bin", Offer(3 * BLOCK))
    for start in range(0, 3 * BLOCK, BLOCK):
        await provider.put_part(upload, start, CONTENT[start : start + BLOCK])
    assert drive.content((await provider.finish(upload, [])).object_id) == CONTENT[: 3 * BLOCK]


async def test_a_part_at_the_wrong_place_is_refused_and_harms_nothing(provider: DriveProvider) -> None:
    upload = await provider.begin("big.bin", offer())
    with pytest.raises(StoreUnavailable, match="has 0 bytes"):
        await provider.put_part(upload, PART, CONTENT[PART : 2 * PART])
    await bring(provider, upload)
    assert (await provider.finish(upload, [])).size == len(CONTENT)


async def test_a_session_that_died_is_told(provider: DriveProvider, drive: DriveEmulator) -> None:
    upload = await provider.begin("big.bin", offer())
    await bring(provider, upload, until=PART)
    assert list(await provider.parts(upload)) == [Part(0, PART)]
    for session in drive.sessions.open.values():
        session.expires_at = 0.0
    with pytest.raises(NotFound):
        await provider.put_part(upload, PART, CONTENT[PART : 2 * PART])
    with pytest.raises(NotFound):
        await provider.parts(upload)
    with pytest.raises(NotFound):
        await provider.parts(Upload("big.bin", 5, "{}"))


async def test_a_finished_session_that_was_forgotten_is_known_by_its_file(
    provider: DriveProvider, drive: DriveEmulator
) -> None:
    upload = await provider.begin("big.bin", offer())
    await bring(provider, upload)
    drive.sessions.open.clear()
    assert list(await provider.parts(upload)) == [Part(0, len(CONTENT))]
    assert (await provider.finish(upload, [])).size == len(CONTENT)


async def test_finishing_twice_is_finishing_once(provider: DriveProvider, drive: DriveEmulator, root: str) -> None:
    upload = await provider.begin("a/big.bin", offer())
    await bring(provider, upload)
    drive.script.add(Fault("files.update", "lose_answer"))
    first = await provider.finish(upload, [])
    assert await provider.finish(upload, []) == first
    await provider.abort(upload)
    assert [one.path async for one in provider.list("")] == ["a/big.bin"], "what has its name is not given up"


async def test_a_session_that_leads_elsewhere_is_not_followed(provider: DriveProvider) -> None:
    upload = await provider.begin("big.bin", offer())
    led_astray = Upload(upload.path, upload.size, upload.state.replace("127.0.0.1", "127.0.0.2"))
    with pytest.raises(StoreUnavailable, match="another server"):
        await provider.put_part(led_astray, 0, CONTENT[:PART])


async def test_wrong_bytes_get_no_name(provider: DriveProvider, drive: DriveEmulator) -> None:
    drive.sessions.corrupt = 1
    upload = await provider.begin("big.bin", offer())
    await bring(provider, upload)
    with pytest.raises(ContentMismatch):
        await provider.finish(upload, [])
    assert await provider.look("big.bin") is None
    assert [one async for one in provider.list(".uploads")] == []


async def test_many_uploads_of_one_name_make_one_file(account: Account, root: str) -> None:
    providers = [account.provider(root) for _ in range(8)]

    async def put(number: int) -> bool:
        provider, content = providers[number], bytes([number]) * 1000
        upload = await provider.begin("a/one.bin", Offer(len(content)))
        await provider.put_part(upload, 0, content)
        try:
            await provider.finish(upload, [])
        except NameTaken:
            await provider.abort(upload)
            return False
        return True

    results = await asyncio.gather(*(put(number) for number in range(8)), return_exceptions=True)
    # Who begins late is told at once.
    assert results.count(True) == 1
    assert all(isinstance(one, bool | NameTaken) for one in results)
    assert [one.path async for one in providers[0].list("")] == ["a/one.bin"]


async def test_a_limit_is_told_to_who_uploads(provider: DriveProvider, drive: DriveEmulator) -> None:
    upload = await provider.begin("big.bin", offer())
    drive.script.add(Fault("upload.put", status=429, retry_after="7"))
    with pytest.raises(RateLimited) as caught:
        await provider.put_part(upload, 0, CONTENT[:PART])
    assert caught.value.retry_after_s == 7


async def test_the_engine_brings_a_file_through_a_tenth_of_failures(
    provider: DriveProvider, drive: DriveEmulator
) -> None:
    content = CONTENT * 7
    for kind in ("status", "lose_answer", "cut_request"):
        drive.script.add(Fault("upload.put", kind, rate=0.1, times=100, after_bytes=700_000))
    engine = Transfer(part_bytes=PART)
    try:
        landed = await engine.put(provider, "a/big.bin", BytesContent(content), expect=digest_of(content))
    finally:
        await engine.close()
    assert landed.content == digest_of(content)
    assert drive.content(landed.object.object_id) == content
    assert drive.script.happened
