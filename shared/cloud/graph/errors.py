"""The one table from Graph's answers to the errors of the port."""

from typing import Final

import msgspec

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
from shared.cloud.graph.wire import ErrorBody
from shared.cloud.http import Answer

__all__ = ["ENDED", "code_of", "error_of"]

ENDED: Final = frozenset({401, 403, 404, 410})
"""What an address says that was a permission by itself, once it is over."""

_PAUSE_S: Final = 5.0

_BY_STATUS: Final[dict[int, type[CloudError]]] = {
    400: Misconfigured,  # invalidRequest: what was asked cannot be asked
    401: Misconfigured,  # InvalidAuthenticationToken, twice: after a new token, too
    403: Misconfigured,  # accessDenied: a permission is missing
    404: NotFound,  # itemNotFound
    405: Misconfigured,
    409: NameTaken,  # nameAlreadyExists
    410: CursorExpired,  # resync…
    412: ContentChanged,  # resourceModified
    416: ContentChanged,  # invalidRange
    423: StoreUnavailable,  # resourceLocked: somebody has it open
    507: StoreFull,  # quotaLimitReached
}
_BY_CODE: Final[dict[str, type[CloudError]]] = {
    "nameAlreadyExists": NameTaken,
    "quotaLimitReached": StoreFull,
    "resyncRequired": CursorExpired,
    "resyncChangesApplyDifferences": CursorExpired,
    "resyncChangesUploadDifferences": CursorExpired,
}
_HINT: Final = "look at FLEETWIRE_GRAPH_… and at the permissions of the application"


def code_of(answer: Answer) -> str:
    """Graph's own word for what is wrong, the inner one where there are two; empty when it says none."""
    try:
        error = msgspec.json.decode(answer.body, type=ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    inner = error.inner_error.code if error.inner_error is not None else None
    return inner or error.code


def error_of(answer: Answer, store: str, what: str) -> CloudError:
    """The error for an answer that refuses `what`."""
    code = code_of(answer)
    said = f"{store}: {what}: answered {answer.status}{f' ({code[:60]})' if code else ''}"
    if answer.status == 429 or (answer.status == 503 and answer.retry_after_s is not None):
        return RateLimited(said, retry_after_s=_PAUSE_S if answer.retry_after_s is None else answer.retry_after_s)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(answer.status, StoreUnavailable)
    if kind is CursorExpired:
        return CursorExpired(said, restart=answer.location)
    if kind is Misconfigured:
        said += f"; {_HINT}"
    return kind(said)
