"""The servers that a client's tests run against."""

from collections.abc import AsyncIterator

import pytest

from tests.device.fleet import Fleet


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with Fleet().running() as running:
        yield running
