"""S3 by the contract of all providers."""

from collections.abc import AsyncIterator, Callable

import pytest

from shared.cloud.provider import Provider
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.provider import S3Provider
from tests.shared.cloud.contract import SplitPutContract


class TestContract(SplitPutContract):
    @pytest.fixture
    async def provider(self, client_of: Callable[[], S3Client], prefix: str) -> AsyncIterator[Provider]:
        made = S3Provider(client_of(), prefix=prefix, part_size=5 * 1024 * 1024)
        yield made
        await made.close()
