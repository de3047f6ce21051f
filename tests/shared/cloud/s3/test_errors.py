"""The one table from what S3 says to what we say, and what an answer must hold to be one."""

import pytest

from shared.cloud.errors import (
    BadPath,
    CloudError,
    ContentMismatch,
    Misconfigured,
    NotAFile,
    NotFound,
    RateLimited,
    StoreFull,
    StoreUnavailable,
)
from shared.cloud.s3.errors import Conflict, error_of, is_conflict
from shared.cloud.s3.wire import BadXml, Fault, fault_of, head_of, list_page, parts_page, upload_id_of

TABLE: list[tuple[int, str, type[CloudError]]] = [
    (404, "NoSuchKey", NotFound),
    (404, "NoSuchUpload", NotFound),
    (404, "", NotFound),
    (404, "NoSuchBucket", Misconfigured),
    (403, "AccessDenied", Misconfigured),
    (403, "SignatureDoesNotMatch", Misconfigured),
    (403, "RequestTimeTooSkewed", Misconfigured),
    (403, "InvalidObjectState", NotAFile),
    (400, "BadDigest", ContentMismatch),
    (400, "XAmzContentSHA256Mismatch", ContentMismatch),
    (400, "KeyTooLongError", BadPath),
    (400, "SomethingNew", Misconfigured),
    (409, "ConditionalRequestConflict", Conflict),
    (409, "", Conflict),
    (503, "SlowDown", RateLimited),
    (503, "ServiceUnavailable", StoreUnavailable),
    (429, "", RateLimited),
    (500, "InternalError", StoreUnavailable),
    (200, "InternalError", StoreUnavailable),
    (507, "XMinioStorageFull", StoreFull),
    (418, "", StoreUnavailable),
]


@pytest.mark.parametrize(("status", "code", "kind"), TABLE)
def test_every_answer_has_its_error(status: int, code: str, kind: type[CloudError]) -> None:
    fault = Fault(code, "said with AKIA… and a signature") if code else None
    error = error_of(status, fault, store="s3", call="put", path="a/b")
    assert type(error) is kind
    assert str(status) in str(error)
    assert "signature" not in str(error), "S3's own words may hold what was signed"


def test_being_asked_too_much_says_when_to_come_back() -> None:
    told = error_of(503, None, store="s3", call="put", retry_after_s=7.0)
    unsaid = error_of(503, None, store="s3", call="put")
    assert isinstance(told, RateLimited)
    assert isinstance(unsaid, RateLimited)
    assert (told.retry_after_s, unsaid.retry_after_s) == (7.0, 1.0)


def test_only_a_conflict_is_a_conflict() -> None:
    assert is_conflict(409, Fault("ConditionalRequestConflict", ""))
    assert is_conflict(409, None)
    assert not is_conflict(409, Fault("BucketNotEmpty", ""))
    assert not is_conflict(412, None)


def test_a_code_that_is_none_is_not_repeated() -> None:
    error = error_of(400, Fault("<script>\n", ""), store="s3", call="put")
    assert "script" not in str(error)
    assert fault_of(b"<Error><Code>Gone</Code></Error>") == Fault("Gone", "")
    assert fault_of(b"<Other/>") is None
    assert fault_of(b"\x00") is None


@pytest.mark.parametrize(
    "raw",
    [
        b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size><ETag>x</ETag></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListPartsResult><Part><PartNumber>x</PartNumber></Part></ListPartsResult>",
        b"<html/>",
    ],
)
def test_an_answer_without_what_it_must_hold_is_none(raw: bytes) -> None:
    for read in (list_page, parts_page, upload_id_of):
        with pytest.raises(BadXml):
            read(raw)


def test_an_object_has_a_size_and_an_etag_and_only_whole_checksums() -> None:
    for headers in ({}, {"content-length": "1"}, {"etag": "x"}, {"content-length": "1x", "etag": "x"}):
        with pytest.raises(BadXml):
            head_of(headers)
    composite = {
        "content-length": "1",
        "etag": '"x-3"',
        "x-amz-checksum-sha256": "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=-3",
    }
    head = head_of(
        composite | {"x-amz-checksum-crc64nvme": "rosUhgp5mIg=", "last-modified": "Sun, 22 Nov 2026 10:11:41 GMT"}
    )
    assert (head.size, head.etag, head.sha256, head.crc64nvme) == (1, "x-3", None, "rosUhgp5mIg=")
    assert head.modified_at == 1_795_342_301.0
    assert head.is_same(head_of({"content-length": "1", "etag": "y", "x-amz-checksum-crc64nvme": "rosUhgp5mIg="}))
    assert not head.is_same(head_of({"content-length": "1", "etag": "y"}))
