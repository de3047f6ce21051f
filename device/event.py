"""An event as the application gets it, and the files it speaks of.

What the server sent is checked field by field before it becomes a path or an address; an event that cannot be read that
way is still given, since skipping it would be a hole: only asking it for its files fails.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from device.actions import Delivery
from device.errors import DownloadError
from shared.protocol.ids import file_name_problem
from shared.protocol.position import Position

__all__ = ["Event", "ResponseFile"]

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILE_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_SIZE_MAX: Final = 2**53


@dataclass(frozen=True, slots=True)
class ResponseFile:
    """One file of a response. `name` is safe as one path component; `url` is the API's and never expires."""

    file_id: str
    name: str
    size: int
    sha256: str
    content_type: str
    url: str

    @classmethod
    def from_data(cls, entry: object) -> "ResponseFile":
        """Read and check one entry of `data.files`. Raises DownloadError naming the field."""
        if not isinstance(entry, Mapping):
            raise DownloadError("files must hold objects")
        fields = {name: entry.get(name) for name in ("file_id", "name", "sha256", "url")}
        for name, value in fields.items():
            if not isinstance(value, str):
                raise DownloadError(f"files: {name} must be text")
        size = entry.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < _SIZE_MAX:
            raise DownloadError("files: size must be a number of bytes")
        if _FILE_ID.fullmatch(str(fields["file_id"])) is None:
            raise DownloadError("files: file_id may hold only letters, digits and -")
        if problem := file_name_problem(str(fields["name"])):
            raise DownloadError(f"files: {problem}")
        if _SHA256.fullmatch(str(fields["sha256"])) is None:
            raise DownloadError("files: sha256 must be 64 hex digits in lower case")
        content_type = entry.get("content_type")
        return cls(
            str(fields["file_id"]),
            str(fields["name"]),
            size,
            str(fields["sha256"]),
            content_type if isinstance(content_type, str) else "application/octet-stream",
            str(fields["url"]),
        )


@dataclass(frozen=True, slots=True)
class Event:
    """A CloudEvent of this device's log.

    `redelivered`: a body of this device may have begun with it before and did not get to its end. `raw` is the whole
    object.
    """

    position: Position
    id: str
    type: str
    source: str
    time: str
    data: Mapping[str, Any]
    redelivered: bool
    raw: Mapping[str, Any]

    @classmethod
    def from_delivery(cls, delivery: Delivery) -> "Event":
        """The event of a session's delivery."""
        raw = delivery.event
        data = raw.get("data")
        return cls(
            position=delivery.position,
            id=str(raw.get("id", delivery.position)),
            type=str(raw.get("type", "")),
            source=str(raw.get("source", "")),
            time=str(raw.get("time", "")),
            data=data if isinstance(data, dict) else {},
            redelivered=delivery.redelivered,
            raw=raw,
        )

    @property
    def files(self) -> list[ResponseFile]:
        """The files of a response, checked. Raises DownloadError naming the field that is wrong."""
        entries = self.data.get("files", [])
        if not isinstance(entries, list):
            raise DownloadError("files must be a list")
        return [ResponseFile.from_data(entry) for entry in entries]
