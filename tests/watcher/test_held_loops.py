"""Loops under leases: what becomes of a lease whose loop ends, told or by itself."""

import asyncio

import pytest

from shared.store.errors import TermOver
from shared.telemetry.metrics import WATCHER_FEEDS_OWNED
from watcher.held_loops import HeldLoops


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watcher.held_loops._CRASH_PAUSE_S", 0.05)


class Counting:
    """A loop that waits to be told how to end."""

    def __init__(self, feed_id: str, term: int) -> None:
        self.feed_id = feed_id
        self.term = term
        self.woken = 0
        self.told_to_stop = asyncio.Event()
        self.deaf = False
        self._end = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        await self._end

    def fail(self, error: Exception) -> None:
        self._end.set_exception(error)

    def wake(self) -> None:
        self.woken += 1

    def stop(self) -> None:
        self.told_to_stop.set()
        if not self.deaf and not self._end.done():
            self._end.set_result(None)


class GivenUp:
    """What was given up, to be waited for."""

    def __init__(self) -> None:
        self.leases: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def __call__(self, feed_id: str, term: int) -> None:
        self.leases.put_nowait((feed_id, term))

    async def next(self) -> tuple[str, int]:
        async with asyncio.timeout(20):
            return await self.leases.get()


@pytest.mark.parametrize("error", [TermOver(), ValueError("a bug")])
async def test_a_loop_that_ends_by_itself_has_its_lease_given_up(error: Exception) -> None:
    given_up = GivenUp()
    held: HeldLoops[Counting] = HeldLoops(given_up)
    loop = Counting("a", 7)
    held.begin(loop)
    await asyncio.sleep(0)
    loop.fail(error)
    assert await given_up.next() == ("a", 7)
    assert list(held.feed_ids) == ["a"], "who was given the lease back says so by ending it"
    await held.close()


async def test_a_bug_waits_before_its_lease_is_given_up_and_a_term_that_is_over_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("watcher.held_loops._CRASH_PAUSE_S", 3600.0)
    given_up = GivenUp()
    held: HeldLoops[Counting] = HeldLoops(given_up)
    bug, fenced = Counting("bug", 1), Counting("fenced", 1)
    held.begin(bug)
    held.begin(fenced)
    await asyncio.sleep(0)
    bug.fail(ValueError("a bug"))
    fenced.fail(TermOver())
    assert await given_up.next() == ("fenced", 1)
    assert given_up.leases.empty()
    async with asyncio.timeout(20):
        await held.close()
    assert given_up.leases.empty(), "nobody gives up a lease after the process has ended its loops"
    assert repr(held) == "HeldLoops(0 run, 0 are given up)"


async def test_a_loop_that_was_told_to_end_keeps_its_lease_for_who_told_it() -> None:
    given_up = GivenUp()
    held: HeldLoops[Counting] = HeldLoops(given_up)
    told, lost = Counting("a", 1), Counting("b", 1)
    lost.deaf = True
    held.begin(told)
    held.begin(lost)
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await held.ended(held.ending(["a", "nobody's"], "released"), grace_s=10.0)
        tasks = held.ending(["b"], "lost")
        await held.ended(tasks, grace_s=0.0)
    assert told.told_to_stop.is_set()
    assert lost.told_to_stop.is_set()
    assert tasks[0].cancelled(), "without grace it does not get to finish"
    assert given_up.leases.empty()


async def test_the_end_of_an_old_loop_does_not_take_the_lease_from_the_new_one() -> None:
    given_up = GivenUp()
    held: HeldLoops[Counting] = HeldLoops(given_up)
    old, new = Counting("a", 1), Counting("a", 2)
    old.deaf = True
    held.begin(old)
    await asyncio.sleep(0)
    tasks = held.ending(["a"], "given_away")
    held.begin(new)
    old.fail(TermOver())
    await asyncio.wait(tasks, timeout=20)
    assert held.get("a") is new
    async with asyncio.timeout(20):
        await held.close()
    assert given_up.leases.empty()


async def test_all_loops_are_woken_and_counted_whatever_they_watch() -> None:
    before = WATCHER_FEEDS_OWNED._value.get()
    local: HeldLoops[Counting] = HeldLoops(GivenUp())
    remote: HeldLoops[Counting] = HeldLoops(GivenUp())
    loops = [Counting(name, 1) for name in "abc"]
    local.begin(loops[0])
    for loop in loops[1:]:
        remote.begin(loop)
    assert WATCHER_FEEDS_OWNED._value.get() - before == 3
    local.on_renewed()
    remote.on_renewed()
    assert [loop.woken for loop in loops] == [1, 1, 1]
    assert (len(local), len(remote), remote.loops) == (1, 2, loops[1:])
    async with asyncio.timeout(20):
        await local.close()
        await remote.ended(remote.ending(remote.feed_ids, "ended"), grace_s=0.0)
    assert WATCHER_FEEDS_OWNED._value.get() == before
