"""Pages that have to wait are written together, and each is answered for itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.watcher.rig import until
from watcher.joining import Ask, Joiner
from watcher.tasks import end


class Away(Exception):
    """Concerns all."""


class Desk:
    """Writes nothing, when it is let to; `bad` works fail whatever they are in."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.bad: dict[str, Exception] = {}
        self.joiner: Joiner[str, str] = Joiner(
            self._write, at_once=1, size_max=10, concerns_all=lambda error: isinstance(error, Away)
        )
        self._tasks: list[asyncio.Task[str]] = []

    async def _write(self, asks: Sequence[Ask[str, str]]) -> list[str | Exception]:
        self.written.append([ask.work for ask in asks])
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        for ask in asks:
            if ask.work in self.bad:
                raise self.bad[ask.work]
        return [KeyError(ask.work) if ask.term == 0 else f"{ask.work} done" for ask in asks]

    async def ask(self, feed: str, work: str, *, term: int = 1, size: int = 1) -> "asyncio.Task[str]":
        task = asyncio.create_task(self.joiner.ask(feed, term, work, size))
        self._tasks.append(task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task

    async def answers(self) -> list[str | BaseException]:
        self.open.set()
        async with asyncio.timeout(10):
            return await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        await end(self._tasks)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.close()


async def test_the_first_goes_alone_and_those_that_wait_go_together_in_the_order_of_their_feeds(desk: Desk) -> None:
    for feed in ("b", "d", "c", "a"):
        await desk.ask(feed, feed)
    assert await desk.answers() == ["b done", "d done", "c done", "a done"]
    assert desk.written == [["b"], ["a", "c", "d"]]


async def test_no_more_is_joined_than_is_good_and_a_single_large_page_goes_alone(desk: Desk) -> None:
    await desk.ask("first", "first")
    for feed, size in (("a", 6), ("b", 5), ("c", 4), ("d", 99)):
        await desk.ask(feed, feed, size=size)
    await desk.answers()
    assert desk.written == [["first"], ["a", "c"], ["b"], ["d"]]


async def test_a_feed_has_one_page_under_way_though_another_write_could_begin(desk: Desk) -> None:
    desk.joiner = Joiner(desk._write, at_once=2, size_max=10, concerns_all=lambda _: False)
    for feed, work in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")):
        await desk.ask(feed, work)
    assert desk.written == [["a1"], ["b1"]]
    assert await desk.answers() == ["a1 done", "a2 done", "b1 done", "c1 done"]
    assert desk.written[2:] in ([["a2", "c1"]], [["a2"], ["c1"]])


async def test_two_pages_of_one_feed_are_never_in_one_write(desk: Desk) -> None:
    await desk.ask("first", "first")
    for work in ("a1", "a2", "a3"):
        await desk.ask("a", work)
    await desk.answers()
    assert desk.written == [["first"], ["a1"], ["a2"], ["a3"]]


async def test_an_answer_that_is_an_error_is_for_its_own_asker(desk: Desk) -> None:
    await desk.ask("first", "first")
    await desk.ask("a", "a", term=0)
    await desk.ask("b", "b")
    _, refused, answer = await desk.answers()
    assert isinstance(refused, KeyError)
    assert answer == "b done"
    assert desk.written == [["first"], ["a", "b"]], "nothing had to be written again"


async def test_when_a_page_fails_those_joined_with_it_are_written_without_it(desk: Desk) -> None:
    await desk.ask("first", "first")
    desk.bad["b"] = ValueError("b")
    for feed in ("a", "b", "c"):
        await desk.ask(feed, feed)
    assert await desk.answers() == ["first done", "a done", desk.bad["b"], "c done"]
    assert desk.written == [["first"], ["a", "b", "c"], ["a"], ["b"], ["c"]]


async def test_what_concerns_all_is_told_to_all_at_once(desk: Desk) -> None:
    await desk.ask("first", "first")
    desk.bad["b"] = Away()
    for feed in ("a", "b"):
        await desk.ask(feed, feed)
    assert await desk.answers() == ["first done", desk.bad["b"], desk.bad["b"]]
    assert desk.written == [["first"], ["a", "b"]]


async def test_who_goes_while_waiting_is_not_written(desk: Desk) -> None:
    await desk.ask("first", "first")
    gone = await desk.ask("a", "a")
    await desk.ask("b", "b")
    await end([gone])
    await desk.answers()
    assert desk.written == [["first"], ["b"]]


async def test_who_goes_does_not_stop_the_others_and_the_feed_waits_for_what_is_under_way(desk: Desk) -> None:
    first = await desk.ask("first", "first")
    gone = await desk.ask("a", "a1")
    stays = await desk.ask("b", "b")
    desk.open.set()
    await first
    desk.open.clear()
    await until_written(desk, ["a1", "b"])
    await end([gone])
    again = await desk.ask("a", "a2")
    assert (desk.cancelled, desk.written[1:]) == (0, [["a1", "b"]])
    desk.open.set()
    async with asyncio.timeout(10):
        assert (await stays, await again) == ("b done", "a2 done")
    assert desk.written[1:] == [["a1", "b"], ["a2"]]


async def test_when_all_have_gone_the_write_is_ended_before_they_are(desk: Desk) -> None:
    first = await desk.ask("first", "first")
    await end([first])
    assert desk.cancelled == 1
    await desk.ask("a", "a")
    desk.open.set()
    assert desk.written == [["first"], ["a"]]


async def until_written(desk: Desk, works: list[str]) -> None:
    async def written() -> bool:
        return works in desk.written

    await until(written, f"{works} written")
