"""SharePoint as a provider against the emulated Graph: objects by path and id, names, content, what goes wrong."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import uuid4

import httpx
import pytest

from loadtests.emulators.faults import Fault
from loadtests.emulators.graph import GraphEmulator
from shared import clock
from shared.bus.redis_client import LazyRedis
from shared.cloud.budget import CallBudget
from shared.cloud.call_bucket import CallLimit
from shared.cloud.errors import (
    BadPath,
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
from shared.cloud.graph.provider import GraphProvider
from shared.cloud.hashes import Digest, digest_of
from shared.cloud.quick_xor import quick_xor
from shared.cloud.store import Existed, Source, Stored
from tests.shared.cloud.graph.tenant import Tenant

PATH = "Responses/truck-7/photo.0190/thumb nail #1 100%.jpg"
LARGE = bytes(range(256)) * 20_000


async def stream(content: bytes, piece: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), piece):
        yield content[start : start + piece]


async def read(provider: GraphProvider, path: str, start: int = 0, length: int | None = None) -> bytes:
    async with provider.open(path) as reader:
        return b"".join([piece async for piece in reader.chunks(start, length)])


async def test_what_was_put_is_found_by_path_by_id_and_in_the_list(provider: GraphProvider) -> None:
    put = await provider.put_new(PATH, b"small", expect=digest_of(b"small"))
    assert put == Stored(digest_of(b"small"))
    found = await provider.look(PATH)
    assert found is not None
    assert (found.path, found.size, found.version) == (PATH, 5, f"qx:{quick_xor(b'small')}")
    assert found.hashes == {"quick_xor": quick_xor(b"small")}
    assert await provider.look("Responses/nothing", object_id=found.object_id) == found
    assert [one async for one in provider.list("Responses")] == [found]
    assert [one async for one in provider.list("Nowhere")] == []
    assert await read(provider, PATH) == b"small"
    assert await read(provider, PATH, 1, 3) == b"mal"
    stat, digest = await provider.content(PATH)
    assert (stat, digest) == (await provider.stat(PATH), digest_of(b"small"))


async def test_nothing_is_ever_replaced_and_the_same_content_is_told_as_such(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    await provider.put_new("a.txt", b"one")
    same = await provider.put_new("A.TXT", b"one")
    other = await provider.put_new("a.txt", b"two")
    assert isinstance(same, Existed)
    assert same.identical
    assert isinstance(other, Existed)
    assert not other.identical
    assert graph.content("a.txt") == b"one"


async def test_two_contents_with_one_quick_xor_hash_are_not_the_same(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    # Bytes that are 160 apart change places unnoticed.
    first, second = b"a" + b"x" * 159 + b"b", b"b" + b"x" * 159 + b"a"
    assert quick_xor(first) == quick_xor(second)
    await provider.put_new("a.bin", first)
    put = await provider.put_new("a.bin", second)
    assert isinstance(put, Existed)
    assert not put.identical
    assert graph.content("a.bin") == first


@pytest.mark.parametrize("kind", ["bytes", "file", "stream"])
async def test_large_content_goes_by_a_session(provider: GraphProvider, graph: GraphEmulator, kind: str) -> None:
    sources: dict[str, Source] = {"bytes": LARGE, "file": graph.blobs.put(LARGE).path, "stream": stream(LARGE)}
    assert await provider.put_new("big.bin", sources[kind], expect=digest_of(LARGE)) == Stored(digest_of(LARGE))
    assert graph.content("big.bin") == LARGE
    assert graph.calls["upload.begin"] == 1
    assert not graph.uploads.open


async def test_large_content_that_is_there_already_is_told_as_such(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    await provider.put_new("big.bin", LARGE)
    again = await provider.put_new("big.bin", LARGE)
    assert isinstance(again, Existed)
    assert again.identical
    other = await provider.put_new("big.bin", LARGE[1:] + b"x")
    assert isinstance(other, Existed)
    assert not other.identical
    assert graph.content("big.bin") == LARGE
    assert not graph.uploads.open


async def test_a_source_that_is_not_what_was_announced_makes_nothing(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    with pytest.raises(ContentMismatch):
        await provider.put_new("a", b"one", expect=Digest(3, "0" * 64))
    with pytest.raises(ContentMismatch):
        await provider.put_new("b", stream(LARGE), expect=Digest(len(LARGE) - 1, "0" * 64))
    with pytest.raises(ContentMismatch):
        await provider.put_new("c", LARGE, expect=Digest(len(LARGE), "0" * 64))
    assert not list(graph.drive.files())
    assert not graph.uploads.open


async def test_content_that_arrived_wrong_is_removed_and_sent_once_more(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    graph.uploads.spoils = 1
    assert isinstance(await provider.put_new("a", b"content"), Stored)
    assert graph.content("a") == b"content"
    graph.uploads.spoils = 2
    with pytest.raises(ContentMismatch):
        await provider.put_new("b", b"content")
    assert graph.content("b") is None


async def test_folders_are_made_where_graph_does_not_make_them(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.drive.manners.makes_folders = False
    await asyncio.gather(*(provider.put_new(f"Responses/truck-7/x/{n}", b"%d" % n) for n in range(8)))
    await provider.put_new("Responses/truck-8/big", LARGE)
    assert sum(1 for _ in graph.drive.files()) == 9
    assert len({item.parent for _, item in graph.drive.files()}) == 2


async def test_a_file_in_the_place_of_a_folder_is_said(provider: GraphProvider) -> None:
    await provider.put_new("Responses", b"a file")
    with pytest.raises((NotAFile, NameTaken)):
        await provider.put_new("Responses/truck-7/a", b"")
    with pytest.raises(NotFound):
        await provider.content("Responses/truck-7/a")


async def test_folders_are_no_files_and_what_is_gone_is_gone(provider: GraphProvider) -> None:
    await provider.put_new("Responses/a", b"")
    assert await read(provider, "Responses/a") == b""
    with pytest.raises(NotAFile):
        await provider.look("Responses")
    with pytest.raises(NotAFile):
        await provider.stat("Responses")
    with pytest.raises(NotAFile):
        await provider.content("Responses")
    with pytest.raises(NotAFile):
        await provider.remove("Responses")
    assert await provider.remove("Responses/a")
    assert not await provider.remove("Responses/a")
    assert await provider.look("Responses/a") is None


async def test_remove_by_id_never_takes_another_that_has_the_path_by_now(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    await provider.put_new("a", b"old")
    old = await provider.look("a")
    assert old is not None
    graph.remove("a")
    await provider.put_new("a", b"new")
    assert not await provider.remove("a", object_id=old.object_id)
    assert graph.content("a") == b"new"


async def test_a_move_makes_folders_replaces_nothing_and_keeps_the_id(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    await provider.put_new("Requests/truck-7/a.jpg", b"a")
    await provider.put_new("Done/b.jpg", b"b")
    before = await provider.look("Requests/truck-7/a.jpg")
    assert before is not None
    with pytest.raises(NameTaken):
        await provider.move("Requests/truck-7/a.jpg", "Done/B.jpg")
    moved = await provider.move("Requests/truck-7/a.jpg", "Done/2026/c.jpg")
    assert (moved.object_id, moved.path, moved.version) == (before.object_id, "Done/2026/c.jpg", before.version)
    assert sorted(path for path, _ in graph.drive.files()) == ["Done/2026/c.jpg", "Done/b.jpg"]
    with pytest.raises(NotFound):
        await provider.move("Requests/truck-7/a.jpg", "Done/d.jpg")
    found = await provider.look("Requests/truck-7/a.jpg", object_id=before.object_id)
    assert found is not None
    assert found.path == "Done/2026/c.jpg"


async def test_a_move_whose_answer_was_lost_is_done_once(provider: GraphProvider, graph: GraphEmulator) -> None:
    await provider.put_new("a", b"a")
    graph.script.add(Fault("item.patch", "lose_answer"))
    assert (await provider.move("a", "b/c")).path == "b/c"
    assert graph.calls["item.patch"] == 2
    assert [path for path, _ in graph.drive.files()] == ["b/c"]


async def test_a_put_whose_answer_was_lost_is_taken_for_ours(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.script.add(Fault("content.put", "cut_request", after_bytes=3), Fault("content.put", "lose_answer"))
    put = await provider.put_new("a", b"content")
    assert isinstance(put, Existed)
    assert put.identical
    assert graph.content("a") == b"content"


async def test_below_a_root_nothing_else_is_seen(tenant: Tenant, graph: GraphEmulator) -> None:
    graph.write("Elsewhere/a", b"")
    graph.drive.folder(graph.drive.root, "Depots/North & South")
    provider = tenant.provider(root="Depots/North & South")
    await provider.put_new("Requests/a", b"a")
    assert graph.content("Depots/North & South/Requests/a") == b"a"
    assert [one.path async for one in provider.list("")] == ["Requests/a"]
    found = await provider.look("Requests/a")
    assert found is not None
    again = await provider.look("Requests/b", object_id=found.object_id)
    assert again is not None
    assert again.path == "Requests/a"
    graph.rename("Depots", "Yards")
    assert await provider.look("Requests/a") == found


async def test_a_root_that_is_not_there_is_said_with_its_setting(tenant: Tenant) -> None:
    with pytest.raises(Misconfigured, match="FLEETWIRE_GRAPH_DRIVES"):
        await tenant.provider(root="Nowhere").probe()


async def test_probe_tells_quota_and_clock(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.drive.manners.quota = 1000
    await provider.put_new("a", b"x" * 10)
    probe = await provider.probe()
    assert (probe.used, probe.total) == (10, 1000)
    assert probe.server_time is not None
    with pytest.raises(StoreFull):
        await provider.put_new("b", b"x" * 1000)


@pytest.mark.parametrize("name", ['a"b', "a*b", "a:b", "a<b", "a?b", "a|b", "a.", "~$a", "desktop.ini", "x" * 401])
async def test_names_that_sharepoint_refuses_are_refused_before(provider: GraphProvider, name: str) -> None:
    with pytest.raises(BadPath):
        await provider.put_new(f"Responses/{name}", b"")


async def test_a_file_is_read_on_where_an_answer_broke_off(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.write("a", LARGE)
    graph.script.add(*(Fault("download", "cut_answer", after_bytes=600_000) for _ in range(3)))
    assert await read(provider, "a") == LARGE
    assert graph.calls["download"] == 4


async def test_a_file_that_is_written_while_it_is_read_is_not_mixed(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    graph.write("a", b"1" * 3_000_000)
    graph.script.add(Fault("download", "cut_answer", after_bytes=1_000_000, skip=1))
    async with provider.open("a") as reader:
        graph.write("a", b"3" * 2_999_999 + b"4")
        with pytest.raises(ContentChanged):
            async for _ in reader.chunks():
                pass
    async with provider.open("a") as reader, aclosing(reader.chunks()) as pieces:  # type: ignore[type-var]
        await anext(pieces)
        graph.write("a", b"2" * 3_000_000)
        with pytest.raises(ContentChanged):
            async for _ in pieces:
                pass


async def test_an_address_that_is_over_is_asked_for_again(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.write("a", LARGE)
    async with provider.open("a") as reader:
        graph.clock.advance(4000)
        graph.login.revoke()
        assert b"".join([piece async for piece in reader.chunks()]) == LARGE
        graph.remove("a")
        with pytest.raises(ContentChanged):
            async for _ in reader.chunks():
                pass


async def test_a_download_address_needs_no_token_and_takes_none(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.write("a", b"content")
    url = await provider.download_url("a", name="a", content_type="text/plain", lifetime_s=300)
    assert url is not None
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(url)).content == b"content"
        assert (await http.get(url, headers={"Authorization": "Bearer x"})).status_code == 401
        graph.clock.advance(3700)
        assert (await http.get(url)).status_code == 404
    with pytest.raises(NotFound):
        await provider.download_url("b", name="b", content_type="text/plain", lifetime_s=300)


async def test_a_hash_that_comes_late_is_waited_for_and_one_that_never_comes_is_done_without(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    graph.drive.manners.late_hashes = 2
    graph.write("a", b"late")
    found = await provider.look("a")
    assert found is not None
    assert found.version == f"qx:{quick_xor(b'late')}"
    graph.drive.manners.late_hashes = 1000
    graph.write("b", b"never")
    found = await provider.look("b")
    assert found is not None
    assert found.version.startswith("ctag:")
    looks = graph.calls["item"]
    assert await provider.look("b") == found
    assert graph.calls["item"] == looks + 1, "it is not waited for again"
    assert await read(provider, "b") == b"never"
    assert isinstance(await provider.put_new("c", b"x"), Stored)


async def test_what_goes_wrong_once_is_tried_again_and_what_goes_on_is_said(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    graph.write("a", b"content")
    graph.script.add(Fault("item", status=503), Fault("item", status=500), Fault("item", "cut_answer", after_bytes=10))
    assert await provider.look("a") is not None
    graph.script.add(Fault("item", status=502, times=100))
    with pytest.raises(StoreUnavailable):
        await provider.look("a")


async def test_a_rate_limit_is_waited_for_and_nobody_asks_meanwhile(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    graph.write("a", b"content")
    await provider.look("a")
    graph.script.add(Fault("item", status=429, retry_after="1"))
    assert await provider.look("a") is not None
    assert all(await asyncio.gather(*(provider.look("a") for _ in range(5))))
    assert graph.meter.early == 0


async def test_a_long_rate_limit_is_told_to_the_caller_and_pauses_every_call(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    graph.write("a", b"content")
    graph.script.add(Fault("item", status=429, retry_after="600", skip=1))
    with pytest.raises(RateLimited) as limited:
        await provider.look("a")
    assert 590 < limited.value.retry_after_s <= 600
    calls = sum(graph.calls.values())
    with pytest.raises(RateLimited):
        await provider.put_new("b", b"")
    assert sum(graph.calls.values()) == calls
    assert graph.meter.early == 0


async def test_two_processes_keep_to_one_limit_and_to_one_pause(
    tenant: Tenant, graph: GraphEmulator, redis_url: str
) -> None:
    graph.write("a", b"content")
    graph.meter.limit = 1200
    name, limit = f"graph:{uuid4()}", CallLimit(1200)
    redis = [LazyRedis(redis_url, deadline_s=5.0, ask_s=5.0) for _ in range(2)]
    try:
        budgets = [CallBudget(name, store="sharepoint", limit=limit, redis=one, redis_s=5.0) for one in redis]
        one, two = (tenant.provider(budget=budget) for budget in budgets)
        began = clock.monotonic()
        assert all(await asyncio.gather(*(provider.look("a") for provider in (one, two) for _ in range(110))))
        # Of the 222 calls 200 are there at once, the others come at the pace of the limit.
        assert clock.monotonic() - began > 1.0
        graph.script.add(Fault("item", status=429, retry_after="1"))
        assert await one.look("a") is not None
        assert await two.look("a") is not None
    finally:
        for each in redis:
            await each.aclose()
    assert (graph.meter.refused, graph.meter.early) == (0, 0)


async def test_an_address_of_somebody_else_gets_no_token(provider: GraphProvider, graph: GraphEmulator) -> None:
    await provider.look("a")
    for wrong in ("http://127.0.0.1:1/v1.0/next", f"{graph.url}.evil.example/next", "file:///etc/passwd"):
        with pytest.raises(StoreUnavailable, match="somebody else"):
            await provider.changes(f"on {wrong}")


async def test_secrets_and_addresses_stand_in_no_repr_and_no_error(provider: GraphProvider, tenant: Tenant) -> None:
    await provider.put_new("a", b"")
    shown = repr(provider) + repr(tenant.tokens()) + repr(await provider.look("a"))
    with pytest.raises(NotFound) as error:
        await provider.content("nothing")
    assert re.search(r"not told|Bearer|/download/", shown + str(error.value)) is None
