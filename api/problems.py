"""Everything that can be answered instead of what was asked for: RFC 9457 problems, from one table.

`type` is `urn:fleetwire:problem:<slug>`. A problem is raised wherever it is found and becomes bytes in one place,
with the request id; docs/protocol-rest.md lists the same slugs. Nothing here ever holds what the client sent beyond
the name of a field.
"""

from collections.abc import Mapping
from random import Random
from typing import Any, Final, NamedTuple

import orjson
from starlette.responses import Response

__all__ = ["PROBLEMS", "Problem", "problem_response"]

MEDIA_TYPE: Final = "application/problem+json"


class _Kind(NamedTuple):
    status: int
    title: str
    retry_after_s: tuple[int, int] | None = None  # a jittered Retry-After from this range
    brings_retry_after: bool = False  # whoever raises it says when

    @property
    def tells_when(self) -> bool:
        """Whether Retry-After is always there."""
        return self.retry_after_s is not None or self.brings_retry_after


PROBLEMS: Final[Mapping[str, _Kind]] = {
    "invalid-request": _Kind(400, "The request is malformed"),
    "invalid-parameter": _Kind(400, "A parameter is wrong"),
    "invalid-body": _Kind(400, "The body is wrong"),
    "unauthorized": _Kind(401, "A valid token is needed"),
    "forbidden": _Kind(403, "The token does not allow this"),
    "hook-refused": _Kind(403, "The caller is not believed"),
    "not-found": _Kind(404, "There is nothing here"),
    "method-not-allowed": _Kind(405, "The method is not supported here"),
    "request-timeout": _Kind(408, "The request did not arrive in time"),
    "epoch-changed": _Kind(409, "The position is of another epoch"),
    "photo-exists": _Kind(409, "There is another photo of this id"),
    "inspection-exists": _Kind(409, "There is another inspection of this id"),
    "not-uploaded": _Kind(409, "The photo is not at its store"),
    "content-mismatch": _Kind(409, "The photo at its store is another one"),
    "photo-expired": _Kind(410, "The photo was not confirmed in time"),
    "in-progress": _Kind(409, "The same request is being handled", (1, 2)),
    "wrong-state": _Kind(409, "The state does not allow this"),
    "reset": _Kind(410, "The log does not go on from this position"),
    "precondition-failed": _Kind(412, "It has changed since"),
    "too-large": _Kind(413, "The body is too large"),
    "unsupported-media-type": _Kind(415, "The body is not JSON, plain or by gzip"),
    "ack-above-head": _Kind(422, "The position is above the head of the log"),
    "unprocessable": _Kind(422, "It cannot be done as things are"),
    "idempotency-key-reused": _Kind(422, "The key was used for another request"),
    "precondition-required": _Kind(428, "Say upon which version this is to be done"),
    "too-many-requests": _Kind(429, "Too many requests", (1, 5)),
    "rate-limited": _Kind(429, "The rate limit is reached", brings_retry_after=True),
    "keys-spent": _Kind(429, "The keys of this day are used up", brings_retry_after=True),
    "too-many-pending": _Kind(429, "Too many photos wait for their confirmation", brings_retry_after=True),
    "internal-error": _Kind(500, "Something went wrong here"),
    "unavailable": _Kind(503, "Not available now", (1, 5)),
    "no-hub": _Kind(503, "No hub has room now", (2, 8)),
    "too-many-waiting": _Kind(503, "Too many requests wait already", (1, 5)),
}


class Problem(Exception):
    """An answer other than the one asked for. `members` are extension members such as `field` or `position`."""

    def __init__(
        self, slug: str, detail: str, *, headers: Mapping[str, str] | None = None, close: bool = False, **members: Any
    ) -> None:
        """`close` ends the connection after the answer, for a request whose rest is not going to be read."""
        super().__init__(detail)
        self.slug = slug
        self.kind = PROBLEMS[slug]
        self.detail = detail
        self.headers = dict(headers or {})
        self.close = close
        self.members = members

    def __repr__(self) -> str:
        return f"Problem({self.slug}: {self.detail})"


def problem_response(problem: Problem, request_id: str, rand: Random) -> Response:
    """The problem as an answer. Retry-After is drawn anew each time, so that those sent away do not return together."""
    body = {
        "type": f"urn:fleetwire:problem:{problem.slug}",
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.members,
    }
    headers = dict(problem.headers)
    if problem.kind.retry_after_s is not None and "Retry-After" not in headers:
        headers["Retry-After"] = str(rand.randint(*problem.kind.retry_after_s))
    if problem.close:
        headers["Connection"] = "close"
    return Response(orjson.dumps(body), problem.kind.status, headers, media_type=MEDIA_TYPE)
