"""The documented examples are of the S3 documentation; everything else is compared with Amazon's own implementation."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as AmazonCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cloud.sigv4 import EMPTY_SHA256, Credentials, encoded_path, presigned, signed_headers

KEY: Final = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
AT: Final = datetime(2013, 5, 24, tzinfo=UTC)
BUCKET: Final = "https://examplebucket.s3.amazonaws.com/"


def header_signature(method: str, path: str, headers: Mapping[str, str], payload: str = EMPTY_SHA256) -> str:
    signed = signed_headers(
        KEY, method=method, url=BUCKET + path, region="us-east-1", at=AT, headers=headers, payload_sha256=payload
    )
    return signed["Authorization"].rpartition("Signature=")[2]


def test_the_documented_signatures_come_out() -> None:
    assert header_signature("GET", "test.txt", {"Range": "bytes=0-9"}) == (
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
    put = {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}
    payload = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
    assert header_signature("PUT", encoded_path("test$file.text"), put, payload) == (
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )
    url = presigned(KEY, method="GET", url=BUCKET + "test.txt", region="us-east-1", at=AT, lifetime_s=86400)
    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=40).filter(
    lambda key: not {".", ".."} & set(key.split("/")) and "//" not in f"/{key}"
)
VALUES = st.text("abc =/;é", max_size=12).map(str.strip)


def _amazon(token: str | None) -> AmazonCredentials:
    return AmazonCredentials(KEY.key_id, KEY.secret, token)


def _signature(auth: SigV4Auth, request: AWSRequest) -> str:
    """Amazon's signature at a moment of ours."""
    request.context["timestamp"] = AT.strftime("%Y%m%dT%H%M%SZ")
    auth._modify_request_before_signing(request)
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


@settings(max_examples=60, deadline=None)
@given(KEYS, VALUES, st.sampled_from([None, "a/session+token="]), st.integers(1, 604_800))
def test_an_address_is_signed_as_amazon_signs_it(key: str, value: str, token: str | None, seconds: int) -> None:
    url, headers = BUCKET + encoded_path(key), {"If-None-Match": "*", "Content-Type": f"image/{value}x"}
    ours = presigned(
        Credentials(KEY.key_id, KEY.secret, token),
        method="PUT",
        url=url,
        region="eu-1",
        at=AT,
        lifetime_s=seconds,
        headers=headers,
        query={"response-content-type": value},
    )
    request = AWSRequest("PUT", url, headers=headers, params={"response-content-type": value})
    signature = _signature(S3SigV4QueryAuth(_amazon(token), "s3", "eu-1", expires=seconds), request)
    found = parse_qs(urlsplit(ours).query)
    assert found["X-Amz-Signature"] == [signature]
    assert found["X-Amz-SignedHeaders"] == ["content-type;host;if-none-match"]


@settings(max_examples=60, deadline=None)
@given(KEYS, st.sampled_from([None, "a/session+token="]))
def test_headers_are_signed_as_amazon_signs_them(key: str, token: str | None) -> None:
    url = BUCKET + encoded_path(key)
    ours = signed_headers(
        Credentials(KEY.key_id, KEY.secret, token),
        method="HEAD",
        url=url,
        region="eu-1",
        at=AT,
        headers={"x-amz-checksum-mode": "ENABLED"},
    )
    request = AWSRequest("HEAD", url, headers={"x-amz-checksum-mode": "ENABLED"})
    signature = _signature(S3SigV4Auth(_amazon(token), "s3", "eu-1"), request)
    assert ours["Authorization"].endswith(f"Signature={signature}")


def test_no_secret_shows() -> None:
    assert KEY.secret not in repr(KEY)
    assert "token" not in repr(Credentials("k", "s", "a token"))
