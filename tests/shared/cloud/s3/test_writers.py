"""Versions and moves at S3."""

from collections.abc import AsyncIterator, Callable

import pytest

from shared.cloud.s3.client import S3Client
from shared.cloud.s3.provider import S3Provider
from tests.shared.cloud.writers import WritersContract


class TestWriters(WritersContract):
    @pytest.fixture
    async def provider(self, client_of: Callable[[], S3Client], prefix: str) -> AsyncIterator[S3Provider]:
        # Parts of the usual size: whoever uploads with others would have to know it.
        made = S3Provider(client_of(), prefix=prefix)
        yield made
        await made.close()
