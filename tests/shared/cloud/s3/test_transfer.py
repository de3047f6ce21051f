"""Large content to S3 by the engine of all uploads in parts."""

import os
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from loadtests.emulators.faults import Fault
from loadtests.s3_process import S3Server
from shared.cloud.hashes import digest_of
from shared.cloud.provider import Offer
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.provider import CAPABILITIES, S3Provider
from shared.cloud.s3.session import Session
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_plan import Patience, part_size
from shared.cloud.transfer_source import BytesContent
from tests.shared.cloud.contract import read

CONTENT = os.urandom(32 * 1024 * 1024 + 5)
GIB = 1024**3


@pytest.fixture
async def transfer() -> AsyncIterator[Transfer]:
    made = Transfer(patience=Patience(base_s=0.01, cap_s=0.05), rand=Random(1))
    yield made
    await made.close()


async def test_what_s3_says_of_the_whole_is_enough_to_believe_it(
    client_of: Callable[[], S3Client], prefix: str, transfer: Transfer, s3: S3Server
) -> None:
    provider = S3Provider(client_of(), prefix=prefix)
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


async def test_content_of_any_size_is_cut_as_its_parts_are_numbered(client_of: Callable[[], S3Client]) -> None:
    real = S3Provider(client_of(), prefix="sizes")
    for size in (0, 1, 10 * 1024**2, 97 * GIB, 98 * GIB, 200 * GIB, 5 * 1024 * GIB):
        upload = await real.begin("a", Offer(size))
        assert Session.of(upload).step == part_size(CAPABILITIES, size)
        await real.abort(upload)
