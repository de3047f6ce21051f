"""AWS Signature Version 4 for S3 [pure]: a signed address, or signed headers, for one request.

Canonical request (method, path, query, headers, hash of the body), hashed into a string to sign, signed by a key that
is derived from the secret for one day, region and service. A signed address says UNSIGNED-PAYLOAD: what binds the
content is the signed header with its checksum. Paths are encoded once, as S3 (and no other service) has it.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlsplit

__all__ = ["EMPTY_SHA256", "Credentials", "addressed", "encoded_path", "presigned", "signed_headers"]

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "s3"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key. The session token comes with keys that were lent for a while."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def encoded_path(key: str) -> str:
    """An object's key as a path, without the first slash."""
    return quote(key, safe="/-_.~")


def addressed(url: str, query: Mapping[str, str]) -> str:
    """The address with a query, written as it is signed."""
    return f"{url}?{_canonical_query(query)}" if query else url


def presigned(
    credentials: Credentials,
    *,
    method: str,
    url: str,
    region: str,
    at: datetime,
    lifetime_s: int,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> str:
    """The address that admits this method for `lifetime_s` from `at` (UTC), with exactly these headers.

    `url` has an encoded path and no query.
    """
    parts = urlsplit(url)
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/{_SERVICE}/aws4_request"
    signed = _canonical_headers({"host": parts.netloc, **(headers or {})})
    parameters = {
        **(query or {}),
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.key_id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(lifetime_s),
        "X-Amz-SignedHeaders": ";".join(signed),
    }
    if credentials.session_token is not None:
        parameters["X-Amz-Security-Token"] = credentials.session_token
    raw_query = _canonical_query(parameters)
    signature = _signature(
        credentials.secret, (method, parts.path, raw_query), signed, _UNSIGNED, stamp=stamp, scope=scope
    )
    return f"{url}?{raw_query}&X-Amz-Signature={signature}"


def signed_headers(
    credentials: Credentials,
    *,
    method: str,
    url: str,
    region: str,
    at: datetime,
    headers: Mapping[str, str] | None = None,
    payload_sha256: str = EMPTY_SHA256,
) -> dict[str, str]:
    """The headers to send, `headers` among them; all of them are signed. `url` is as `addressed` writes it."""
    parts = urlsplit(url)
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{region}/{_SERVICE}/aws4_request"
    sent = {**(headers or {}), "x-amz-content-sha256": payload_sha256, "x-amz-date": stamp}
    if credentials.session_token is not None:
        sent["x-amz-security-token"] = credentials.session_token
    signed = _canonical_headers({"host": parts.netloc, **sent})
    signature = _signature(
        credentials.secret, (method, parts.path, parts.query), signed, payload_sha256, stamp=stamp, scope=scope
    )
    sent["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope},SignedHeaders={';'.join(signed)},Signature={signature}"
    )
    return sent


def _canonical_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name.lower(): " ".join(value.split()) for name, value in sorted(headers.items(), key=lambda h: h[0].lower())
    }


def _canonical_query(parameters: Mapping[str, str]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _signature(
    secret: str, request: tuple[str, str, str], headers: Mapping[str, str], payload: str, *, stamp: str, scope: str
) -> str:
    """`request` is method, path and canonical query."""
    method, path, raw_query = request
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = "\n".join([method, path or "/", raw_query, lines, ";".join(headers), payload])
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()
