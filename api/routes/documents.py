"""The published document, and a page that shows it: bytes that are made once, when the process starts."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import structlog
from starlette.responses import Response

from api.descriptions.documents import DOCS_PAGE, DOCS_PIECE, DOCUMENT
from api.docs_page import CONTENT_POLICY, docs_page
from api.openapi import encoded
from api.preconditions import is_known
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource

__all__ = ["DOCUMENT_PATH", "document_resources"]

DOCUMENT_PATH: Final = "/api/v1/openapi.json"
# Another version of the process may say something else under the same address.
_ASK_AGAIN: Final = "public, no-cache"
_FOR_GOOD: Final = "public, max-age=31536000, immutable"

_log = structlog.get_logger(__name__)


def document_resources(guard: Guard, resources: Sequence[Resource], *, page_max: int) -> list[Resource]:
    """For the route table: what `resources` and this one say of themselves."""
    body = b""
    headers: dict[str, str] = {}

    async def read(call: Call) -> Response:
        if is_known(call.headers, headers["ETag"]):
            return Response(None, 304, headers)
        return Response(body, headers=headers, media_type="application/json")

    resource = Resource(guard, DOCUMENT_PATH, {"GET": Operation(read, description=DOCUMENT)})
    body = encoded([*resources, resource], page_max=page_max)
    headers = {"ETag": f'"{sha256(body).hexdigest()[:32]}"', "Cache-Control": _ASK_AGAIN}
    return [resource, *_page_resources(guard)]


def _page_resources(guard: Guard) -> list[Resource]:
    page = docs_page(DOCUMENT_PATH)
    if page is None:
        _log.warning("the page of the document is not served: swagger-ui-bundle-v2 is not installed")
        return []
    etag = f'"{page.digest}"'

    async def read_page(call: Call) -> Response:
        headers = {"ETag": etag, "Cache-Control": _ASK_AGAIN, "Content-Security-Policy": CONTENT_POLICY}
        if is_known(call.headers, etag):
            return Response(None, 304, headers)
        return Response(page.html.content, headers=headers, media_type=page.html.media_type)

    async def read_piece(call: Call) -> Response:
        piece = page.files.get(call.path["name"])
        if piece is None or call.path["digest"] != page.digest:
            raise Problem("not-found", "there is no such file of the page")
        headers = {"ETag": etag, "Cache-Control": _FOR_GOOD}
        if is_known(call.headers, etag):
            return Response(None, 304, headers)
        return Response(piece.content, headers=headers, media_type=piece.media_type)

    return [
        Resource(guard, "/docs", {"GET": Operation(read_page, description=DOCS_PAGE)}),
        Resource(guard, "/docs/{digest}/{name}", {"GET": Operation(read_piece, description=DOCS_PIECE)}),
    ]
