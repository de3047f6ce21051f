import asyncio

from hypothesis import given
from hypothesis import strategies as st

from worker.fair_turns import FairTurns


class Hall:
    """Those who came, those at work, and the order in which they were let in."""

    def __init__(self, size: int) -> None:
        self.turns = FairTurns(size)
        self.let_in: list[str] = []
        self.most = 0
        self.tasks: list[tuple[str, asyncio.Event, asyncio.Task[None]]] = []

    async def come(self, *keys: str) -> None:
        for key in keys:
            leave = asyncio.Event()
            self.tasks.append((key, leave, asyncio.create_task(self._work(key, leave))))
        await settled()

    async def _work(self, key: str, leave: asyncio.Event) -> None:
        async with self.turns.turn(key):
            self.let_in.append(key)
            self.most = max(self.most, sum(self.turns._at_work.values()))
            await leave.wait()

    async def leave(self, key: str) -> None:
        """One of this key's who is at work, or the one who waits longest, goes."""
        for found in self.tasks:
            if found[0] == key:
                found[1].set()
                self.tasks.remove(found)
                break
        await settled()

    async def close(self) -> None:
        for _, _, task in self.tasks:
            task.cancel()
        await asyncio.gather(*(task for _, _, task in self.tasks), return_exceptions=True)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_has_nothing_at_work_comes_before_all_that_one_has_waiting() -> None:
    hall = Hall(2)
    await hall.come(*["flood"] * 8, "other")
    await hall.leave("flood")
    assert hall.let_in == ["flood", "flood", "other"]
    await hall.leave("flood")
    await hall.come("third")
    await hall.leave("other")
    assert hall.let_in == ["flood", "flood", "other", "flood", "third"]
    await hall.close()


async def test_those_who_have_much_waiting_take_turns() -> None:
    hall = Hall(1)
    await hall.come("a", *["a"] * 3, *["b"] * 3, *["c"] * 3)
    for _ in range(9):
        await hall.leave(hall.let_in[-1])
    assert "".join(hall.let_in) == "a" + 3 * "abc"
    await hall.close()


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
async def test_no_turn_is_lost_and_none_is_given_twice_whoever_gives_up(
    size: int, moves: list[tuple[str, bool]]
) -> None:
    hall = Hall(size)
    for key, comes in moves:
        if comes:
            await hall.come(key)
        elif hall.tasks:
            _, _, task = hall.tasks.pop(len(hall.tasks) // 2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await hall.close()
    assert hall.most <= size
    assert repr(hall.turns) == f"FairTurns({size} free, at work {{}}, waiting {{}})"
