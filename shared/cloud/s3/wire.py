"""What S3 says and wants to be told [pure]: listings, parts, errors, read from XML and checked.

Keys in listings are asked for url-encoded, since XML cannot hold every character that a key can. An ETag is taken
without its quotes, and is a name of a version, no checksum: of an object that came in parts it is not its md5.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote_plus

from shared.cloud.s3.xml import BadXml, Element, escaped, parsed

__all__ = [
    "BadXml",
    "Fault",
    "Head",
    "ListPage",
    "Listed",
    "ListedPart",
    "PartsPage",
    "complete_body",
    "copied_part",
    "etag_of",
    "fault_of",
    "head_of",
    "list_page",
    "parts_page",
    "upload_id_of",
    "version_of",
]

_NUMBER_DIGITS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    key: str
    size: int
    etag: str
    modified_at: float | None


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing. `folders` are the common beginnings of keys, up to the delimiter and with it."""

    objects: tuple[Listed, ...]
    folders: tuple[str, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A part that S3 has. `crc` is its CRC-64/NVME as S3 writes it."""

    number: int
    size: int
    etag: str
    crc: str | None


@dataclass(frozen=True, slots=True)
class PartsPage:
    """One page of them. `next_marker` is where to go on."""

    parts: tuple[ListedPart, ...]
    next_marker: int | None


@dataclass(frozen=True, slots=True)
class Head:
    """An object, from the headers of an answer. Checksums of checksums (`…-3`) are left out."""

    size: int
    etag: str
    modified_at: float | None
    sha256: str | None
    crc64nvme: str | None
    content_type: str | None

    def is_same(self, other: "Head") -> bool:
        """Whether both say of themselves what only the same content says. A copy may have another ETag."""
        for ours, theirs in ((self.sha256, other.sha256), (self.crc64nvme, other.crc64nvme)):
            if ours is not None and theirs is not None:
                return ours == theirs and self.size == other.size
        return self.etag == other.etag and self.size == other.size


@dataclass(frozen=True, slots=True)
class Fault:
    """An error as S3 says it."""

    code: str
    message: str


def list_page(raw: bytes) -> ListPage:
    """Of ListObjectsV2 with `encoding-type=url`. Raises BadXml."""
    root = _root(raw, "ListBucketResult")
    is_encoded = root.value("EncodingType") == "url"

    def name(text: str) -> str:
        return unquote_plus(text, errors="surrogateescape") if is_encoded else text

    objects = tuple(
        Listed(name(_need(one, "Key")), _number(one, "Size"), etag_of(_need(one, "ETag")), _time(one))
        for one in root.all("Contents")
    )
    folders = tuple(name(_need(one, "Prefix")) for one in root.all("CommonPrefixes"))
    token = root.value("NextContinuationToken") if root.value("IsTruncated") == "true" else None
    if root.value("IsTruncated") == "true" and not token:
        raise BadXml("IsTruncated without NextContinuationToken")
    return ListPage(objects, folders, token)


def parts_page(raw: bytes) -> PartsPage:
    """Of ListParts. Raises BadXml."""
    root = _root(raw, "ListPartsResult")
    parts = tuple(
        ListedPart(
            _number(one, "PartNumber"),
            _number(one, "Size"),
            etag_of(_need(one, "ETag")),
            one.value("ChecksumCRC64NVME") or None,
        )
        for one in root.all("Part")
    )
    more = root.value("IsTruncated") == "true"
    return PartsPage(parts, _number(root, "NextPartNumberMarker") if more else None)


def upload_id_of(raw: bytes) -> str:
    """Of CreateMultipartUpload. Raises BadXml."""
    return _need(_root(raw, "InitiateMultipartUploadResult"), "UploadId")


def copied_part(raw: bytes) -> tuple[str, str | None]:
    """ETag and, if it is said, CRC-64/NVME of UploadPartCopy. Raises BadXml."""
    root = parsed(raw)
    return etag_of(_need(root, "ETag")), root.value("ChecksumCRC64NVME") or None


def etag_of(text: str) -> str:
    """An ETag without its quotes."""
    return text.strip().strip('"')


def version_of(etag: str) -> str:
    """The version of an object, as rows keep it."""
    return f"etag:{etag}"


def fault_of(raw: bytes) -> Fault | None:
    """The error in an answer's body, which may have come with status 200; None for anything else."""
    try:
        root = parsed(raw)
    except BadXml:
        return None
    if root.name != "Error":
        return None
    return Fault(root.value("Code") or "", root.value("Message") or "")


def head_of(headers: Mapping[str, str]) -> Head:
    """Of HEAD and GET. Raises BadXml when what has to be there is not."""
    size = headers.get("content-length", "")
    total = headers.get("content-range", "").rpartition("/")[2]
    digits = total or size
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _NUMBER_DIGITS_MAX) or "etag" not in headers:
        raise BadXml("an object without size or ETag")
    return Head(
        int(digits),
        etag_of(headers["etag"]),
        _http_time(headers.get("last-modified", "")),
        _hex_of(headers.get("x-amz-checksum-sha256", ""), 32),
        _whole(headers.get("x-amz-checksum-crc64nvme", "")),
        headers.get("content-type"),
    )


def complete_body(parts: Iterable[tuple[int, str, str | None]]) -> bytes:
    """Of CompleteMultipartUpload, from number, ETag and checksum of each part in order."""
    lines = []
    for number, etag, crc in parts:
        checksum = f"<ChecksumCRC64NVME>{escaped(crc)}</ChecksumCRC64NVME>" if crc else ""
        lines.append(f'<Part><ETag>"{escaped(etag)}"</ETag>{checksum}<PartNumber>{number}</PartNumber></Part>')
    inner = "".join(lines)
    return (
        f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</CompleteMultipartUpload>'
    ).encode()


def _root(raw: bytes, name: str) -> Element:
    """Some stores that speak like S3 call it a Response."""
    root = parsed(raw)
    if root.name not in (name, f"{name.removesuffix('Result')}Response"):
        raise BadXml(f"<{root.name[:100]}> where <{name}> was expected")
    return root


def _need(element: Element, name: str) -> str:
    value = element.value(name)
    if not value:
        raise BadXml(f"<{element.name}> without <{name}>")
    return value


def _number(element: Element, name: str) -> int:
    text = _need(element, name)
    if not (text.isascii() and text.isdigit() and len(text) <= _NUMBER_DIGITS_MAX):
        raise BadXml(f"<{name}> is no number")
    return int(text)


def _time(element: Element) -> float | None:
    try:
        moment = datetime.fromisoformat(element.value("LastModified") or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _http_time(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _hex_of(text: str, size: int) -> str | None:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == size else None


def _whole(text: str) -> str | None:
    return text if _hex_of(text, 8) is not None else None
