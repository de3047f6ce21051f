"""Photos: where to upload one, whether it is there, and where to fetch it."""

from typing import Final, Literal

from msgspec import Struct

from api.description import Answer, Description
from api.descriptions.common import Moment, Uuid
from api.descriptions.parameters import PAGE

__all__ = [
    "CONFIRM",
    "LIST_PHOTOS",
    "READ_PHOTO",
    "UPLOAD_PARAMS",
    "Photo",
    "PhotoStatus",
    "PhotosPage",
    "UploadPermission",
]

PhotoStatus = Literal["pending", "stored", "expired"]


class UploadPermission(Struct, frozen=True):
    """The one request that the store takes. No `url` for a photo that is stored already."""

    photo_id: Uuid
    status: PhotoStatus
    confirm_url: str
    method: Literal["PUT", "POST"] | None
    url: str | None
    headers: dict[str, str]
    fields: dict[str, str]
    expires_at: Moment | None


class Photo(Struct, frozen=True):
    """A photo that is at its store; `url` never expires."""

    photo_id: Uuid
    status: PhotoStatus
    inspection_id: Uuid | None
    name: str
    content_type: str
    size: int
    sha256: str
    created_at: Moment
    confirmed_at: Moment | None
    url: str


class PhotosPage(Struct, frozen=True):
    """Photos, newest first. `next` is the `cursor` of the following page."""

    photos: list[Photo]
    next: str | None


UPLOAD_PARAMS: Final = Description(
    id="photoUploadParams",
    summary="Where and how to upload a photo",
    about="Then send it there without the token, and confirm it. With `photo_id` the request may be repeated.",
    answers={
        200: Answer("The same as before, for this `photo_id`.", UploadPermission),
        201: Answer("A place for it is reserved.", UploadPermission),
    },
    problems=("not-found", "photo-exists", "photo-expired", "too-many-pending"),
    body_example={
        "name": "load.jpg",
        "content_type": "image/jpeg",
        "size": 48213,
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    },
)
CONFIRM: Final = Description(
    id="confirmPhoto",
    summary="Say that a photo was uploaded",
    about="The store itself is asked for its size and hash.",
    answers={200: Answer("It is there.", Photo)},
    problems=("not-found", "not-uploaded", "content-mismatch", "photo-expired"),
    body_example={"photo_id": "0198b7c2-0000-7000-8000-0000000000a1"},
)
READ_PHOTO: Final = Description(
    id="readPhoto",
    summary="Where a photo is",
    about="Follow it without the token; the bytes do not pass through here.",
    answers={302: Answer("At its store, for some minutes.", headers=("Location",))},
    problems=("not-found",),
)
LIST_PHOTOS: Final = Description(
    id="listInspectionPhotos",
    summary="The photos of an inspection",
    query=PAGE,
    headers=("Fleetwire-Read-After",),
    answers={200: Answer("A page, newest first.", PhotosPage)},
    problems=("not-found",),
)
