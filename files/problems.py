"""Everything that the gateway answers instead of a file: RFC 9457 problems, from one table."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson
from starlette.responses import Response


class _Kind(NamedTuple):
    status: int
    title: str


PROBLEMS: Final[Mapping[str, _Kind]] = {
    "invalid-request": _Kind(400, "The request is malformed"),
    "invalid-address": _Kind(400, "The address is malformed"),
    "content-mismatch": _Kind(400, "The content is not what was signed"),
    "forbidden": _Kind(403, "The address does not admit this"),
    "not-found": _Kind(404, "There is nothing here"),
    "method-not-allowed": _Kind(405, "The method is not supported here"),
    "request-timeout": _Kind(408, "The request did not arrive in time"),
    "exists": _Kind(409, "There is another file of this name"),
    "changed": _Kind(409, "The file is not the one that was signed"),
    "expired": _Kind(410, "The address has expired"),
    "length-required": _Kind(411, "Content-Length is needed"),
    "too-large": _Kind(413, "The content is too large"),
    "unsupported-media-type": _Kind(415, "Content-Encoding is not supported"),
    "internal-error": _Kind(500, "Something went wrong here"),
    "unavailable": _Kind(503, "Not available now"),
    "full": _Kind(507, "No space is left"),
}
RETRY_AFTER_S: Final = 5


class Problem(Exception):
    """An answer other than the one asked for. `reason` is for the counter, the slug unless said."""

    def __init__(self, slug: str, detail: str, *, reason: str | None = None) -> None:
        super().__init__(detail)
        self.slug = slug
        self.status, self.title = PROBLEMS[slug]
        self.detail = detail
        self.reason = reason or slug

    def response(self, request_id: str) -> Response:
        """The problem as an answer."""
        body = {
            "type": f"urn:fleetwire:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        if self.status in (503, 507):
            headers["Retry-After"] = str(RETRY_AFTER_S)
        if self.status == 405:
            headers["Allow"] = "GET, HEAD, PUT, DELETE"
        return Response(orjson.dumps(body), self.status, headers, media_type="application/problem+json")
