"""Upload sessions: in order, gone on with after a lost answer or a crash, a name that is taken late, no token shown."""

from typing import Any

import pytest

from loadtests.emulators.faults import Fault
from loadtests.emulators.graph import GraphEmulator
from shared.cloud.errors import ContentMismatch, NameTaken, NotFound, RateLimited, StoreFull, StoreUnavailable
from shared.cloud.graph.provider import GraphProvider
from shared.cloud.graph.uploads import FRAGMENT, FRAGMENT_MAX
from shared.cloud.provider import Offer, Upload
from shared.cloud.quick_xor import quick_xor
from tests.shared.cloud.graph.tenant import Tenant

CONTENT = bytes(range(251)) * 4000  # three fragments and some
STARTS = range(0, len(CONTENT), FRAGMENT)


async def bring(provider: GraphProvider, upload: Upload, starts: range = STARTS) -> list[Any]:
    return [await provider.put_part(upload, start, CONTENT[start : start + FRAGMENT]) for start in starts]


async def test_part_sizes_are_multiples_of_320_kib_below_60_mib(provider: GraphProvider) -> None:
    can = provider.capabilities
    assert can.part_multiple == can.part_min == 320 * 1024
    assert can.part_max == FRAGMENT_MAX
    assert FRAGMENT_MAX % FRAGMENT == 0
    assert FRAGMENT_MAX < 60 * 1024 * 1024


@pytest.mark.parametrize("heeds_defer", [True, False])
async def test_a_session_makes_the_file(provider: GraphProvider, graph: GraphEmulator, heeds_defer: bool) -> None:
    graph.uploads.heeds_defer = heeds_defer
    upload = await provider.begin("a/b.bin", Offer(len(CONTENT), {"quick_xor": quick_xor(CONTENT)}))
    parts = await bring(provider, upload)
    assert (graph.content("a/b.bin") is None) == heeds_defer
    made = await provider.finish(upload, parts)
    assert graph.content("a/b.bin") == CONTENT
    assert made == await provider.look("a/b.bin")
    assert not graph.uploads.open
    await provider.abort(upload)
    assert graph.content("a/b.bin") == CONTENT


@pytest.mark.parametrize("kind", ["lose_answer", "cut_request", "status"])
async def test_a_fragment_that_was_lost_on_the_way_there_or_back_is_there_once(
    provider: GraphProvider, graph: GraphEmulator, kind: Any
) -> None:
    upload = await provider.begin("a", Offer(len(CONTENT)))
    graph.script.add(*(Fault("upload.put", kind, skip=skip, after_bytes=100_000) for skip in (0, 0, 1)))
    parts = await bring(provider, upload)
    await provider.finish(upload, parts)
    assert graph.content("a") == CONTENT


async def test_after_a_crash_the_session_tells_what_it_has(tenant: Tenant, graph: GraphEmulator) -> None:
    upload = await tenant.provider().begin("a", Offer(len(CONTENT)))
    await bring(tenant.provider(), upload, range(0, 2 * FRAGMENT, FRAGMENT))
    again = tenant.provider()
    [had] = await again.parts(Upload(upload.path, upload.size, str(upload.state)))
    assert (had.start, had.end) == (0, 2 * FRAGMENT)
    await bring(again, upload, range(2 * FRAGMENT, len(CONTENT), FRAGMENT))
    await again.finish(upload, [])
    assert graph.content("a") == CONTENT


