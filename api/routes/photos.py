"""Photos: where to upload one, whether it is there, and where to fetch it. The bytes never pass through here.

A photo is reserved in Postgres before anybody gets the permission to upload it, and counts when its store was asked and
says that it holds just that content; whatever the uploader says is not asked for. Both requests may be sent again: the
same `photo_id` is one photo, a confirmed one stays confirmed. What is never confirmed is removed (api/photo_sweep.py).
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from random import Random
from typing import Annotated, Final, cast
from uuid import UUID

import msgspec
import structlog
from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.photos import (
    CONFIRM,
    LIST_PHOTOS,
    READ_PHOTO,
    UPLOAD_PARAMS,
    Photo,
    PhotosPage,
    PhotoStatus,
    UploadPermission,
)
from api.inputs import uuid_of
from api.pagination import InvalidCursor, SignedCursors
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from shared.clock import iso, wall
from shared.cloud.errors import CloudError, Misconfigured
from shared.cloud.photo_settings import PhotoSettings
from shared.cloud.upload_stores import UploadStores
from shared.cloud.uploads import Asset, UploadStore
from shared.protocol.ids import file_name_problem, time_ordered_uuid
from shared.store import photos
from shared.store.photos import Full, NewPhoto, PhotoRow
from shared.store.pool import Pool
from shared.store.replicas import Replicas
from shared.telemetry.metrics import API_PHOTOS
from shared.tokens import Scope

__all__ = ["Photos", "asset_of"]

CONFIRM_URL: Final = "/api/v1/photos/confirm"
LIMIT_DEFAULT: Final = 100
# The store may have to read a large file to say what it is.
CONFIRM_DEADLINE_S: Final = 60.0
_SIZE_MAX: Final = 2**53 - 1
_CURSOR: Final = (datetime, UUID)

_log = structlog.get_logger(__name__)

_Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", min_length=64, max_length=64)]
_Md5 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", min_length=32, max_length=32)]


class UploadParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be uploaded. With `photo_id` the request may be repeated. Hashes are lower-case hex digits."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    content_type: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    size: Annotated[int, msgspec.Meta(ge=1, le=_SIZE_MAX)]
    sha256: _Sha256
    md5: _Md5 | None = None
    photo_id: UUID | None = None
    inspection_id: UUID | None = None


class Confirm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which photo was uploaded."""

    photo_id: UUID


