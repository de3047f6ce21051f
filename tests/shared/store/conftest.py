"""A pool on the test's own database, and shorthands for what goes into it."""

from collections.abc import AsyncIterator

import pytest

from shared.store.pool import Pool, open_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=8)
    yield opened
    await opened.close()
