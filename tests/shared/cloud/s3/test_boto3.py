"""Amazon's own client and ours at one server: what one writes, the other reads."""

import asyncio
import base64
import hashlib
import io
import os
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from loadtests.s3_process import KEY, S3Server
from shared.cloud.crc64nvme import crc64_nvme, written
from shared.cloud.errors import NotFound
from shared.cloud.hashes import digest_of
from shared.cloud.provider import Offer
from shared.cloud.s3.provider import S3Provider

MIB = 1024 * 1024
BIG = os.urandom(6 * MIB + 3)


@pytest.fixture
def theirs(s3: S3Server) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=s3.url,
        region_name="us-east-1",
        aws_access_key_id=KEY.key_id,
        aws_secret_access_key=KEY.secret,
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


async def test_what_boto3_put_is_found_and_read(provider: S3Provider, theirs: Any, prefix: str) -> None:
    def put() -> None:
        theirs.put_object(Bucket="depot", Key=f"{prefix}/a/ü +%", Body=b"plain")
        theirs.put_object(Bucket="depot", Key=f"{prefix}/a/hashed", Body=b"hashed", ChecksumAlgorithm="SHA256")
        config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
        theirs.upload_fileobj(io.BytesIO(BIG), "depot", f"{prefix}/a/parts", Config=config)

    await asyncio.to_thread(put)
    for name, content in (("ü +%", b"plain"), ("hashed", b"hashed"), ("parts", BIG)):
        assert (await provider.content(f"a/{name}"))[1] == digest_of(content)
    hashed = await provider.look("a/hashed")
    assert hashed is not None
    assert hashed.hashes == {"sha256": hashlib.sha256(b"hashed").hexdigest()}
    assert {one.path async for one in provider.list("a")} == {"a/ü +%", "a/hashed", "a/parts"}
    assert (await provider.move("a/parts", "b/parts")).size == len(BIG)


async def test_what_we_put_boto3_reads_with_its_checksum_and_what_we_began_it_gives_up(
    provider: S3Provider, theirs: Any, prefix: str
) -> None:
    await provider.put_new("a/ü +%", b"ours")
    upload = await provider.begin("a/parts", Offer(len(BIG)))
    await provider.put_part(upload, 5 * MIB, BIG[5 * MIB :])

    def look() -> str:
        got = theirs.get_object(Bucket="depot", Key=f"{prefix}/a/ü +%", ChecksumMode="ENABLED")
        assert (got["Body"].read(), got["ContentType"]) == (b"ours", "application/octet-stream")
        assert got["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"ours").digest()).decode()
        (begun,) = [
            one for one in theirs.list_multipart_uploads(Bucket="depot")["Uploads"] if one["Key"] == f"{prefix}/a/parts"
        ]
        assert (begun["ChecksumAlgorithm"], begun["ChecksumType"]) == ("CRC64NVME", "FULL_OBJECT")
        (part,) = theirs.list_parts(Bucket="depot", Key=begun["Key"], UploadId=begun["UploadId"])["Parts"]
        assert (part["PartNumber"], part["Size"]) == (2, MIB + 3)
        assert part["ChecksumCRC64NVME"] == written(crc64_nvme(BIG[5 * MIB :]))
        theirs.abort_multipart_upload(Bucket="depot", Key=begun["Key"], UploadId=begun["UploadId"])
        return str(begun["UploadId"])

    assert await asyncio.to_thread(look) in upload.state
    with pytest.raises(NotFound):
        await provider.parts(upload)