class Photos:
    """`POST /api/v1/photos/upload-params | confirm`, `GET /api/v1/photos/{photo_id}` and those of an inspection."""

    def __init__(
        self,
        pool: Pool,
        replicas: Replicas,
        stores: UploadStores,
        settings: PhotoSettings,
        cursors: SignedCursors,
        *,
        page_max: int,
        rand: Random,
    ) -> None:
        self._pool = pool
        self._replicas = replicas
        self._stores = stores
        self._settings = settings
        self._cursors = cursors
        self._page_max = page_max
        self._rand = rand

    def resources(self, guard: Guard) -> Sequence[Resource]:
        """For the route table, the fixed paths first."""
        who: frozenset[Scope] = frozenset({"device", "operator"})
        params = Operation(self.upload_params, who, body=UploadParams, idempotency="renewed", description=UPLOAD_PARAMS)
        confirm = Operation(self.confirm, who, body=Confirm, deadline_s=CONFIRM_DEADLINE_S, description=CONFIRM)
        read = Operation(self.read, who, description=READ_PHOTO)
        listed = Operation(self.list, who, description=LIST_PHOTOS, shed=Shed.FIRST)
        return [
            Resource(guard, "/api/v1/photos/upload-params", {"POST": params}),
            Resource(guard, "/api/v1/photos/confirm", {"POST": confirm}),
            Resource(guard, "/api/v1/photos/{photo_id}", {"GET": read}),
            Resource(guard, "/api/v1/inspections/{inspection_id}/photos", {"GET": listed}),
        ]

    async def upload_params(self, call: Call) -> Response:
        """Reserve the photo and sign the one request that its store takes."""
        body: UploadParams = call.body
        # Read first: what is signed now cannot outlive what is reserved later, however long this takes.
        now = wall()
        self._check(body)
        new = self._new(body, call)
        await self._check_inspection(call, body.inspection_id)
        bounds = self._settings
        found = await photos.reserve(
            self._pool, new, pending_max=bounds.photo_pending_max, pending_s=bounds.photo_pending_s
        )
        if isinstance(found, Full):
            API_PHOTOS.labels("refused").inc()
            detail = f"{bounds.photo_pending_max} photos of yours wait for their confirmation: confirm them first"
            raise Problem("too-many-pending", detail, headers={"Retry-After": str(int(found.seconds) + 1)})
        row, made = found
        if not row.is_of(new):
            raise Problem("photo-exists", "photo_id is of another photo: choose a new one", field="photo_id")
        if row.status == "expired":
            raise _expired()
        API_PHOTOS.labels("reserved" if made else "repeated").inc()
        return typed_answer(self._permission(row, now), 201 if made else 200)

    def _check(self, body: UploadParams) -> None:
        if problem := file_name_problem(body.name):
            raise _wrong("name", f"name: {problem}")
        if body.content_type not in self._settings.photo_types:
            allowed = ", ".join(sorted(self._settings.photo_types))
            raise _wrong("content_type", f"content_type must be one of {allowed}")
        if body.size > self._stores.current.size_max:
            raise _wrong("size", f"size must be at most {self._stores.current.size_max} bytes")
        asset = Asset("", body.name, body.content_type, body.size, body.sha256, body.md5)
        if refused := self._stores.current.refusal(asset):
            raise _wrong(*refused)

    def _new(self, body: UploadParams, call: Call) -> NewPhoto:
        photo_id = body.photo_id
        if photo_id is None:
            photo_id = call.once.uuid("photo") if call.once else time_ordered_uuid(wall(), self._rand)
        # Never the same again, even for the same id: what is signed for this one reaches no other.
        nonce = secrets.token_hex(8)
        return NewPhoto(
            photo_id=photo_id,
            principal=call.claims.principal,
            inspection_id=body.inspection_id,
            store=self._stores.current.name,
            object_key=f"Photos/{nonce[:2]}/{photo_id}.{nonce}",
            name=body.name,
            content_type=body.content_type,
            size=body.size,
            sha256=body.sha256,
            md5=body.md5,
        )

    async def _check_inspection(self, call: Call, inspection_id: UUID | None) -> None:
        if inspection_id is None:
            return
        inspector = await photos.inspector_of(self._pool, inspection_id)
        if inspector is None:
            raise Problem("not-found", "there is no such inspection; sync it first", field="inspection_id")
        if not _may_see(call, inspector):
            raise Problem("forbidden", "the inspection is another's", field="inspection_id")

    def _permission(self, row: PhotoRow, now: float) -> UploadPermission:
        permit = self._store(row).permit(asset_of(row), now=now) if row.status == "pending" else None
        return UploadPermission(
            photo_id=str(row.photo_id),
            status=cast("PhotoStatus", row.status),
            confirm_url=CONFIRM_URL,
            method=permit.method if permit else None,
            url=permit.url if permit else None,
            headers=dict(permit.headers) if permit else {},
            fields=dict(permit.fields) if permit else {},
            expires_at=iso(permit.expires_at) if permit else None,
        )

    async def confirm(self, call: Call) -> Response:
        """Ask the store what it holds; only that counts."""
        body: Confirm = call.body
        row = await photos.get(self._pool, body.photo_id)
        if row is None:
            raise Problem("not-found", "there is no such photo", field="photo_id")
        if row.principal != call.claims.principal and not call.claims.allows("operator"):
            raise Problem("forbidden", "the photo is another's", field="photo_id")
        if row.status == "pending":
            await self._verify(row)
            adopted = await photos.adopt(self._pool, row.photo_id, row.object_key)
            if adopted is None:
                raise _expired()
            row = adopted
            API_PHOTOS.labels("stored").inc()
        if row.status != "stored":
            raise _expired()
        return typed_answer(_shown(row))

    async def _verify(self, row: PhotoRow) -> None:
        asset = asset_of(row)
        with _translated():
            held = await self._store(row).held(asset)
        if held is None:
            API_PHOTOS.labels("absent").inc()
            raise Problem("not-uploaded", "the store does not hold it: upload it, then confirm it")
        if not held.is_(asset):
            API_PHOTOS.labels("mismatch").inc()
            detail = "the store holds another content than was announced: begin anew with another photo_id"
            raise Problem("content-mismatch", detail)

    async def read(self, call: Call) -> Response:
        """302 to the store, for its owner, for whoever inspects, or for an operator."""
        row = await photos.get(self._pool, uuid_of(call.path["photo_id"], "photo_id"))
        if row is None or row.status != "stored":
            raise Problem("not-found", "there is no such photo")
        if row.principal != call.claims.principal and not _may_see(call, row.inspector_id):
            raise Problem("forbidden", "the photo is another's")
        url = self._store(row).download(asset_of(row), now=wall())
        return Response(status_code=302, headers={"Location": url, "Referrer-Policy": "no-referrer"})

    async def list(self, call: Call) -> Response:
        """A page of what an inspection has, newest first. One row more than asked for tells of a next page."""
        inspection_id = uuid_of(call.path["inspection_id"], "inspection_id")
        limit = call.query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)
        filters = {"inspection_id": str(inspection_id)}
        before = None
        if (text := call.query.text("cursor")) is not None:
            try:
                before = self._cursors.read(text, "photos", filters, _CURSOR)
            except InvalidCursor as error:
                raise Problem("invalid-parameter", str(error), field="cursor") from None
        inspector = await photos.inspector_of(self._pool, inspection_id)
        if inspector is None:
            raise Problem("not-found", "there is no such inspection")
        if not _may_see(call, inspector):
            raise Problem("forbidden", "the inspection is another's")
        rows = await photos.page(self._replicas.after(call.read_after), inspection_id, before=before, limit=limit + 1)
        shown = rows[:limit]
        following = None
        if len(rows) > limit:
            following = self._cursors.sign("photos", filters, (shown[-1].created_at, shown[-1].photo_id))
        return typed_answer(PhotosPage([_shown(row) for row in shown], following))

    def _store(self, row: PhotoRow) -> UploadStore:
        store = self._stores.get(row.store)
        if store is None:
            _log.error("photo lies in a store that is not set up", store=row.store)
            raise Problem("unavailable", f"the photo lies in a store that is not set up here ({row.store})")
        return store


