"""What S3 says went wrong, as the errors of this project [pure]: the one table.

Codes are S3's own and more exact than statuses; a HEAD brings a status alone. What a condition refused (412) means
something else for every call, so the caller says it.
"""

from typing import Final

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
from shared.cloud.s3.wire import Fault

__all__ = ["LIMIT_STATUSES", "RATE_LIMIT_S", "Conflict", "error_of", "is_conflict"]

LIMIT_STATUSES: Final = frozenset({429, 503})
"""503 is how S3 says SlowDown: nothing was done, and everybody is to wait."""
RATE_LIMIT_S: Final = 1.0
"""S3 says that it was asked too much, but not when to come back."""


class Conflict(StoreUnavailable):
    """Another request for the same key was under way; this one did nothing."""


_SETTINGS: Final = "look at FLEETWIRE_S3_…"
_BY_CODE: Final[dict[str, tuple[type[CloudError], str]]] = {
    "NoSuchKey": (NotFound, "nothing is there"),
    "NoSuchVersion": (NotFound, "nothing is there"),
    "NoSuchUpload": (NotFound, "the upload is gone"),
    "NoSuchBucket": (Misconfigured, "the bucket is not there: set FLEETWIRE_S3_BUCKET"),
    "AccessDenied": (Misconfigured, "the key may not do this: see the bucket policy in docs/cloud-stores.md"),
    "AllAccessDisabled": (Misconfigured, "the bucket is closed to everybody"),
    "AccountProblem": (Misconfigured, "the account is not in order"),
    "InvalidAccessKeyId": (Misconfigured, "the access key is unknown: set FLEETWIRE_S3_KEY_ID"),
    "SignatureDoesNotMatch": (Misconfigured, "the secret is wrong: set FLEETWIRE_S3_SECRET"),
    "ExpiredToken": (Misconfigured, "the key was lent and is over: give it a new one"),
    "InvalidToken": (Misconfigured, "the key's token is wrong"),
    "RequestTimeTooSkewed": (Misconfigured, "this machine's clock is more than 15 minutes off"),
    "RequestExpired": (Misconfigured, "this machine's clock is off"),
    "AuthorizationHeaderMalformed": (Misconfigured, "the bucket is in another region: set FLEETWIRE_S3_REGION"),
    "PermanentRedirect": (Misconfigured, "the bucket is in another region: set FLEETWIRE_S3_REGION"),
    "TemporaryRedirect": (StoreUnavailable, "the bucket is being moved"),
    "InvalidBucketName": (Misconfigured, "the bucket's name is none: set FLEETWIRE_S3_BUCKET"),
    "KeyTooLongError": (BadPath, "the key is longer than 1,024 bytes"),
    "BadDigest": (ContentMismatch, "other bytes came than were announced"),
    "InvalidDigest": (ContentMismatch, "other bytes came than were announced"),
    "XAmzContentSHA256Mismatch": (ContentMismatch, "other bytes came than were announced"),
    "XAmzContentChecksumMismatch": (ContentMismatch, "other bytes came than were announced"),
    "IncompleteBody": (StoreUnavailable, "the body broke off"),
    "RequestTimeout": (StoreUnavailable, "the body came too slowly"),
    "InvalidPart": (NotFound, "a part of the upload is gone"),
    "InvalidObjectState": (NotAFile, "it is archived: restore it first"),
    "ConditionalRequestConflict": (Conflict, "another request for it was under way"),
    "OperationAborted": (Conflict, "another request for it was under way"),
    "SlowDown": (RateLimited, "asked too much"),
    "TooManyRequests": (RateLimited, "asked too much"),
    "ServiceUnavailable": (StoreUnavailable, "does not work now"),
    "InternalError": (StoreUnavailable, "failed inside"),
    "XMinioStorageFull": (StoreFull, "no space is left"),
    "QuotaExceeded": (StoreFull, "no space is left"),
}
_BY_STATUS: Final[dict[int, tuple[type[CloudError], str]]] = {
    301: (Misconfigured, "the bucket is in another region: set FLEETWIRE_S3_REGION"),
    400: (Misconfigured, f"took the request for a wrong one: {_SETTINGS}"),
    401: (Misconfigured, f"does not know the key: {_SETTINGS}"),
    403: (Misconfigured, "the key may not do this: see the bucket policy in docs/cloud-stores.md"),
    404: (NotFound, "nothing is there"),
    405: (Misconfigured, f"does not know this method: {_SETTINGS}"),
    409: (Conflict, "another request for it was under way"),
    429: (RateLimited, "asked too much"),
    501: (Misconfigured, f"cannot do this; is it S3? {_SETTINGS}"),
    503: (RateLimited, "asked too much"),
    507: (StoreFull, "no space is left"),
}


def error_of(
    status: int, fault: Fault | None, *, store: str, call: str, path: str = "", retry_after_s: float | None = None
) -> CloudError:
    """The error for an answer that was none. S3's own message is left out: it may hold what was signed."""
    known = _BY_CODE.get(fault.code) if fault is not None else None
    kind, sense = known or _BY_STATUS.get(status, (StoreUnavailable, "answered something else"))
    code = f" {fault.code[:60]}" if fault is not None and fault.code.isascii() and fault.code.isalnum() else ""
    detail = f"{store}{f' {path!r}' if path else ''}: {sense} ({call}: {status}{code})"
    if kind is RateLimited:
        return RateLimited(detail, retry_after_s=RATE_LIMIT_S if retry_after_s is None else retry_after_s)
    return kind(detail)


def is_conflict(status: int, fault: Fault | None) -> bool:
    """Whether a request with a condition met another one under way: nothing was done, and it may be sent again."""
    return status == 409 and (fault is None or fault.code in ("ConditionalRequestConflict", "OperationAborted", ""))
