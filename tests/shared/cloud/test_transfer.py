import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.cloud.errors import CloudError, ContentChanged, ContentMismatch, NameTaken, NotAFile, StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.provider import HashKind
from shared.cloud.transfer import QUARANTINE, Landed, Progress, Transfer
from shared.cloud.transfer_journal import Journal, SidecarJournal
from shared.cloud.transfer_plan import Patience
from shared.cloud.transfer_source import BytesContent, FileContent, StoredContent, spooled
from tests.shared.cloud.plain_provider import UNIT, Calls, PlainProvider, Trouble

PART = 8 * UNIT
SIZE = 5 * PART + 300
CONTENT = Random(7).randbytes(SIZE)
PATH = "Responses/truck-7/big.bin"

both = pytest.mark.parametrize("in_order", [True, False], ids=["in order", "in any order"])


class Slept:
    """No time passes; what was asked for is written down."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def time(self) -> float:
        return sum(self.waits)


@pytest.fixture
def slept() -> Slept:
    return Slept()


@pytest.fixture
async def transfer(slept: Slept) -> AsyncIterator[Transfer]:
    made = Transfer(
        part_bytes=PART, buffered_bytes=4 * PART, rand=Random(1), time=slept.time, sleep=slept.sleep, beat_s=3600
    )
    yield made
    await made.close()


def once(call: str, trouble: Trouble, *numbers: int) -> Calls:
    return lambda called, number: trouble if called == call and number in (numbers or (1,)) else None


async def put(
    transfer: Transfer,
    provider: PlainProvider,
    content: bytes = CONTENT,
    *,
    journal: Journal | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Landed:
    return await transfer.put(
        provider, PATH, BytesContent(content), expect=digest_of(content), journal=journal, on_progress=on_progress
    )


@both
async def test_content_arrives_whole_and_progress_is_told(transfer: Transfer, in_order: bool) -> None:
    provider = PlainProvider(in_order=in_order)
    told: list[Progress] = []
    landed = await put(transfer, provider, on_progress=told.append)
    assert provider.text(PATH) == CONTENT
    assert (landed.content, landed.existed, landed.object.path) == (digest_of(CONTENT), False, PATH)
    assert [one.brought for one in told] == sorted(one.brought for one in told)
    assert (told[0].brought, told[-1]) == (0, Progress(PATH, SIZE, SIZE, 0, 0))
    assert provider.most_on_their_way <= (1 if in_order else 3)
    assert not provider.sessions


@both
@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 3 * PART])
async def test_every_size_arrives(transfer: Transfer, in_order: bool, size: int) -> None:
    provider = PlainProvider(in_order=in_order)
    await put(transfer, provider, CONTENT[:size])
    assert provider.text(PATH) == CONTENT[:size]


@both
@pytest.mark.parametrize("trouble", [Trouble.BEFORE, Trouble.AFTER, Trouble.HALF, Trouble.LIMIT])
@pytest.mark.parametrize("call", ["begin", "put_part", "finish"])
async def test_one_call_that_fails_is_made_again(
    transfer: Transfer, in_order: bool, call: str, trouble: Trouble
) -> None:
    provider = PlainProvider(in_order=in_order, trouble=once(call, trouble, 1, 3, 4))
    await put(transfer, provider)
    assert provider.text(PATH) == CONTENT


@both
@pytest.mark.parametrize("call", ["put_part", "finish"])
async def test_an_upload_that_the_provider_forgot_begins_anew(transfer: Transfer, in_order: bool, call: str) -> None:
    provider = PlainProvider(in_order=in_order, trouble=once(call, Trouble.FORGOTTEN))
    told: list[Progress] = []
    await put(transfer, provider, on_progress=told.append)
    assert provider.text(PATH) == CONTENT
    assert told[-1].restarts == 1
    assert provider.calls["begin"] == 2


async def test_an_upload_that_is_forgotten_again_and_again_is_given_up(transfer: Transfer) -> None:
    provider = PlainProvider(trouble=lambda call, _: Trouble.FORGOTTEN if call == "finish" else None)
    with pytest.raises(StoreUnavailable, match="forgotten 4 times"):
        await put(transfer, provider)
    assert not provider.objects


async def test_being_told_when_to_come_back_is_heeded_and_uses_up_no_tries(transfer: Transfer, slept: Slept) -> None:
    provider = PlainProvider(in_order=True, trouble=lambda c, n: Trouble.LIMIT if c == "put_part" and n < 20 else None)
    await put(transfer, provider)
    assert len(slept.waits) == 19
    assert all(7 <= wait <= 8 for wait in slept.waits)


@both
async def test_patience_ends_and_what_was_brought_stays_for_the_next_try(
    transfer: Transfer, in_order: bool, tmp_path: Path
) -> None:
    journal = SidecarJournal(tmp_path)
    provider = PlainProvider(
        in_order=in_order, trouble=lambda c, n: Trouble.DOWN if c == "put_part" and n > 3 else None
    )
    with pytest.raises(StoreUnavailable):
        await put(transfer, provider, journal=journal)
    brought: list[int] = []
    provider.trouble = lambda _call, _number: None
    provider.calls.clear()
    await put(transfer, provider, journal=journal, on_progress=lambda now: brought.append(now.brought))
    assert provider.text(PATH) == CONTENT
    assert brought[0] == 3 * PART
    assert (provider.calls["put_part"], provider.calls.get("begin")) == (3, None)
    assert not list(tmp_path.iterdir()), "nothing is left to go on with"


async def test_a_kept_upload_that_is_gone_at_the_provider_begins_anew(transfer: Transfer, tmp_path: Path) -> None:
    journal = SidecarJournal(tmp_path)
    provider = PlainProvider(trouble=lambda c, _: Trouble.DOWN if c == "finish" else None)
    with pytest.raises(StoreUnavailable):
        await put(transfer, provider, journal=journal)
    provider.trouble = lambda _call, _number: None
    provider.sessions.clear()
    await put(transfer, provider, journal=journal)
    assert provider.text(PATH) == CONTENT


@pytest.mark.parametrize("text", ["", "{", "null", '{"session": 3, "expires_at": null}', '{"session": "x"}'])
async def test_a_sidecar_that_was_cut_or_is_nonsense_is_as_good_as_none(
    transfer: Transfer, tmp_path: Path, text: str
) -> None:
    journal = SidecarJournal(tmp_path)
    provider = PlainProvider(trouble=lambda c, _: Trouble.DOWN if c == "finish" else None)
    with pytest.raises(StoreUnavailable):
        await put(transfer, provider, journal=journal)
    (kept,) = tmp_path.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text(text)
    provider.trouble = lambda _call, _number: None
    await put(transfer, provider, journal=journal)
    assert provider.text(PATH) == CONTENT


async def test_the_same_content_that_is_there_already_is_adopted_and_another_is_left_alone(transfer: Transfer) -> None:
    provider = PlainProvider()
    provider.outside(PATH, CONTENT)
    assert (await put(transfer, provider)).existed
    provider.outside(PATH, b"another's")
    with pytest.raises(NameTaken):
        await put(transfer, provider)
    assert provider.text(PATH) == b"another's"
    assert provider.calls.get("begin") is None, "for neither was a byte brought"


@both
@pytest.mark.parametrize("content", [CONTENT, b"another's"])
async def test_a_rival_who_takes_the_name_meanwhile_is_found_at_the_end(
    transfer: Transfer, in_order: bool, content: bytes
) -> None:
    def rival(call: str, number: int) -> None:
        if (call, number) == ("put_part", 4):
            provider.outside(PATH, content)

    provider = PlainProvider(in_order=in_order, trouble=rival)
    if content == CONTENT:
        assert (await put(transfer, provider)).existed
    else:
        with pytest.raises(NameTaken):
            await put(transfer, provider)
    assert provider.text(PATH) == content
    assert not provider.sessions


@pytest.mark.parametrize("content", [CONTENT, b"another's"])
async def test_a_name_that_is_known_to_be_taken_when_it_begins_is_compared(transfer: Transfer, content: bytes) -> None:
    provider = PlainProvider(early=True)
    provider.outside(PATH, content)
    put = transfer.put(provider, PATH, BytesContent(CONTENT))
    if content == CONTENT:
        assert (await put).existed
    else:
        with pytest.raises(NameTaken):
            await put
    assert provider.text(PATH) == content
    assert provider.calls.get("put_part") is None


@pytest.mark.parametrize("call", ["put_part", "finish"])
async def test_what_arrives_wrong_is_removed_and_sent_once_more(transfer: Transfer, call: str) -> None:
    provider = PlainProvider(trouble=once(call, Trouble.DAMAGED))
    landed = await put(transfer, provider)
    assert provider.text(PATH) == CONTENT
    assert provider.calls["remove"] == 1
    assert landed.object.object_id == provider.objects[PATH].object_id


@pytest.mark.parametrize("moves", [True, False])
async def test_what_arrives_wrong_twice_is_quarantined(transfer: Transfer, moves: bool) -> None:
    provider = PlainProvider(trouble=once("finish", Trouble.DAMAGED, 1, 2), moves=moves)
    with pytest.raises(ContentMismatch, match="other bytes"):
        await put(transfer, provider)
    kept = list(provider.objects)
    assert [path.split("/")[0] for path in kept] == ([QUARANTINE] if moves else [])
    await put(transfer, provider)
    assert provider.text(PATH) == CONTENT, "and the next try is not held back by it"


async def test_what_arrives_wrong_and_cannot_be_removed_is_told_of(transfer: Transfer) -> None:
    provider = PlainProvider(
        trouble=lambda c, _: Trouble.DAMAGED if c == "finish" else Trouble.DOWN if c == "remove" else None
    )
    with pytest.raises(ContentMismatch, match="could not be removed"):
        await put(transfer, provider)


@pytest.mark.parametrize(
    ("says", "late", "reads"), [({"quick_xor"}, 0, 0), ({"quick_xor"}, 2, 0), ({"quick_xor"}, 99, 1), (set(), 0, 1)]
)
async def test_it_is_verified_by_what_the_provider_says_and_by_reading_where_it_says_nothing(
    transfer: Transfer, says: set[HashKind], late: int, reads: int
) -> None:
    provider = PlainProvider(says=frozenset(says), late=late)
    await put(transfer, provider)
    assert provider.calls.get("content", 0) == reads
    provider = PlainProvider(says=frozenset(says), late=late, trouble=once("finish", Trouble.DAMAGED))
    await put(transfer, provider)
    assert provider.text(PATH) == CONTENT
    assert provider.calls["remove"] == 1


@pytest.mark.parametrize("call", ["look", "finish"])
async def test_a_folder_of_that_name_is_said_and_nothing_is_kept_of_the_try(
    transfer: Transfer, tmp_path: Path, call: str
) -> None:
    def folder(called: str, number: int) -> None:
        if called == call == "look" or (called, number) == ("look", 2):
            raise NotAFile("a folder")
        if called == call:
            provider.outside(PATH, b"")

    provider = PlainProvider(trouble=folder)
    with pytest.raises(NotAFile):
        await put(transfer, provider, journal=SidecarJournal(tmp_path))
    assert not list(tmp_path.iterdir())
    assert not provider.sessions


async def test_a_try_that_began_nothing_leaves_no_sidecar(transfer: Transfer, tmp_path: Path) -> None:
    provider = PlainProvider(trouble=lambda c, _: Trouble.DOWN if c == "begin" else None)
    with pytest.raises(StoreUnavailable):
        await put(transfer, provider, journal=SidecarJournal(tmp_path))
    assert not list(tmp_path.iterdir())


async def test_a_source_that_is_not_what_was_announced_makes_nothing(transfer: Transfer) -> None:
    provider = PlainProvider()
    with pytest.raises(ContentMismatch, match="written to"):
        await transfer.put(provider, PATH, BytesContent(b"a" * 9), expect=digest_of(b"b" * 9))
    with pytest.raises(ContentMismatch, match="announced were"):
        await transfer.put(provider, PATH, BytesContent(b"a" * 9), expect=digest_of(b"a"))
    assert not provider.objects
    assert not provider.sessions


async def test_a_file_that_is_cut_while_it_is_read_makes_nothing(transfer: Transfer, tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(CONTENT)
    content = await FileContent.of(file, transfer.threads)
    file.write_bytes(CONTENT[:-1])
    provider = PlainProvider()
    with pytest.raises(ContentChanged):
        await transfer.put(provider, PATH, content)
    assert not provider.objects
    assert not provider.sessions


async def test_files_streams_and_objects_of_another_provider_are_sources(transfer: Transfer, tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(CONTENT)
    here = PlainProvider("here")
    await transfer.put(here, "file", await FileContent.of(file, transfer.threads))

    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, SIZE, 999):
            yield CONTENT[at : at + 999]

    async with spooled(stream(), transfer.threads, folder=tmp_path) as content:
        await transfer.put(here, "stream", content)
    there = PlainProvider("there", in_order=True)
    await transfer.put(there, "object", StoredContent(here, "file", SIZE))
    assert here.text("file") == here.text("stream") == there.text("object") == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["big"]


async def test_a_stream_of_more_than_was_announced_is_not_taken(transfer: Transfer) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"a" * 100

    with pytest.raises(ContentMismatch):
        async with spooled(stream(), transfer.threads, folder=None, most=500):
            raise AssertionError("it was taken")


@both
async def test_who_is_cancelled_gives_back_all_that_was_held(transfer: Transfer, in_order: bool) -> None:
    class Stuck(PlainProvider):
        async def _put_part(self, *args: object) -> None:  # type: ignore[override]
            stuck.set()
            await asyncio.Event().wait()

    stuck = asyncio.Event()
    task = asyncio.create_task(put(transfer, Stuck(in_order=in_order)))
    await asyncio.wait_for(stuck.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "0 of" in repr(transfer)


async def test_many_uploads_hold_no_more_than_the_budget_together(slept: Slept) -> None:
    transfer = Transfer(
        part_bytes=PART, buffered_bytes=2 * PART, rand=Random(1), time=slept.time, sleep=slept.sleep, beat_s=3600
    )
    provider = PlainProvider()
    contents = [Random(n).randbytes(5 * PART) for n in range(8)]
    await asyncio.gather(
        *(transfer.put(provider, f"f{n}", BytesContent(content)) for n, content in enumerate(contents))
    )
    assert [provider.text(f"f{n}") for n in range(8)] == contents
    assert provider.most_on_their_way <= 2
    await transfer.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), in_order=st.booleans(), rate=st.sampled_from([0.1, 0.3, 0.6]))
@example(seed=1_790_662_459, in_order=False, rate=0.6)
async def test_whatever_goes_wrong_the_bytes_are_right_or_nothing_is_there(
    seed: int, in_order: bool, rate: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rand = Random(seed)
    wrong = (Trouble.BEFORE, Trouble.AFTER, Trouble.HALF, Trouble.LIMIT, Trouble.FORGOTTEN, Trouble.DAMAGED)
    weights = (6, 6, 6, 3, 1, 1)

    def trouble(_call: str, _number: int) -> Trouble | None:
        return rand.choices(wrong, weights)[0] if rand.random() < rate else None

    slept = Slept()
    patience = Patience(tries=3, total_s=60)
    provider = PlainProvider(in_order=in_order, trouble=trouble)
    journal = SidecarJournal(tmp_path_factory.mktemp("kept"))
    transfer = Transfer(
        part_bytes=PART,
        buffered_bytes=3 * PART,
        patience=patience,
        rand=rand,
        time=slept.time,
        sleep=slept.sleep,
        beat_s=3600,
    )
    content = rand.randbytes(rand.choice([0, 1, PART, SIZE]))
    try:
        for _ in range(40):
            try:
                await put(transfer, provider, content, journal=journal)
            except CloudError as error:
                last = error
            else:
                assert provider.text(PATH) == content
                return
            if "the answer was lost" in str(last):
                continue  # nobody knows what is there: the next try looks
            if PATH in provider.objects and provider.text(PATH) != content:
                # Removing failed, or it cannot be told from somebody else's: both are said, and wait for a person.
                assert "could not be removed" in str(last) or "may be this upload" in str(last)
                return
        provider.trouble = lambda _call, _number: None
        await put(transfer, provider, content, journal=journal)
        assert provider.text(PATH) == content
    finally:
        await transfer.close()
