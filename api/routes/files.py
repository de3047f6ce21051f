"""A file by its id: a redirect to the store, for a few minutes. The bytes never pass through here.

The address is made for this one answer: by us for what the files gateway gives out, by the store itself where it can.
A store that gives no addresses out is read by the gateway.
"""

import math
from collections.abc import Mapping

import structlog
from starlette.responses import Response

from api.descriptions.files import READ_FILE
from api.inputs import uuid_of
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.clock import wall
from shared.cloud.errors import CloudError, NotAFile, NotFound, RateLimited
from shared.cloud.provider import Provider
from shared.signed_urls import LOCAL, SignedUrls
from shared.store import response_list
from shared.store.pool import Pool
from shared.store.response_list import FileRow

__all__ = ["Files"]

_log = structlog.get_logger(__name__)


class Files:
    """`GET /api/v1/files/{file_id}`"""

    def __init__(
        self, pool: Pool, signed_urls: SignedUrls, stores: Mapping[str, Provider], *, lifetime_s: float
    ) -> None:
        """`stores` are those elsewhere, by name."""
        self._pool = pool
        self._stores = stores
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
        url = self._signed(file) if file.store == LOCAL else await self._elsewhere(file)
        return Response(status_code=302, headers={"Location": url, "Referrer-Policy": "no-referrer"})

    async def _elsewhere(self, file: FileRow) -> str:
        store = self._stores.get(file.store)
        if store is None:
            _log.error("a file lies in a store that is not set up here", store=file.store)
            raise Problem("unavailable", "the store of this file cannot be reached now")
        try:
            url = await store.download_url(
                file.path,
                name=file.name,
                content_type=file.content_type,
                lifetime_s=self._lifetime_s,
                object_id=file.object_id,
            )
        except (NotFound, NotAFile):
            raise Problem("not-found", "the file is gone from its store") from None
        except RateLimited as error:
            after = str(max(1, math.ceil(error.retry_after_s)))
            raise Problem("unavailable", "the store takes no calls now", headers={"Retry-After": after}) from None
        except CloudError as error:
            _log.warning("no address of a file", store=file.store, error=str(error))
            raise Problem("unavailable", "the store of this file cannot be reached now") from None
        return url if url is not None else self._signed(file)

    def _signed(self, file: FileRow) -> str:
        return self._signed_urls.sign(
            "GET",
            file.path,
            size=file.size,
            sha256=file.sha256,
            now=wall(),
            lifetime_s=self._lifetime_s,
            content_type=file.content_type,
            name=file.name,
            store=file.store,
            object_id=file.object_id,
        )
