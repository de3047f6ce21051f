"""What the bus's tests share: awaiting a condition, a listener that records, a publisher that runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from shared.bus.node_reader import NodeReader
from shared.bus.publisher import Limits, Publisher
from shared.bus.reader import SlotReader

Until = Callable[..., Awaitable[None]]


class Ear:
    """A reader that runs, and what it was told."""

    def __init__(self, url: str, **options: Any) -> None:
        self.messages: list[tuple[int, str, int, int, bytes]] = []
        self.gaps: list[frozenset[int]] = []
        self.take: Callable[[tuple[int, str, int, int, bytes]], None] = self.messages.append
        self.reader = SlotReader(
            url,
            on_message=lambda *message: self.take(message),
            on_gap=self.gaps.append,
            name="test-reader",
            rand=Random(1),
            **options,
        )

    @property
    def node(self) -> NodeReader:
        """The reader of the only node there is."""
        (node,) = self.reader._nodes.values()
        return node

    @property
    def seqs(self) -> list[int]:
        return [seq for _, _, _, seq, _ in self.messages]

    @property
    def gap_slots(self) -> frozenset[int]:
        return frozenset().union(*self.gaps)


@asynccontextmanager
async def listening(url: str, **options: Any) -> AsyncIterator[Ear]:
    """An Ear whose reader runs until the block ends."""
    ear = Ear(url, **options)
    task = asyncio.create_task(ear.reader.run())
    try:
        yield ear
    finally:
        await ear.reader.close()
        async with asyncio.timeout(5):
            await task


@asynccontextmanager
async def publishing(url: str, **limits: Any) -> AsyncIterator[Publisher]:
    """A publisher that runs until the block ends."""
    publisher = Publisher(url, name="test-publisher", rand=Random(2), limits=Limits(**limits))
    task = asyncio.create_task(publisher.run())
    try:
        yield publisher
    finally:
        await publisher.close()
        async with asyncio.timeout(5):
            await task


async def until(condition: Callable[[], bool], what: str, deadline_s: float = 5.0) -> None:
    """Wait for a condition that other tasks make true."""
    try:
        async with asyncio.timeout(deadline_s):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not within {deadline_s} s: {what}")
