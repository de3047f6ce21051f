from collections.abc import AsyncIterator
from random import Random

import pytest

from shared.cloud.errors import BadPath, ContentChanged, NameTaken, NotFound, StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.moving import Mover
from shared.cloud.transfer import Transfer
from shared.cloud.upload_rows import RowJournal
from shared.store import cloud_moves
from shared.store.pool import Pool, open_pool
from tests.shared.cloud.plain_provider import UNIT, Calls, Died, PlainProvider, Trouble
from tests.shared.cloud.test_transfer import Slept

PART = 32 * UNIT
LARGE = Random(3).randbytes(100 * UNIT)
FROM, TO = "Inbox/a.bin", "Archive/2026/a.bin"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=4, acquire_timeout_s=50)
    yield opened
    await opened.close()


@pytest.fixture
async def transfer() -> AsyncIterator[Transfer]:
    slept = Slept()
    made = Transfer(
        part_bytes=PART, buffered_bytes=8 * PART, rand=Random(1), time=slept.time, sleep=slept.sleep, beat_s=3600
    )
    yield made
    await made.close()


@pytest.fixture
def mover(pool: Pool, transfer: Transfer) -> Mover:
    return Mover(pool, transfer, RowJournal(pool))


def pair(content: bytes = LARGE, *, quiet: bool = False) -> tuple[PlainProvider, PlainProvider]:
    """Two stores, the first with the content. `quiet`: they have no hash in common."""
    here = PlainProvider("here", says=frozenset({"quick_xor"} if quiet else {"sha256", "md5"}))
    there = PlainProvider("there", in_order=True, says=frozenset({"md5"} if quiet else {"sha256"}))
    here.outside(FROM, content)
    return here, there


def where(*stores: PlainProvider) -> dict[str, bytes]:
    return {f"{store.name}/{path}": kept.content for store in stores for path, kept in store.objects.items()}


async def test_within_a_store_no_byte_passes_through_this_process(mover: Mover) -> None:
    here, _ = pair()
    moved = await mover.move(here, FROM, here, TO)
    assert (moved.path, moved.size, moved.sha256, moved.by_store) == (TO, len(LARGE), digest_of(LARGE).sha256, True)
    assert where(here) == {f"here/{TO}": LARGE}
    assert here.calls.get("open") is None


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("content", [LARGE, b"small", b""])
async def test_between_stores_the_source_goes_last(mover: Mover, content: bytes, quiet: bool) -> None:
    here, there = pair(content, quiet=quiet)
    seen: list[dict[str, bytes]] = []

    def look(call: str, _number: int) -> None:
        if call == "remove":
            seen.append(where(here, there))

    here.trouble = look
    moved = await mover.move(here, FROM, there, TO)
    assert (moved.path, moved.sha256, moved.by_store) == (TO, digest_of(content).sha256, False)
    assert seen == [{f"here/{FROM}": content, f"there/{TO}": content}]
    assert where(here, there) == {f"there/{TO}": content}


async def test_a_store_that_cannot_move_is_copied_within(mover: Mover) -> None:
    store = PlainProvider("here", moves=False)
    store.outside(FROM, LARGE)
    await mover.move(store, FROM, store, TO)
    assert where(store) == {f"here/{TO}": LARGE}


@pytest.mark.parametrize("same_store", [True, False])
async def test_nothing_is_replaced_and_the_same_content_is_taken_for_the_copy(mover: Mover, same_store: bool) -> None:
    here, there = pair()
    target = here if same_store else there
    target.outside(TO, b"another's")
    with pytest.raises(NameTaken):
        await mover.move(here, FROM, target, TO)
    assert where(here)[f"here/{FROM}"] == LARGE
    assert target.text(TO) == b"another's"
    target.outside(TO, LARGE)
    await mover.move(here, FROM, target, TO)
    assert where(here, there) == {f"{target.name}/{TO}": LARGE}


async def test_what_is_not_there_is_not_moved(mover: Mover, pool: Pool) -> None:
    here, there = pair()
    for target in (here, there):
        with pytest.raises(NotFound):
            await mover.move(here, "no/such", target, TO)
    with pytest.raises(BadPath):
        await mover.move(here, FROM, here, FROM)
    assert not await pool.fetch("SELECT FROM cloud_moves")


async def test_a_source_that_was_written_to_while_it_was_copied_stays(mover: Mover) -> None:
    here, there = pair()

    def meanwhile(call: str, _number: int) -> None:
        if call == "finish":
            here.outside(FROM, b"newer")

    there.trouble = meanwhile
    # By the id it had, the first is gone; what has its path now is another object.
    await mover.move(here, FROM, there, TO)
    assert where(here, there) == {f"here/{FROM}": b"newer", f"there/{TO}": LARGE}


