"""What Google Drive says, as types, and what is asked of it [pure].

Fields come only when they are asked for (the `*_FIELDS` below). Numbers of 64 bits come as text. Whatever else an
answer holds is ignored; what is missing or of another kind is refused when it is decoded.
"""

import re
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

import msgspec

from shared.cloud.naming import name_key
from shared.cloud.provider import HashKind, Object

__all__ = [
    "ABOUT_FIELDS",
    "CHANGES_FIELDS",
    "FILE_FIELDS",
    "FOLDER",
    "LIST_FIELDS",
    "About",
    "ApiError",
    "Change",
    "ChangeList",
    "Channel",
    "File",
    "FileList",
    "Ids",
    "StartToken",
    "Token",
    "created_since",
    "in_folders",
    "object_of",
    "query",
    "quoted",
    "stored_bytes",
    "version_of",
]

FOLDER: Final = "application/vnd.google-apps.folder"
_NATIVE: Final = "application/vnd.google-apps."

FILE_FIELDS: Final = (
    "id,name,mimeType,parents,size,md5Checksum,sha256Checksum,headRevisionId,createdTime,modifiedTime,trashed"
)
LIST_FIELDS: Final = f"nextPageToken,incompleteSearch,files({FILE_FIELDS})"
CHANGES_FIELDS: Final = (
    f"nextPageToken,newStartPageToken,changes(changeType,removed,fileId,time,driveId,file({FILE_FIELDS}))"
)
ABOUT_FIELDS: Final = "user(emailAddress),storageQuota(limit,usage)"

_RANGE: Final = re.compile(r"bytes=0-(\d{1,15})", re.ASCII)


class File(msgspec.Struct, frozen=True, rename="camel"):
    """A file or folder. Documents of Google's own have neither size nor revision."""

    id: str
    name: str = ""
    mime_type: str = ""
    parents: tuple[str, ...] = ()
    size: int | None = None
    md5_checksum: str | None = None
    sha256_checksum: str | None = None
    head_revision_id: str | None = None
    created_time: str | None = None
    modified_time: datetime | None = None
    trashed: bool = False

    @property
    def is_folder(self) -> bool:
        return self.mime_type == FOLDER

    @property
    def is_file(self) -> bool:
        """Whether it has bytes: Google's documents and links to other files have none."""
        return not self.mime_type.startswith(_NATIVE) and self.size is not None

    def lies_in(self, folder_id: str, name: str) -> bool:
        """Whether it is there, under this name, and not in the trash."""
        return not self.trashed and folder_id in self.parents and name_key(self.name) == name_key(name)


class FileList(msgspec.Struct, frozen=True, rename="camel"):
    files: tuple[File, ...] = ()
    next_page_token: str | None = None
    incomplete_search: bool = False


class Change(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of the log; what it says of a file is how the file is now."""

    file_id: str | None = None
    change_type: str = "file"
    removed: bool = False
    file: File | None = None
    time: datetime | None = None
    drive_id: str | None = None


class ChangeList(msgspec.Struct, frozen=True, rename="camel"):
    """A page. Exactly one of the tokens is there."""

    changes: tuple[Change, ...] = ()
    next_page_token: str | None = None
    new_start_page_token: str | None = None


class StartToken(msgspec.Struct, frozen=True, rename="camel"):
    start_page_token: str


class Ids(msgspec.Struct, frozen=True):
    ids: tuple[str, ...]


class Channel(msgspec.Struct, frozen=True, rename="camel"):
    """`expiration` is milliseconds since the epoch."""

    id: str
    resource_id: str
    expiration: int | None = None


class User(msgspec.Struct, frozen=True, rename="camel"):
    email_address: str = ""


class Quota(msgspec.Struct, frozen=True):
    usage: int = 0
    limit: int | None = None


class About(msgspec.Struct, frozen=True, rename="camel"):
    user: User = msgspec.field(default_factory=User)
    storage_quota: Quota = msgspec.field(default_factory=Quota)


class Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float
    token_type: str = "Bearer"  # noqa: S105 - a kind, no secret

    def __repr__(self) -> str:
        return f"Token(expires_in={self.expires_in})"


class ErrorDetail(msgspec.Struct, frozen=True, rename="camel"):
    reason: str = ""
    location: str = ""
    message: str = ""


class ErrorBody(msgspec.Struct, frozen=True):
    message: str = ""
    errors: tuple[ErrorDetail, ...] = ()


class ApiError(msgspec.Struct, frozen=True):
    """How a refusal begins; `error` is text at the token endpoint."""

    error: ErrorBody | str = ""
    error_description: str = ""


def quoted(text: str) -> str:
    """A text within a query."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def in_folders(folder_ids: list[str]) -> str:
    """The query for all that lies in one of these folders, the trash left out."""
    places = " or ".join(f"{quoted(one)} in parents" for one in folder_ids)
    return f"({places}) and trashed = false"


def created_since(at: str | None) -> str:
    """The query for all files made then or later; None: for all."""
    return "trashed = false" + (f" and createdTime >= {quoted(at)}" if at is not None else "")


def query(**parameters: str | int | bool | None) -> str:
    """The query part of an address; what is None is left out."""
    said = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in parameters.items()
        if value is not None
    }
    return urlencode(said)


def version_of(file: File) -> str | None:
    """The content's version: its hash, and the revision by which the same content written again is told apart."""
    if not file.is_file:
        return None
    return f"md5:{file.md5_checksum or ''}+{file.head_revision_id or ''}"


def hashes_of(file: File) -> dict[HashKind, str]:
    """What Drive says of the content. All of it is lower-case hex digits already."""
    said: tuple[tuple[HashKind, str | None], ...] = (("sha256", file.sha256_checksum), ("md5", file.md5_checksum))
    return {kind: value.lower() for kind, value in said if value}


def seconds(at: datetime | None) -> float | None:
    """Wall-clock seconds."""
    return None if at is None else at.timestamp()


def object_of(file: File, path: str) -> Object:
    """The port's view of a file."""
    return Object(
        file.id,
        path,
        file.size or 0,
        version_of(file) or "",
        hashes_of(file),
        seconds(file.modified_time),
    )


def stored_bytes(header: str | None) -> int:
    """How many bytes an upload session has, from the `Range` of its answer; without one it has none.

    Raises ValueError for a header that says something else.
    """
    if header is None:
        return 0
    if (found := _RANGE.fullmatch(header.strip())) is None:
        raise ValueError(f"Range: {header[:60]!r} does not begin at the first byte")
    return int(found[1]) + 1
