"""A file by its id: a redirect to the store, for a few minutes. The bytes never pass through here."""

from starlette.responses import Response

from api.descriptions.files import READ_FILE
from api.inputs import uuid_of
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.clock import wall
from shared.signed_urls import SignedUrls
from shared.store import response_list
from shared.store.pool import Pool

__all__ = ["Files"]


class Files:
    """`GET /api/v1/files/{file_id}`"""

    def __init__(self, pool: Pool, signed_urls: SignedUrls, *, lifetime_s: float) -> None:
        self._pool = pool
        self._signed_urls = signed_urls
        self._lifetime_s = lifetime_s

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operation = Operation(self.read, frozenset({"device", "operator"}), description=READ_FILE)
        return Resource(guard, "/api/v1/files/{file_id}", {"GET": operation})

    async def read(self, call: Call) -> Response:
        """302 to the signed URL, for the owning device or an operator."""
        file = await response_list.file(self._pool, uuid_of(call.path["file_id"], "file_id"))
        if file is None:
            raise Problem("not-found", "there is no such file")
        call.trace.device_id = file.device_id
        is_owner = call.claims.allows("device") and call.claims.subject == file.device_id
        if not is_owner and not call.claims.allows("operator"):
            raise Problem("forbidden", "the file is of another device")
        url = self._signed_urls.sign(
            "GET",
            file.path,
            size=file.size,
            sha256=file.sha256,
            now=wall(),
            lifetime_s=self._lifetime_s,
            content_type=file.content_type,
            name=file.name,
        )
        return Response(status_code=302, headers={"Location": url, "Referrer-Policy": "no-referrer"})
