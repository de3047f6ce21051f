import asyncio

import pytest

from shared.cloud.beside import every


async def test_it_is_done_again_and_again_until_the_block_ends() -> None:
    done = asyncio.Queue[int]()

    async def work() -> None:
        done.put_nowait(1)

    async with every(0.001, work):
        for _ in range(3):
            await asyncio.wait_for(done.get(), 10)
    count = done.qsize()
    await asyncio.sleep(0)
    assert done.qsize() == count


async def test_what_it_raises_is_raised_when_the_block_ends() -> None:
    failed = asyncio.Event()

    async def work() -> None:
        failed.set()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with every(0, work):
            await asyncio.wait_for(failed.wait(), 10)


async def test_what_the_block_raises_comes_first() -> None:
    async def work() -> None:
        raise AssertionError("not even begun")

    with pytest.raises(KeyError):
        async with every(1000, work):
            raise KeyError