async def test_a_source_whose_content_was_changed_in_place_stays(mover: Mover) -> None:
    here, there = pair()

    def meanwhile(call: str, _number: int) -> None:
        if call == "finish":
            here.objects[FROM].content = b"newer"

    there.trouble = meanwhile
    with pytest.raises(ContentChanged, match="both now stand"):
        await mover.move(here, FROM, there, TO)
    there.trouble = lambda _call, _number: None
    with pytest.raises(NameTaken):
        await mover.move(here, FROM, there, TO)
    assert where(here, there) == {f"here/{FROM}": b"newer", f"there/{TO}": LARGE}


async def test_a_move_that_ended_says_so_when_it_is_repeated_and_a_new_one_is_a_new_one(
    mover: Mover, pool: Pool
) -> None:
    here, there = pair()
    for target in (there, here):
        here.outside(FROM, LARGE)
        first = await mover.move(here, FROM, target, TO)
        assert await mover.move(here, FROM, target, TO) == first
        await target.remove(TO)
        here.outside(FROM, b"the next")
        await mover.move(here, FROM, target, TO)
        assert target.text(TO) == b"the next"
    assert await cloud_moves.prune(pool, older_than_s=3600) == 0
    await pool.fetch("UPDATE cloud_moves SET changed_at = clock_timestamp() - interval '2 hours'")
    assert await cloud_moves.prune(pool, older_than_s=3600) == 2


async def test_a_copy_that_somebody_removed_is_made_again_before_the_source_goes(mover: Mover) -> None:
    here, there = pair()
    here.trouble = lambda call, _: Trouble.DIED if call == "remove" else None
    with pytest.raises(Died):
        await mover.move(here, FROM, there, TO)
    await there.remove(TO)
    here.trouble = lambda _call, _number: None
    await mover.move(here, FROM, there, TO)
    assert where(here, there) == {f"there/{TO}": LARGE}


@pytest.mark.parametrize("quiet", [False, True])
async def test_a_copy_that_somebody_replaced_by_as_many_bytes_is_not_taken_for_it(mover: Mover, quiet: bool) -> None:
    here, there = pair(quiet=quiet)
    here.trouble = lambda call, _: Trouble.DIED if call == "remove" else None
    with pytest.raises(Died):
        await mover.move(here, FROM, there, TO)
    there.outside(TO, bytes(len(LARGE)))
    here.trouble = lambda _call, _number: None
    with pytest.raises(NameTaken):
        await mover.move(here, FROM, there, TO)
    assert where(here, there) == {f"here/{FROM}": LARGE, f"there/{TO}": bytes(len(LARGE))}


def dies_at(call: str, number: int, trouble: Trouble, said: list[int]) -> Calls:
    def now(called: str, count: int) -> Trouble | None:
        if said:
            return Trouble.DIED
        if (called, count) == (call, number):
            said.append(1)
            return trouble
        return None

    return now


CALLS = ("look", "open", "put_new", "begin", "parts", "put_part", "finish", "move", "remove", "content")


@pytest.mark.parametrize("size", [len(LARGE), 5], ids=["large", "small"])
@pytest.mark.parametrize("target_name", ["there", "here"])
async def test_a_move_that_dies_anywhere_is_finished_by_being_repeated(
    mover: Mover, pool: Pool, target_name: str, size: int
) -> None:
    content = LARGE[:size]
    deaths = 0
    for trouble in (Trouble.DIED, Trouble.DIED_AFTER):
        for victim in ("here", "there"):
            for call in CALLS:
                for number in range(1, 6):
                    here, there = pair(content)
                    target = there if target_name == "there" else here
                    said: list[int] = []
                    dying = here if victim == "here" else there
                    dying.trouble = dies_at(call, number, trouble, said)
                    to = f"Archive/{trouble.name}-{victim}-{call}-{number}"
                    try:
                        await mover.move(here, FROM, target, to)
                    except Died:
                        deaths += 1
                    present = where(here, there)
                    assert content in present.values(), "it is always somewhere whole"
                    dying.trouble = lambda _call, _number: None
                    moved = await mover.move(here, FROM, target, to)
                    assert moved.path == to
                    assert where(here, there) == {f"{target.name}/{to}": content}, (trouble, victim, call, number)
                    if not said:
                        break
    assert deaths >= {"here": 3, "there": 8 if size == 5 else 20}[target_name]
    assert not await pool.fetch("SELECT FROM cloud_uploads")


async def test_who_is_told_that_a_store_is_away_moves_again_later(mover: Mover) -> None:
    for call in ("look", "remove"):
        here, there = pair()
        here.trouble = lambda called, _, call=call: Trouble.DOWN if called == call else None  # type: ignore[misc]
        with pytest.raises(StoreUnavailable):
            await mover.move(here, FROM, there, f"{TO}-{call}")
        here.trouble = lambda _call, _number: None
        await mover.move(here, FROM, there, f"{TO}-{call}")
        assert where(here, there) == {f"there/{TO}-{call}": LARGE}
