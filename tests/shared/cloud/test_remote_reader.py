from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.errors import CloudError, ContentChanged, RateLimited, StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.provider import Object, stat_of_object
from shared.cloud.remote_reader import Fetch, RemoteReader, digest_of_reader

CONTENT = bytes(range(200))


class Ranges:
    """Gives the ranges of some content, each cut to what it is told: a number of bytes, or an error after none."""

    def __init__(self, cuts: list[int | CloudError]) -> None:
        self.cuts = cuts
        self.asked: list[tuple[int, int]] = []

    @asynccontextmanager
    async def fetch(self, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked.append((start, end))
        cut = self.cuts.pop(0) if self.cuts else len(CONTENT)
        if isinstance(cut, CloudError):
            raise cut
        yield self._pieces(CONTENT[start : min(end, start + cut)], is_cut=start + cut < end)

    async def _pieces(self, content: bytes, *, is_cut: bool) -> AsyncIterator[bytes]:
        for start in range(0, len(content), 7):
            yield content[start : start + 7]
        if is_cut:
            raise StoreUnavailable("broken off")


def reader(fetch: Fetch, slept: Callable[[float], None] = lambda _: None) -> RemoteReader:
    async def sleep(seconds: float) -> None:
        slept(seconds)

    return RemoteReader(Object("id", "a/b", len(CONTENT), "md5:1"), fetch, rand=Random(1), sleep=sleep)


@given(st.lists(st.integers(1, 120), max_size=30), st.integers(0, 200), st.integers(0, 200))
async def test_whatever_is_cut_off_the_bytes_arrive_once_and_in_order(cuts: list[int], one: int, other: int) -> None:
    start, end = sorted((one, other))
    ranges = Ranges(list(cuts))
    pieces = [piece async for piece in reader(ranges.fetch).chunks(start, end - start)]
    assert b"".join(pieces) == CONTENT[start:end]
    assert [begin for begin, _ in ranges.asked] == sorted({begin for begin, _ in ranges.asked})


async def test_all_of_it_can_be_hashed() -> None:
    assert await digest_of_reader(reader(Ranges([50, 1]).fetch)) == digest_of(CONTENT)


async def test_a_file_that_gives_no_byte_any_more_is_given_up() -> None:
    slept: list[float] = []
    ranges = Ranges([10, *([0] * 99)])
    with pytest.raises(StoreUnavailable, match="broken off"):
        await digest_of_reader(reader(ranges.fetch, slept.append))
    assert len(ranges.asked) == 5
    assert len(slept) == 4


async def test_an_answer_that_ends_early_without_a_word_is_asked_on() -> None:
    class Quiet(Ranges):
        async def _pieces(self, content: bytes, *, is_cut: bool) -> AsyncIterator[bytes]:
            yield content

    ranges = Quiet([30])
    assert await digest_of_reader(reader(ranges.fetch)) == digest_of(CONTENT)
    assert ranges.asked == [(0, 200), (30, 200)]


@pytest.mark.parametrize("error", [ContentChanged(), RateLimited(retry_after_s=9)])
async def test_what_asking_again_does_not_mend_is_told_at_once(error: CloudError) -> None:
    ranges = Ranges([20, error])
    with pytest.raises(type(error)):
        await digest_of_reader(reader(ranges.fetch))
    assert len(ranges.asked) == 2


async def test_a_server_that_heeds_no_range_is_not_believed() -> None:
    class Heedless(Ranges):
        async def _pieces(self, content: bytes, *, is_cut: bool) -> AsyncIterator[bytes]:
            yield CONTENT

    with pytest.raises(ContentChanged, match="more bytes came"):
        assert [piece async for piece in reader(Heedless([]).fetch).chunks(5)] == []


async def test_what_lies_beyond_the_end_is_not_there() -> None:
    with pytest.raises(ContentChanged, match="has 200 bytes"):
        assert [piece async for piece in reader(Ranges([]).fetch).chunks(150, 51)] == []


def test_another_version_has_another_stat() -> None:
    assert reader(Ranges([]).fetch).stat == stat_of_object(Object("id", "c", 200, "md5:1"))
    assert reader(Ranges([]).fetch).stat != stat_of_object(Object("id", "a/b", 200, "md5:2"))
