"""What Graph says, as far as it is read here [pure]: fields may be missing, others may be there.

A delta row of Business has no path, often no cTag, and of what is deleted not even a name; so nothing but the id is
taken for granted.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from shared.cloud.provider import HashKind, Object

__all__ = [
    "DriveItem",
    "DriveRow",
    "ItemPage",
    "SessionRow",
    "SubscriptionRow",
    "TokenAnswer",
    "at_of",
    "object_of",
    "path_within",
    "version_of",
]


class Hashes(msgspec.Struct, frozen=True, rename="camel"):
    """Of a file's content; SharePoint says one of them."""

    quick_xor_hash: str | None = None


class FileFacet(msgspec.Struct, frozen=True):
    """What makes an item a file."""

    hashes: Hashes | None = None


class ParentReference(msgspec.Struct, frozen=True):
    """Where an item is."""

    id: str | None = None
    path: str | None = None


class DriveItem(msgspec.Struct, frozen=True, rename="camel"):
    """A file, a folder, the root, something else (a notebook), or what is left of any of them."""

    id: str
    name: str | None = None
    size: int = 0
    e_tag: str | None = None
    c_tag: str | None = None
    last_modified_date_time: str | None = None
    parent_reference: ParentReference | None = None
    file: FileFacet | None = None
    folder: dict[str, Any] | None = None
    root: dict[str, Any] | None = None
    deleted: dict[str, Any] | None = None
    download_url: str | None = msgspec.field(default=None, name="@microsoft.graph.downloadUrl")

    def __repr__(self) -> str:
        # Not the address of its content, which is a permission by itself.
        return f"DriveItem({self.id}, {self.name!r}, {self.size})"

    @property
    def hashes(self) -> dict[HashKind, str]:
        """What is said of its content."""
        said = self.file.hashes.quick_xor_hash if self.file is not None and self.file.hashes is not None else None
        return {"quick_xor": said} if said else {}


class ItemPage(msgspec.Struct, frozen=True):
    """A page of items, and where the next one is."""

    value: list[DriveItem] = []
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")
    delta_link: str | None = msgspec.field(default=None, name="@odata.deltaLink")


class SessionRow(msgspec.Struct, frozen=True, rename="camel"):
    """An upload session. `next_expected_ranges`: `"327680-"`, `"327680-999999"`; empty when nothing is missing."""

    upload_url: str | None = None
    expiration_date_time: str | None = None
    next_expected_ranges: list[str] | None = None

    def __repr__(self) -> str:
        return f"SessionRow({self.next_expected_ranges})"

    def has_until(self, size: int, *, unsaid: int) -> int:
        """How many bytes from the beginning are there; `unsaid` of them where it does not say. Raises ValueError."""
        if self.next_expected_ranges is None:
            return unsaid
        starts = [int(one.partition("-")[0]) for one in self.next_expected_ranges]
        until = min(starts, default=size)
        if not 0 <= until <= size:
            raise ValueError("a range outside of the content")
        return until


class SubscriptionRow(msgspec.Struct, frozen=True, rename="camel"):
    """A subscription."""

    id: str
    expiration_date_time: str


class Quota(msgspec.Struct, frozen=True):
    """Bytes of a drive."""

    total: int | None = None
    used: int | None = None
    remaining: int | None = None


class DriveRow(msgspec.Struct, frozen=True):
    """A drive."""

    id: str
    name: str | None = None
    quota: Quota | None = None


class TokenAnswer(msgspec.Struct, frozen=True):
    """A token of the application."""

    access_token: str
    expires_in: int

    def __repr__(self) -> str:
        return f"TokenAnswer(for {self.expires_in} s)"


class _Inner(msgspec.Struct, frozen=True):
    code: str | None = None


class _Error(msgspec.Struct, frozen=True, rename="camel"):
    code: str = ""
    message: str = ""
    inner_error: _Inner | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """Why a call was refused."""

    error: _Error


def at_of(text: str | None) -> float | None:
    """Wall-clock seconds of a time as Graph writes it; None for what is none."""
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def version_of(item: DriveItem) -> str:
    """What changes with the content. The tags stand in only where no hash is said: they are the item's own."""
    if said := item.hashes.get("quick_xor"):
        return f"qx:{said}"
    return f"ctag:{item.c_tag}" if item.c_tag else f"etag:{item.e_tag or item.last_modified_date_time or ''}"


def stand_in_of(item: DriveItem) -> str | None:
    """The version of the same content before Graph knew its hash, which may be long after it told of the file."""
    return f"ctag:{item.c_tag}" if item.c_tag and item.hashes.get("quick_xor") else None


def object_of(item: DriveItem, path: str) -> Object:
    """A file as the port has it."""
    hashes: Mapping[HashKind, str] = item.hashes
    at = at_of(item.last_modified_date_time)
    return Object(item.id, path, item.size, version_of(item), hashes, at, stand_in_of(item))


def path_within(item: DriveItem, root_path: str) -> str | None:
    """Where an item is below the root, by what it says of its parent; None when it says nothing, or is elsewhere."""
    said = item.parent_reference.path if item.parent_reference is not None else None
    if said is None or item.name is None:
        return None
    above = unquote(said.partition("root:")[2]).strip("/")
    if root_path:
        if above.casefold() != root_path.casefold() and not above.casefold().startswith(f"{root_path.casefold()}/"):
            return None
        above = above[len(root_path) :].strip("/")
    return f"{above}/{item.name}" if above else item.name
