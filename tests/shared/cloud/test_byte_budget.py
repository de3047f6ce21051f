import asyncio

from shared.cloud.byte_budget import ByteBudget


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_comes_first_is_served_first_even_when_the_next_would_fit() -> None:
    budget = ByteBudget(10)
    await budget.take(8)
    large, small = asyncio.create_task(budget.take(5)), asyncio.create_task(budget.take(1))
    await turns()
    assert not large.done()
    assert not small.done()
    budget.give_back(8)
    await turns()
    assert large.done()
    assert small.done()


async def test_what_is_larger_than_the_whole_budget_is_let_in_alone() -> None:
    budget = ByteBudget(10)
    async with budget.held(3):
        large = asyncio.create_task(budget.take(50))
        await turns()
        assert not large.done()
    await turns()
    assert large.done()
    later = asyncio.create_task(budget.take(1))
    await turns()
    assert not later.done()
    budget.give_back(50)
    await later


async def test_who_is_cancelled_while_waiting_or_while_let_in_holds_nothing() -> None:
    budget = ByteBudget(10)
    await budget.take(10)
    first, second = asyncio.create_task(budget.take(10)), asyncio.create_task(budget.take(10))
    await turns()
    first.cancel()
    await turns()
    budget.give_back(10)
    second.cancel()
    await turns()
    await asyncio.wait_for(budget.take(10), 5)
    assert repr(budget) == "ByteBudget(10 of 10 bytes, 0 waiting)"