def asset_of(row: PhotoRow) -> Asset:
    """The photo as its store knows it."""
    return Asset(row.object_key, row.name, row.content_type, row.size, row.sha256, row.md5)


def _shown(row: PhotoRow) -> Photo:
    return Photo(
        photo_id=str(row.photo_id),
        status=cast("PhotoStatus", row.status),
        inspection_id=None if row.inspection_id is None else str(row.inspection_id),
        name=row.name,
        content_type=row.content_type,
        size=row.size,
        sha256=row.sha256,
        created_at=moment(row.created_at),
        confirmed_at=moment(row.confirmed_at),
        url=f"/api/v1/photos/{row.photo_id}",
    )


def _may_see(call: Call, inspector: str | None) -> bool:
    """An operator sees all, a device what it inspects."""
    return call.claims.allows("operator") or (call.claims.allows("device") and call.claims.subject == inspector)


def _wrong(field: str, detail: str) -> Problem:
    return Problem("invalid-body", detail, field=field)


def _expired() -> Problem:
    return Problem("photo-expired", "it was not confirmed in time: begin anew with another photo_id")


@contextmanager
def _translated() -> Iterator[None]:
    """What a store could not do, said to the caller without what it concerns."""
    try:
        yield
    except CloudError as error:
        log = _log.error if isinstance(error, Misconfigured) else _log.warning
        log("photo store failed", detail=str(error))
        raise Problem("unavailable", "the photo store does not answer as it should") from None
