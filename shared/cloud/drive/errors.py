"""The one table from Google Drive's answers to the errors of the port.

Drive says "too much" as 403 with a reason more often than as 429, and "no" for good as 403 with another one; a page
token that it does not know any more is a 400 that names the parameter.
"""

from typing import Final

import msgspec

from shared.cloud.drive import wire
from shared.cloud.errors import (
    CloudError,
    ContentChanged,
    CursorExpired,
    Misconfigured,
    NameTaken,
    NotFound,
    RateLimited,
    StoreFull,
    StoreUnavailable,
)
from shared.cloud.http import Answer

__all__ = ["error_of", "is_limit", "reason_of"]

LIMITS: Final = frozenset({"userRateLimitExceeded", "rateLimitExceeded", "sharingRateLimitExceeded"})
_DAILY: Final = frozenset({"dailyLimitExceeded", "quotaExceeded"})
_FULL: Final = frozenset(
    {
        "storageQuotaExceeded",
        "teamDriveFileLimitExceeded",
        "numChildrenInNonRootLimitExceeded",
        "activeItemCreationLimitExceeded",
        "teamDriveHierarchyTooDeep",
    }
)
_OF_THE_DRIVE: Final = frozenset({"files.list", "changes.list", "changes.start", "changes.watch"})
"""Calls that are about nothing smaller than the drive, unless they name a folder that is gone."""
_PAUSE_S: Final = 5.0
_DAILY_PAUSE_S: Final = 900.0

_BY_STATUS: Final[dict[int, type[CloudError]]] = {
    400: Misconfigured,
    401: Misconfigured,
    403: Misconfigured,
    404: NotFound,
    405: Misconfigured,
    409: NameTaken,
    410: CursorExpired,
    412: ContentChanged,
    416: ContentChanged,
}
_BY_REASON: Final[dict[str, type[CloudError]]] = {
    **dict.fromkeys(_FULL, StoreFull),
    "fileNotDownloadable": NotFound,
    "invalidSharingRequest": Misconfigured,
}


def reason_of(answer: Answer) -> tuple[str, str]:
    """Drive's word for what is wrong, and the parameter it is about; empty when it says neither."""
    try:
        error = msgspec.json.decode(answer.body, type=wire.ApiError).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    if isinstance(error, str):
        return error, ""
    return (error.errors[0].reason, error.errors[0].location) if error.errors else ("", "")


def is_limit(answer: Answer) -> bool:
    """Whether it says "too much, come back soon" in the way of Drive."""
    return answer.status == 403 and reason_of(answer)[0] in LIMITS


def error_of(answer: Answer, store: str, what: str) -> CloudError:
    """The error for an answer that refuses `what`. Raises nothing."""
    reason, location = reason_of(answer)
    said = f"{store}: {what}: answered {answer.status}{f' ({reason[:60]})' if reason else ''}"
    if answer.status == 429 or is_limit(answer):
        return RateLimited(said, retry_after_s=_PAUSE_S if answer.retry_after_s is None else answer.retry_after_s)
    if reason in _DAILY:
        return RateLimited(said, retry_after_s=answer.retry_after_s or _DAILY_PAUSE_S)
    if location == "pageToken":
        return CursorExpired(said)
    if answer.status == 404 and what in _OF_THE_DRIVE and location != "fileId":
        return Misconfigured(f"{said}; the shared drive is gone, or the service account is no member of it")
    kind = _BY_REASON.get(reason) or _BY_STATUS.get(answer.status, StoreUnavailable)
    if kind is Misconfigured:
        said += "; look at FLEETWIRE_DRIVE_… and at what the service account may do"
    return kind(said)
