"""The delta feed: tokens that die, pages that repeat rows or are empty, missing fields, hashes that come late."""

from typing import Any

import pytest

from loadtests.emulators.faults import Fault
from loadtests.emulators.graph import GraphEmulator
from shared.cloud.errors import CursorExpired, Misconfigured, RateLimited, StoreUnavailable
from shared.cloud.graph.provider import GraphProvider
from shared.cloud.mirror import Mirror
from shared.cloud.provider import Changed, Removed
from shared.cloud.quick_xor import quick_xor
from tests.shared.cloud.contract import follow
from tests.shared.cloud.graph.tenant import Tenant


def expected(graph: GraphEmulator) -> dict[str, str | None]:
    """What is there, as the feed should tell it."""
    return {path: f"qx:{quick_xor(item.blob.read())}" for path, item in graph.drive.files() if item.blob is not None}


@pytest.fixture
def filled(graph: GraphEmulator) -> GraphEmulator:
    for number in range(30):
        graph.write(f"Requests/truck-{number % 5}/{number}.jpg", b"%d" % number)
    return graph


@pytest.mark.parametrize("business", [True, False])
async def test_the_feed_tells_what_is_there_whatever_its_manners(
    provider: GraphProvider, filled: GraphEmulator, business: bool
) -> None:
    manners = filled.drive.manners
    manners.page_size, manners.repeat_rows, manners.empty_page_every, manners.business = 4, 0.5, 3, business
    mirror = Mirror()
    pages = await follow(provider, mirror)
    assert all(page.full for page in pages)
    assert [page.more for page in pages] == [True] * (len(pages) - 1) + [False]
    assert mirror.files() == expected(filled)
    filled.write("Requests/truck-0/0.jpg", b"anew")
    filled.rename("Requests/truck-1", "Requests/truck-one")
    filled.rename("Requests/truck-2/2.jpg", "Responses/2.jpg")
    filled.remove("Requests/truck-3")
    pages = await follow(provider, mirror)
    assert not any(page.full for page in pages)
    assert mirror.files() == expected(filled)


async def test_what_is_below_a_deleted_folder_is_gone_whether_it_is_told_or_not(
    provider: GraphProvider, filled: GraphEmulator
) -> None:
    filled.drive.manners.tells_children = False
    mirror = Mirror()
    await follow(provider, mirror)
    filled.remove("Requests/truck-3")
    [page] = await follow(provider, mirror)
    assert [type(one) for one in page.changes].count(Removed) == 1
    assert mirror.files() == expected(filled)


async def test_a_cursor_outlives_the_process_and_a_page_asked_for_twice_is_the_same(
    tenant: Tenant, filled: GraphEmulator
) -> None:
    filled.drive.manners.page_size = 7
    first = await tenant.provider().changes(None)
    second = await tenant.provider().changes(first.cursor)
    assert second == await tenant.provider().changes(first.cursor)
    assert second.full
    assert second.more


@pytest.mark.parametrize("code", ["resyncChangesApplyDifferences", "resyncChangesUploadDifferences"])
@pytest.mark.parametrize("inside", [True, False])
async def test_a_token_that_died_says_where_a_fresh_run_begins(
    provider: GraphProvider, filled: GraphEmulator, code: str, inside: bool
) -> None:
    filled.drive.manners.resync_code, filled.drive.manners.code_inside = code, inside
    mirror = Mirror()
    await follow(provider, mirror)
    filled.remove("Requests/truck-3")
    filled.drive.expire_tokens()
    with pytest.raises(CursorExpired) as expired:
        await provider.changes(mirror.cursor)
    assert expired.value.restart is not None
    for restart in (expired.value.restart, None):
        mirror.restart(restart)
        pages = await follow(provider, mirror)
        assert all(page.full for page in pages)
        assert mirror.files() == expected(filled)


async def test_what_is_moved_or_written_while_a_run_goes_on_is_not_taken_for_gone(
    provider: GraphProvider, filled: GraphEmulator
) -> None:
    manners = filled.drive.manners
    manners.page_size, manners.leaves_changed_to_log = 7, True
    mirror = Mirror()
    await follow(provider, mirror)
    mirror.restart(None)
    number = 0
    while True:
        page = await provider.changes(mirror.cursor)
        mirror.apply(page)
        if not page.more:
            break
        if page.cursor.startswith("full "):
            number += 1
            filled.rename(f"Requests/truck-4/{5 * number + 4}.jpg", f"Responses/{number}.jpg")
            filled.write("Requests/truck-0/25.jpg", b"%d" % number)
    assert number >= 4
    assert page.full
    assert mirror.files() == expected(filled)


async def test_a_token_may_die_in_the_middle_of_a_run(provider: GraphProvider, filled: GraphEmulator) -> None:
    filled.drive.manners.page_size = 7
    page = await provider.changes(None)
    filled.drive.expire_tokens()
    with pytest.raises(CursorExpired):
        await provider.changes(page.cursor)


@pytest.mark.parametrize("restart", ["https://elsewhere.example/delta?token=1", "", "http://[", "x" * 9000])
async def test_a_fresh_run_begins_at_graph_itself_whatever_it_says(
    provider: GraphProvider, filled: GraphEmulator, restart: str
) -> None:
    page = await provider.changes(None)
    filled.script.add(Fault("delta", status=410))
    with pytest.raises(CursorExpired) as expired:
        await provider.changes(page.cursor)
    assert expired.value.restart is None
    with pytest.raises((CursorExpired, StoreUnavailable)):
        await provider.changes(f"on {restart}")


