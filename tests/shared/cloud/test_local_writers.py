"""Versions and moves on a local disk."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.cloud.local_provider import LocalProvider
from shared.cloud.provider import Provider
from tests.shared.cloud.writers import WritersContract


class TestWriters(WritersContract):
    @pytest.fixture
    async def provider(self, root: Path, tmp: Path) -> AsyncIterator[Provider]:
        opened = LocalProvider(root, tmp)
        yield opened
        await opened.close()
