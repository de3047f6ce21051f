"""What calls cost, and that no budget is exceeded, whoever comes at the same time."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from shared.store import model_usage
from shared.store.model_usage import Budgets, Refused, Settlement, Usage
from shared.store.pool import Pool, open_pool

PLENTY = Budgets(10**9, 10**9)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=6)
    yield opened
    await opened.close()


async def put_aside(pool: Pool, micros: int, budgets: Budgets, device_id: str = "truck-7") -> UUID | Refused:
    call_id = uuid4()
    refused = await model_usage.reserve(
        pool, call_id, job_id=uuid4(), device_id=device_id, micros=micros, budgets=budgets
    )
    return refused or call_id


async def of(pool: Pool, device_id: str) -> Usage:
    found = await model_usage.usage(pool, device_id)
    assert found is not None
    return found


async def test_a_call_that_fits_to_the_last_millionth_is_made_and_one_more_is_not(pool: Pool) -> None:
    budgets = Budgets(1_000_000, 10**9)
    assert isinstance(await put_aside(pool, 999_999, budgets), UUID)
    assert await put_aside(pool, 2, budgets) == "device"
    assert isinstance(await put_aside(pool, 1, budgets), UUID)
    assert await put_aside(pool, 1, budgets) == "device"
    assert isinstance(await put_aside(pool, 1, budgets, "truck-8"), UUID)


async def test_the_budget_of_all_refuses_without_a_trace_in_the_device_s(pool: Pool) -> None:
    budgets = Budgets(100, 150)
    await put_aside(pool, 100, budgets)
    assert await put_aside(pool, 51, budgets, "truck-8") == "all"
    assert await model_usage.usage(pool, "truck-8") is None
    assert (await of(pool, model_usage.ALL)).reserved_micros == 100


async def test_the_first_call_of_a_day_must_fit_as_well(pool: Pool) -> None:
    assert await put_aside(pool, 101, Budgets(100, 10**9)) == "device"
    assert await put_aside(pool, 101, Budgets(10**9, 100)) == "all"


async def test_what_a_call_cost_takes_the_place_of_what_was_put_aside_once(pool: Pool) -> None:
    call_id = await put_aside(pool, 500, PLENTY)
    assert isinstance(call_id, UUID)
    ending = Settlement("answered", 10, 20, 123, "{}")
    assert await model_usage.settle(pool, call_id, ending) == 123
    assert await model_usage.settle(pool, call_id, ending) is None
    for whose in ("truck-7", model_usage.ALL):
        assert (await of(pool, whose))[2:] == (1, 10, 20, 123, 0)


async def test_a_call_that_cost_nothing_gives_its_money_back_and_an_unknown_one_keeps_it(pool: Pool) -> None:
    free, unknown = [await put_aside(pool, 500, PLENTY) for _ in range(2)]
    assert isinstance(free, UUID)
    assert isinstance(unknown, UUID)
    await model_usage.settle(pool, free, Settlement("free", cost_micros=77))
    await model_usage.settle(pool, unknown, Settlement("unknown"))
    assert (await of(pool, "truck-7"))[5:] == (500, 0)


async def test_calls_at_once_never_exceed_a_budget_together(pool: Pool) -> None:
    budgets = Budgets(700, 1000)

    async def one(n: int) -> bool:
        call_id = await put_aside(pool, 100, budgets, f"truck-{n % 2}")
        if not isinstance(call_id, UUID):
            return False
        await model_usage.settle(pool, call_id, Settlement("answered", 1, 1, 100, "{}"))
        return True

    made = await asyncio.gather(*(one(n) for n in range(40)))
    assert sum(made) == 10
    total = await of(pool, model_usage.ALL)
    assert (total.calls, total.cost_micros, total.reserved_micros) == (10, 1000, 0)
    each = [await of(pool, f"truck-{n}") for n in range(2)]
    assert sum(row.cost_micros for row in each) == 1000
    assert all(row.cost_micros <= 700 for row in each)


async def test_a_call_whose_maker_is_gone_is_counted_and_old_calls_are_forgotten(pool: Pool) -> None:
    await put_aside(pool, 500, PLENTY)
    assert await model_usage.sweep(pool, lost_s=3600, keep_s=3600) == 0
    assert await model_usage.sweep(pool, lost_s=0, keep_s=3600) == 1
    assert (await of(pool, "truck-7")).cost_micros == 500
    assert await model_usage.sweep(pool, lost_s=0, keep_s=0) == 1
    assert (await of(pool, model_usage.ALL)).cost_micros == 500
