import asyncio

import pytest

from files.problems import Problem
from files.transfers import Transfers


async def hold(transfers: Transfers, seconds: float, begun: asyncio.Event | None = None) -> None:
    async with transfers.admit(seconds):
        if begun is not None:
            begun.set()
        await asyncio.Event().wait()


async def test_one_transfer_too_many_is_told_to_come_back_and_a_place_is_given_back() -> None:
    transfers = Transfers(1)
    async with transfers.admit(60):
        with pytest.raises(Problem, match="too many") as caught:
            async with transfers.admit(60):
                pass
        assert caught.value.status == 503
        assert repr(transfers) == "Transfers(1 of 1)"
    async with transfers.admit(60):
        assert len(transfers) == 1
    assert len(transfers) == 0


async def test_a_transfer_ends_when_its_time_is_over() -> None:
    with pytest.raises(Problem, match=r"longer than 0\.02 s") as caught:
        await hold(Transfers(1), 0.02)
    assert caught.value.status == 408


async def test_leaving_admits_nothing_and_waits_for_what_runs() -> None:
    transfers = Transfers(2)
    async with transfers.admit(60):
        leaving = asyncio.create_task(transfers.leave(60))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as caught:
            async with transfers.admit(60):
                pass
        assert caught.value.reason == "leaving"
        assert not leaving.done()
    async with asyncio.timeout(1):
        await leaving


async def test_leaving_ends_what_does_not_finish() -> None:
    transfers = Transfers(2)
    begun = asyncio.Event()
    held = asyncio.create_task(hold(transfers, 60, begun))
    await begun.wait()
    async with asyncio.timeout(1):
        await transfers.leave(0.02)
    with pytest.raises(Problem) as caught:
        await held
    assert caught.value.reason == "leaving"


async def test_leaving_with_nothing_under_way_returns_at_once() -> None:
    async with asyncio.timeout(1):
        await Transfers(1).leave(60)
