"""Large content to S3 by the engine of all uploads in parts."""

import os
from collections.abc import AsyncIterator
from random import Random

import pytest

from loadtests.emulators.faults import Fault
from loadtests.s3_process import S3Server
from shared.cloud.hashes import digest_of
from shared.cloud.s3.provider import S3Provider
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_plan import Patience
from shared.cloud.transfer_source import BytesContent
from tests.shared.cloud.contract import read

CONTENT = os.urandom(32 * 1024 * 1024 + 5)


@pytest.fixture
async def transfer() -> AsyncIterator[Transfer]:
    made = Transfer(patience=Patience(base_s=0.01, cap_s=0.05), rand=Random(1))
    yield made
    await made.close()


async def test_what_s3_says_of_the_whole_is_enough_to_believe_it(
    provider: S3Provider, transfer: Transfer, s3: S3Server
) -> None:
    s3.order(
        Fault("UploadPart", times=6, skip=1, status=500),
        Fault("UploadPart", kind="lose_answer"),
        Fault("CompleteMultipartUpload", kind="lose_answer"),
    )
    landed = await transfer.put(provider, "a/big", BytesContent(CONTENT))
    assert landed.content == digest_of(CONTENT)
    assert landed.object.hashes.keys() == {"crc64nvme"}
    calls = s3.calls()
    assert calls.get("GetObject", 0) == 0, "not read again"
    assert calls["UploadPart"] >= 4 + 7
    assert await read(provider, "a/big") == CONTENT