async def test_a_file_told_without_its_hash_is_asked_for_it_so_that_it_does_not_seem_changed_later(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    graph.drive.manners.late_hashes = 2
    graph.drive.manners.repeat_rows = 1.0
    for number in range(12):
        graph.write(f"Requests/truck-7/{number}", b"%d" % number)
    mirror = Mirror()
    await follow(provider, mirror)
    assert mirror.files() == expected(graph)


async def test_many_files_without_a_hash_are_asked_for_it_once(provider: GraphProvider, filled: GraphEmulator) -> None:
    for _, item in filled.drive.files():
        item.hash_kept_back = 1000
    page = await provider.changes(None)
    told = [one for one in page.changes if isinstance(one, Changed) and one.kind == "file"]
    assert {(one.version or "")[:5] for one in told} == {"ctag:"}
    assert filled.calls["item"] == 1 + 30
    assert (await provider.changes(None)).changes == page.changes
    assert filled.calls["item"] == 1 + 60, "a row of the feed has not even a tag"


async def test_a_change_of_nothing_but_metadata_is_the_same_version(
    provider: GraphProvider, filled: GraphEmulator
) -> None:
    mirror = Mirror()
    await follow(provider, mirror)
    before = mirror.files()
    item = filled.drive.look("Requests/truck-0/0.jpg")
    assert item is not None
    filled.drive.touch(item)
    [page] = await follow(provider, mirror)
    assert item.id in {one.item_id for one in page.changes}
    assert mirror.files() == before


async def test_a_root_below_the_drives_own_is_told_as_the_root(tenant: Tenant, graph: GraphEmulator) -> None:
    graph.write("Depots/North/Requests/truck-7/a", b"a")
    graph.write("Requests/truck-7/b", b"b")
    mirror = Mirror()
    pages = await follow(tenant.provider(root="Depots/North"), mirror)
    assert list(mirror.files()) == ["Requests/truck-7/a"]
    roots = [one for page in pages for one in page.changes if isinstance(one, Changed) and one.kind == "root"]
    assert [one.name for one in roots] == ["North"]


async def test_that_the_root_was_deleted_does_not_mean_that_its_files_are_gone(
    tenant: Tenant, graph: GraphEmulator
) -> None:
    graph.write("Depots/North/Requests/truck-7/a", b"a")
    provider = tenant.provider(root="Depots/North")
    page = await provider.changes(None)
    graph.remove("Depots/North")
    with pytest.raises(StoreUnavailable, match="restore"):
        await provider.changes(page.cursor)
    with pytest.raises(Misconfigured, match="has no folder"):
        await provider.changes(page.cursor)
    graph.write("Depots/North/Requests/truck-7/b", b"b")
    mirror = Mirror()
    mirror.restart(page.cursor)
    await follow(provider, mirror)
    assert list(mirror.files()) == ["Requests/truck-7/b"]
    assert [one.path async for one in provider.list("")] == ["Requests/truck-7/b"]


async def test_a_rate_limit_is_told_with_the_time_to_come_back(provider: GraphProvider, filled: GraphEmulator) -> None:
    page = await provider.changes(None)
    assert page.hint_s is None
    filled.script.add(Fault("delta", status=503, retry_after="120"))
    with pytest.raises(RateLimited) as limited:
        await provider.changes(page.cursor)
    assert 110 < limited.value.retry_after_s <= 120


@pytest.mark.parametrize(
    "body",
    [
        {"value": [{"id": "x", "file": {}}]},
        {"value": [{"name": "no id"}], "@odata.deltaLink": "http://127.0.0.1/x"},
        {"value": "nothing"},
        {},
    ],
)
async def test_an_answer_that_is_no_page_is_not_taken_for_an_empty_one(
    provider: GraphProvider, graph: GraphEmulator, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.responses import JSONResponse

    async def answer(*_: object) -> JSONResponse:
        return JSONResponse(body)

    monkeypatch.setitem(graph._routes, "delta", answer)
    with pytest.raises(StoreUnavailable):
        await provider.changes(None)


async def test_things_without_bytes_are_not_told(
    provider: GraphProvider, graph: GraphEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from starlette.responses import JSONResponse

    async def answer(*_: object) -> JSONResponse:
        notebook = {"id": "n", "name": "Notes", "package": {"type": "oneNote"}, "parentReference": {"id": "p"}}
        row = {"id": "f", "file": {"hashes": {"quickXorHash": "AAAA"}}, "createdDateTime": "nonsense", "size": 3}
        gone = {"id": "d", "deleted": {"state": "deleted"}, "parentReference": {"id": "p"}, "file": {}}
        return JSONResponse({"value": [notebook, row, gone], "@odata.deltaLink": f"{graph.url}/v1.0/x"})

    monkeypatch.setitem(graph._routes, "delta", answer)
    page = await provider.changes(None)
    assert page.changes == [Changed("f", "file", size=3, version="qx:AAAA", hashes={"quick_xor": "AAAA"}), Removed("d")]
