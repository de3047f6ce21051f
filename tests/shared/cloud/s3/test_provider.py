"""The provider against a real S3 server that checks what S3 checks."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from loadtests.emulators.faults import Fault
from loadtests.fault_proxy import FaultProxy
from loadtests.link_faults import Fault as LinkFault
from loadtests.link_faults import Heading, What
from loadtests.s3_process import KEY, S3Server
from shared.cloud.crc64nvme import crc64_nvme, written
from shared.cloud.errors import (
    BadPath,
    ContentChanged,
    ContentMismatch,
    Misconfigured,
    NameTaken,
    NotFound,
    RateLimited,
    StoreUnavailable,
)
from shared.cloud.hashes import Digest, digest_of
from shared.cloud.http import Answer, HttpClient
from shared.cloud.provider import Offer, Part, Upload
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.copying import Copies
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.multipart import Multipart
from shared.cloud.s3.provider import S3Provider
from shared.cloud.sigv4 import Credentials
from shared.cloud.store import Existed, Stored

MIB = 1024 * 1024
BIG = os.urandom(11 * MIB + 17)
PATH = "Responses/truck-7/photo é+%.0190/thumb (v2).jpg"


async def read(provider: S3Provider, path: str, start: int = 0, length: int | None = None) -> bytes:
    async with provider.open(path) as reader:
        return b"".join([piece async for piece in reader.chunks(start, length)])


async def brought(provider: S3Provider, upload: Upload, content: bytes, size: int = 5 * MIB) -> list[Part]:
    starts = range(0, max(1, len(content)), size)
    return list(await asyncio.gather(*(provider.put_part(upload, at, content[at : at + size]) for at in starts)))


async def test_what_is_put_is_there_with_its_sha256_and_never_replaced(provider: S3Provider) -> None:
    content = b"hello"
    assert await provider.put_new(PATH, content) == Stored(digest_of(content))
    assert await provider.put_new(PATH, content) == Existed(digest_of(content), digest_of(content))
    other = await provider.put_new(PATH, b"other")
    assert other == Existed(digest_of(content), digest_of(b"other"))
    assert await read(provider, PATH) == content
    assert await read(provider, PATH, 1, 3) == b"ell"
    found = await provider.look(PATH)
    assert found is not None
    assert (found.path, found.size, found.hashes["sha256"]) == (PATH, 5, hashlib.sha256(content).hexdigest())
    assert found.version == f"etag:{hashlib.md5(content).hexdigest()}"
    stat, digest = await provider.content(PATH)
    assert (stat, digest) == (await provider.stat(PATH), digest_of(content))


async def test_nothing_is_nothing(provider: S3Provider) -> None:
    assert await provider.look("Requests/a/none") is None
    assert await provider.stat("Requests/a/none") is None
    assert await provider.remove("Requests/a/none") is False
    assert [one async for one in provider.list("Requests")] == []
    with pytest.raises(NotFound):
        await read(provider, "Requests/a/none")
    with pytest.raises(NotFound):
        await provider.content("Requests/a/none")
    with pytest.raises(NotFound):
        await provider.move("Requests/a/none", "Requests/a/other")
    with pytest.raises(BadPath):
        await provider.put_new("Requests/../x", b"")


async def test_a_stream_of_any_size_comes_in_parts_and_its_crc_is_s3s_own(provider: S3Provider) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(BIG), 100_000):
            yield BIG[at : at + 100_000]

    assert await provider.put_new("a/big", stream(), expect=digest_of(BIG)) == Stored(digest_of(BIG))
    found = await provider.look("a/big")
    assert found is not None
    assert found.hashes == {"crc64nvme": written(crc64_nvme(BIG))}
    assert (await provider.content("a/big"))[1] == digest_of(BIG)
    assert await provider.put_new("a/big", stream()) == Existed(digest_of(BIG), digest_of(BIG))
    assert await provider.put_new("a/big", BIG[1:]) == Existed(None, digest_of(BIG[1:]))


async def test_what_is_not_as_announced_is_not_made(provider: S3Provider, s3: S3Server) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield BIG

    async def broken() -> AsyncIterator[bytes]:
        yield BIG
        raise ZeroDivisionError

    for source, expect in (
        (b"abc", digest_of(b"abd")),
        (stream(), Digest(len(BIG), "0" * 64)),
        (stream(), digest_of(b"")),
    ):
        with pytest.raises(ContentMismatch):
            await provider.put_new("a/x", source, expect=expect)
    with pytest.raises(ZeroDivisionError):
        await provider.put_new("a/x", broken())
    assert await provider.look("a/x") is None
    assert s3.calls()["AbortMultipartUpload"] == 3


async def test_of_many_writers_of_one_name_one_wins(provider: S3Provider) -> None:
    results = await asyncio.gather(*(provider.put_new("a/one", b"%d" % number) for number in range(30)))
    winners = [one for one in results if isinstance(one, Stored)]
    assert len(winners) == 1
    assert digest_of(await read(provider, "a/one")) == winners[0].content


async def test_parts_come_in_any_order_survive_a_crash_and_take_no_name_that_is_taken(provider: S3Provider) -> None:
    upload = await provider.begin("a/b", Offer(len(BIG)))
    rival = await provider.begin("a/b", Offer(len(BIG)))
    assert upload.state not in repr(upload)
    last = await provider.put_part(upload, 10 * MIB, BIG[10 * MIB :])
    first = await provider.put_part(upload, 0, BIG[: 5 * MIB])
    assert await provider.parts(upload) == [first, last]
    assert await provider.look("a/b") is None
    middle = await provider.put_part(upload, 5 * MIB, BIG[5 * MIB : 10 * MIB])
    assert await provider.put_part(upload, 5 * MIB, BIG[5 * MIB : 10 * MIB]) == middle
    made = await provider.finish(upload, [last, first, middle])
    assert made.hashes == {"crc64nvme": written(crc64_nvme(BIG))}
    assert await provider.finish(upload, [first, middle, last]) == made, "the answer may have been lost"
    assert await read(provider, "a/b") == BIG
    with pytest.raises(NameTaken):
        await provider.begin("a/b", Offer(1))
    parts = await brought(provider, rival, BIG)
    with pytest.raises(NameTaken):
        await provider.finish(rival, parts)
    await provider.abort(rival)
    await provider.abort(rival)
    with pytest.raises(NotFound):
        await provider.parts(rival)
    with pytest.raises(NotFound):
        await provider.put_part(rival, 0, b"x")
    with pytest.raises(NotFound):
        await provider.finish(replace(rival, path="a/c"), parts)


async def test_parts_that_are_not_the_whole_or_not_the_announced_are_refused(provider: S3Provider) -> None:
    upload = await provider.begin("a/b", Offer(len(BIG), {"crc64nvme": written(crc64_nvme(BIG[::-1]))}))
    parts = await brought(provider, upload, BIG)
    with pytest.raises(ContentMismatch, match="announced"):
        await provider.finish(upload, parts)
    for wrong in ([], parts[1:], parts[:-1], [parts[0], parts[2]], [replace(parts[0], receipt=None), *parts[1:]]):
        with pytest.raises(ContentMismatch):
            await provider.finish(upload, wrong)
    for start, content in ((1, b"x"), (0, BIG[: 5 * MIB + 1]), (10_000 * 5 * MIB, b"x")):
        with pytest.raises(Misconfigured):
            await provider.put_part(upload, start, content)
    # S3 has another part than the one that was confirmed.
    swapped = [replace(parts[0], receipt=f"1 {written(1)} {(parts[0].receipt or '').rpartition(' ')[2]}"), *parts[1:]]
    honest = await provider.begin("a/c", Offer(len(BIG)))
    await brought(provider, honest, BIG)
    with pytest.raises(ContentMismatch):
        await provider.finish(honest, swapped)
    with pytest.raises(NotFound):
        await provider.parts(replace(upload, state="?"))
    assert await provider.look("a/b") is None


async def test_nothing_at_all_goes_in_parts_too(provider: S3Provider) -> None:
    upload = await provider.begin("a/empty", Offer(0))
    made = await provider.finish(upload, [await provider.put_part(upload, 0, b"")])
    assert (made.size, await read(provider, "a/empty")) == (0, b"")
    assert await provider.put_new("a/empty2", b"") == Stored(digest_of(b""))


async def test_a_conflict_passes_and_an_error_may_come_with_status_200(provider: S3Provider, s3: S3Server) -> None:
    s3.order(Fault("PutObject", times=2, status=409, reason="ConditionalRequestConflict"))
    assert isinstance(await provider.put_new("a/x", b"x"), Stored)
    assert s3.calls()["PutObject"] == 3
    upload = await provider.begin("a/y", Offer(3))
    parts = await brought(provider, upload, b"abc")
    s3.order(Fault("CompleteMultipartUpload", status=200, reason="InternalError"))
    with pytest.raises(StoreUnavailable):
        await provider.finish(upload, parts)
    s3.order(Fault("CompleteMultipartUpload", times=20, status=409, reason="ConditionalRequestConflict"))
    with pytest.raises(NotFound, match="anew"):
        await provider.finish(upload, parts)
    s3.order()
    assert (await provider.finish(upload, parts)).size == 3


@pytest.mark.parametrize("call", ["PutObject", "CompleteMultipartUpload", "CopyObject", "DeleteObject"])
async def test_a_lost_answer_to_a_write_does_not_make_it_fail(provider: S3Provider, s3: S3Server, call: str) -> None:
    s3.order(Fault(call, kind="lose_answer"))
    put = await provider.put_new("a/x", b"xyz")
    assert put.offered == digest_of(b"xyz")
    assert isinstance(put, Stored) or put.identical
    upload = await provider.begin("a/y", Offer(3))
    assert (await provider.finish(upload, await brought(provider, upload, b"abc"))).path == "a/y"
    moved = await provider.move("a/x", "b/x")
    assert (moved.path, await provider.look("a/x"), await read(provider, "b/x")) == ("b/x", None, b"xyz")
    assert await provider.remove("a/y")
    assert await provider.look("a/y") is None


@pytest.mark.parametrize("by_ranges", [False, True])
async def test_a_move_replaces_nothing_and_loses_nothing(
    provider: S3Provider, client_of: Callable[[], S3Client], prefix: str, by_ranges: bool
) -> None:
    if by_ranges:
        client, keys = client_of(), Keys(prefix)
        multipart = Multipart(client, keys, step=5 * MIB)
        copies = Copies(client, keys, multipart, one_request_max=6 * MIB, range_size=5 * MIB)
        provider = S3Provider(client, prefix=prefix, copies=copies)
    await provider.put_new("a/big", BIG)
    await provider.put_new("a/other", b"x")
    with pytest.raises(NameTaken):
        await provider.move("a/big", "a/other")
    with pytest.raises(NameTaken):
        await provider.move("a/big", "a/big")
    moved = await provider.move("a/big", "b/c/d ü")
    assert moved.path == "b/c/d ü"
    assert await provider.look("a/big") is None
    assert await read(provider, "b/c/d ü") == BIG
    assert moved.hashes["crc64nvme"] == written(crc64_nvme(BIG))


async def test_where_a_copy_takes_no_condition_an_upload_in_parts_does(provider: S3Provider, s3: S3Server) -> None:
    await provider.put_new("a/x", b"content")
    await provider.put_new("a/y", b"other")
    s3.order(Fault("CopyObject", times=2, status=501, reason="NotImplemented"))
    with pytest.raises(NameTaken):
        await provider.move("a/x", "a/y")
    assert (await provider.move("a/x", "b/x")).path == "b/x"
    assert (await read(provider, "b/x"), await read(provider, "a/y")) == (b"content", b"other")
    assert s3.calls()["UploadPartCopy"] == 1


class Meddled(S3Client):
    """Somebody else writes to an object just before a certain call."""

    meddle: Callable[[], Awaitable[object]] | None = None
    before = ""

    async def ask(self, call: str, method: str, key: str = "", **more: Any) -> Answer:
        """See S3Client."""
        if call == self.before and self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            await meddle()
        return await super().ask(call, method, key, **more)


@pytest.mark.parametrize("before", ["copy", "remove"])
async def test_a_source_that_is_written_to_meanwhile_is_not_moved(
    provider: S3Provider, s3: S3Server, http: HttpClient, prefix: str, before: str
) -> None:
    async def overwrite() -> None:
        await client.ask("put", "PUT", f"{prefix}/a/x", body=b"newer")

    await provider.put_new("a/x", b"old")
    client = Meddled(s3.bucket, KEY, http)
    client.meddle, client.before = overwrite, before
    with pytest.raises(ContentChanged):
        await S3Provider(client, prefix=prefix).move("a/x", "b/x")
    assert s3.calls().get("DeleteObject", 0) == (0 if before == "copy" else 2), "a copy of the newer is not even made"
    assert await read(provider, "a/x") == b"newer"
    assert await provider.look("b/x") is None


async def test_a_download_address_gives_the_file_to_whoever_has_it(provider: S3Provider) -> None:
    await provider.put_new("a/x", b"content")
    url = await provider.download_url("a/x", name="Grüße.txt", content_type="text/plain", lifetime_s=86_400)
    assert url is not None
    assert "X-Amz-Expires=300&" in url
    async with httpx.AsyncClient(trust_env=False) as device:
        fetched = await device.get(url)
        ranged = await device.get(url, headers={"Range": "bytes=3-"})
        refused = await device.get(url.replace("a/x", "a/y"))
    assert (fetched.content, fetched.headers["content-type"], ranged.content) == (b"content", "text/plain", b"tent")
    assert "Gr%C3%BC%C3%9Fe.txt" in fetched.headers["content-disposition"]
    assert refused.status_code == 403


async def test_a_reader_is_of_one_version(provider: S3Provider, client_of: Callable[[], S3Client], prefix: str) -> None:
    await provider.put_new("a/x", b"old")
    async with provider.open("a/x") as reader:
        await client_of().ask("put", "PUT", f"{prefix}/a/x", body=b"new")
        with pytest.raises(ContentChanged):
            _ = [piece async for piece in reader.chunks()]


async def test_over_a_line_that_breaks_it_still_arrives(
    provider: S3Provider, client_of: Callable[[str], S3Client], prefix: str, s3: S3Server
) -> None:
    faults = {1: Heading.UP, 3: Heading.DOWN, 5: Heading.UP}

    def script(number: int) -> LinkFault | None:
        heading = faults.get(number)
        return None if heading is None else LinkFault(What.CUT, after=200_000, heading=heading)

    async with FaultProxy(s3.url) as proxy:
        proxy.script = script
        shaky = S3Provider(client_of(f"http://127.0.0.1:{proxy.port}"), prefix=prefix)
        assert isinstance(await shaky.put_new("a/big", BIG[: 2 * MIB]), Stored)
        assert await read(shaky, "a/big") == BIG[: 2 * MIB]
        assert proxy.accepted >= 4
    assert await read(provider, "a/big") == BIG[: 2 * MIB]


async def test_being_asked_too_much_is_said(provider: S3Provider, s3: S3Server) -> None:
    s3.order(Fault("HeadObject", times=2, status=503, reason="SlowDown"))
    assert await provider.look("a/x") is None
    s3.order(Fault("HeadObject", times=9, status=503, reason="SlowDown"))
    with pytest.raises(RateLimited) as caught:
        await provider.look("a/x")
    assert caught.value.retry_after_s > 0


async def test_a_wrong_secret_and_a_bucket_that_is_not_there_are_mistakes_of_ours(
    s3: S3Server, http: HttpClient
) -> None:
    known = Credentials("AKIAIOSFODNN7EXAMPLE", "wrong")
    with pytest.raises(Misconfigured, match="FLEETWIRE_S3_SECRET"):
        await S3Provider(S3Client(s3.bucket, known, http)).probe()
    unknown = Credentials("nobody", "wrong")
    with pytest.raises(Misconfigured, match="FLEETWIRE_S3_KEY_ID"):
        await S3Provider(S3Client(s3.bucket, unknown, http)).probe()


async def test_a_probe_says_who_asks_and_what_time_it_is(provider: S3Provider) -> None:
    probe = await provider.probe()
    assert "AKIAIOSFODNN7EXAMPLE" in probe.who
    assert probe.server_time is not None
    with pytest.raises(Misconfigured):
        await provider.subscribe("https://x.example", "secret", lifetime_s=60)
