"""The published document: bytes that are made once, when the process starts, of the resources that answer."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from starlette.responses import Response

from api.descriptions.documents import DOCUMENT
from api.openapi import encoded
from api.preconditions import is_known
from api.resource import Call, Guard, Operation, Resource

__all__ = ["DOCUMENT_PATH", "document_resources"]

DOCUMENT_PATH: Final = "/api/v1/openapi.json"
# Another version of the process may say something else under the same address.
_ASK_AGAIN: Final = "public, no-cache"


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
    return [resource]
