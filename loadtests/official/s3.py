"""boto3, unchanged, at the S3 server that our tests use: what our own client relies on is what Amazon's does."""

import hashlib
import io
import urllib.request
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError
from report import given, run  # type: ignore[import-not-found]

TOLD = given()
BUCKET = "fleet"
MIB = 1024 * 1024

s3: Any = boto3.client(
    "s3",
    endpoint_url=TOLD["url"],
    region_name="us-east-1",
    aws_access_key_id="key",
    aws_secret_access_key="secret",
    config=Config(s3={"addressing_style": "path"}, proxies={}),
)
big = bytes(range(256)) * (48 * 1024)


def refusal(call: Any, **arguments: Any) -> str:
    """The code of the error that a call ends with."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    raise AssertionError("it was not refused")


def bucket() -> None:
    s3.create_bucket(Bucket=BUCKET)


def put_new() -> None:
    s3.put_object(Bucket=BUCKET, Key="Requests/a.txt", Body=b"one", IfNoneMatch="*")
    code = refusal(s3.put_object, Bucket=BUCKET, Key="Requests/a.txt", Body=b"two", IfNoneMatch="*")
    assert code == "PreconditionFailed", code
    assert s3.get_object(Bucket=BUCKET, Key="Requests/a.txt")["Body"].read() == b"one"


def multipart() -> None:
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=3)
    s3.upload_fileobj(io.BytesIO(big), BUCKET, "big", Config=config)
    got = io.BytesIO()
    s3.download_fileobj(BUCKET, "big", got, Config=config)
    assert hashlib.sha256(got.getvalue()).digest() == hashlib.sha256(big).digest()
    assert s3.head_object(Bucket=BUCKET, Key="big")["ETag"].endswith('-3"')


def multipart_by_hand() -> None:
    key = {"Bucket": BUCKET, "Key": "Responses/out.bin"}
    upload = s3.create_multipart_upload(**key, ChecksumAlgorithm="SHA256")["UploadId"]
    parts = []
    for number in (2, 1, 3):
        body = big[(number - 1) * 5 * MIB : number * 5 * MIB]
        made = s3.upload_part(**key, UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="SHA256")
        parts.append({"PartNumber": number, "ETag": made["ETag"], "ChecksumSHA256": made["ChecksumSHA256"]})
    parts.sort(key=lambda part: part["PartNumber"])
    listed = s3.list_parts(**key, UploadId=upload)["Parts"]
    assert [(one["PartNumber"], one["Size"]) for one in listed] == [(1, 5 * MIB), (2, 5 * MIB), (3, 2 * MIB)]
    s3.complete_multipart_upload(**key, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*")
    again = s3.create_multipart_upload(**key)["UploadId"]
    made = s3.upload_part(**key, UploadId=again, PartNumber=1, Body=b"other")
    code = refusal(
        s3.complete_multipart_upload,
        **key,
        UploadId=again,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": made["ETag"]}]},
        IfNoneMatch="*",
    )
    assert code == "PreconditionFailed", code
    assert s3.get_object(**key)["ContentLength"] == len(big)
    s3.abort_multipart_upload(**key, UploadId=again)


def list_pages() -> None:
    for number in range(25):
        s3.put_object(Bucket=BUCKET, Key=f"Requests/truck-7/{number:02}.txt", Body=b"x")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix="Requests/truck-7/", PaginationConfig={"PageSize": 10}
    )
    found = [[one["Key"] for one in page["Contents"]] for page in pages]
    assert [len(page) for page in found] == [10, 10, 5]
    assert [key for page in found for key in page] == [f"Requests/truck-7/{number:02}.txt" for number in range(25)]


def presigned() -> None:
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "Requests/a.txt"}, ExpiresIn=60)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        assert answer.read() == b"one"


def copy_and_delete() -> None:
    s3.copy_object(Bucket=BUCKET, Key="moved.txt", CopySource={"Bucket": BUCKET, "Key": "Requests/a.txt"})
    s3.delete_object(Bucket=BUCKET, Key="Requests/a.txt")
    assert refusal(s3.head_object, Bucket=BUCKET, Key="Requests/a.txt") == "404"
    assert s3.get_object(Bucket=BUCKET, Key="moved.txt")["Body"].read() == b"one"


run(
    [
        ("bucket", bucket),
        ("put new, 412", put_new),
        ("multipart upload and download", multipart),
        ("multipart by hand, out of order, 412 at its end", multipart_by_hand),
        ("list by pages", list_pages),
        ("presigned address", presigned),
        ("copy and delete", copy_and_delete),
    ]
)