async def test_a_part_out_of_its_turn_is_refused_and_one_that_is_half_there_is_completed(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    upload = await provider.begin("a", Offer(len(CONTENT)))
    with pytest.raises(StoreUnavailable, match="begins at"):
        await provider.put_part(upload, FRAGMENT, CONTENT[FRAGMENT : 2 * FRAGMENT])
    await provider.put_part(upload, 0, CONTENT[:FRAGMENT])
    part = await provider.put_part(upload, 0, CONTENT[: 3 * FRAGMENT])
    assert (part.start, part.end) == (0, 3 * FRAGMENT)
    await provider.put_part(upload, 3 * FRAGMENT, CONTENT[3 * FRAGMENT :])
    await provider.finish(upload, [])
    assert graph.content("a") == CONTENT


async def test_a_session_that_ended_is_not_there_any_more(provider: GraphProvider, graph: GraphEmulator) -> None:
    upload = await provider.begin("a", Offer(len(CONTENT)))
    assert upload.expires_at is not None
    graph.clock.advance(15 * 86_400)
    with pytest.raises(NotFound):
        await provider.parts(upload)
    with pytest.raises(NotFound):
        await bring(provider, upload)
    with pytest.raises(NotFound):
        await provider.finish(upload, [])
    await provider.abort(upload)


@pytest.mark.parametrize("status", [401, 403, 410])
async def test_a_session_whose_address_is_over_begins_anew_however_that_is_said(
    provider: GraphProvider, graph: GraphEmulator, status: int
) -> None:
    upload = await provider.begin("a", Offer(len(CONTENT)))
    graph.script.add(Fault("upload.*", status=status, times=100))
    with pytest.raises(NotFound):
        await provider.parts(upload)
    with pytest.raises(NotFound):
        await bring(provider, upload)
    with pytest.raises(NotFound):
        await provider.finish(upload, [])
    await provider.abort(upload)


async def test_a_session_that_says_nothing_of_ranges_has_what_it_was_sent(
    provider: GraphProvider, graph: GraphEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.emulators.graph_uploads.Session.missing", lambda _: None)
    upload = await provider.begin("a", Offer(len(CONTENT)))
    await provider.finish(upload, await bring(provider, upload))
    assert graph.content("a") == CONTENT


@pytest.mark.parametrize("heeds_defer", [True, False])
async def test_a_name_that_is_taken_late_is_told_and_left_alone(
    provider: GraphProvider, graph: GraphEmulator, heeds_defer: bool
) -> None:
    graph.uploads.heeds_defer = heeds_defer
    graph.drive.manners.early_conflict = False
    upload = await provider.begin("a", Offer(len(CONTENT)))
    graph.write("A", b"somebody else's")
    with pytest.raises(NameTaken):
        await provider.finish(upload, await bring(provider, upload))
    assert graph.content("a") == b"somebody else's"
    # The session is kept, so that the name may come free.
    assert graph.uploads.open
    graph.remove("a")
    if heeds_defer:
        await provider.finish(upload, await bring(provider, upload))
        assert graph.content("a") == CONTENT
    await provider.abort(upload)
    assert not graph.uploads.open


async def test_a_finish_whose_answer_was_lost_is_found_as_made(provider: GraphProvider, graph: GraphEmulator) -> None:
    upload = await provider.begin("a", Offer(len(CONTENT)))
    parts = await bring(provider, upload)
    graph.script.add(Fault("upload.commit", "lose_answer"))
    with pytest.raises(StoreUnavailable):
        await provider.finish(upload, parts)
    with pytest.raises(NotFound):
        await provider.finish(upload, parts)
    assert graph.content("a") == CONTENT


async def test_other_bytes_than_were_offered_are_removed(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.uploads.spoils = 1
    upload = await provider.begin("a", Offer(len(CONTENT), {"quick_xor": quick_xor(CONTENT)}))
    with pytest.raises(ContentMismatch):
        await provider.finish(upload, await bring(provider, upload))
    assert graph.content("a") is None


async def test_no_room_is_told_before_a_byte_is_sent(provider: GraphProvider, graph: GraphEmulator) -> None:
    graph.drive.manners.quota = 1000
    with pytest.raises(StoreFull):
        await provider.begin("a", Offer(1001))


async def test_a_rate_limit_in_the_middle_pauses_and_loses_nothing(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    upload = await provider.begin("a", Offer(len(CONTENT)))
    graph.script.add(Fault("upload.put", status=429, retry_after="1", skip=1))
    await provider.finish(upload, await bring(provider, upload))
    graph.script.add(Fault("upload.put", status=429, retry_after="300"))
    upload = await provider.begin("b", Offer(len(CONTENT)))
    with pytest.raises(RateLimited):
        await bring(provider, upload)
    assert graph.content("a") == CONTENT
    assert graph.meter.early == 0


async def test_the_address_of_a_session_is_a_secret_that_is_shown_nowhere(
    provider: GraphProvider, graph: GraphEmulator
) -> None:
    upload = await provider.begin("a", Offer(len(CONTENT)))
    [key] = graph.uploads.open
    assert key in upload.state
    graph.script.add(Fault("upload.status", status=500, times=10))
    with pytest.raises(StoreUnavailable) as error:
        await provider.parts(upload)
    assert key not in repr(upload) + str(error.value)


@pytest.mark.parametrize("state", ["", "{}", '{"url": 1}', '{"url": "ftp://x/", "hashes": {}}'])
async def test_a_state_that_is_none_of_ours_is_a_session_that_is_gone(provider: GraphProvider, state: str) -> None:
    with pytest.raises((NotFound, StoreUnavailable)):
        await provider.parts(Upload("a", 5, state))
