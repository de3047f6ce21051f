"""What becomes of a file that was seen [pure]: nothing, a note in the ledger, a job, or an event.

The ledger decides. A file whose content is recorded already is not announced again, whatever else changed about it;
content that differs from what is recorded is. Files in folders that a job reserved are the job's own response and are
never announced.
"""

import mimetypes
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from shared.protocol.event import RESPONSE_READY, body_hash, encode_event
from watcher.pacing import FileStat
from watcher.places import Place

if TYPE_CHECKING:
    from shared.store.items import Facts

SOURCE: Final = "/fleetwire/watcher"

_KINDS: Final = {
    ".jpg": "photo",
    ".jpeg": "photo",
    ".png": "photo",
    ".webp": "photo",
    ".gif": "photo",
    ".heic": "photo",
    ".heif": "photo",
    ".hif": "photo",
    ".csv": "table",
    ".jsonl": "table",
    ".ndjson": "table",
    ".prompt": "model",
    ".chat": "model",
}
# Without the tables of this machine: the same name has the same type everywhere.
_types: Final = mimetypes.MimeTypes(filenames=())
_types.add_type("application/x-ndjson", ".jsonl")
_types.add_type("application/x-ndjson", ".ndjson")
_types.add_type("image/webp", ".webp")
_types.add_type("image/heic", ".heic")
_types.add_type("image/heif", ".heif")
_types.add_type("image/heif", ".hif")


@dataclass(frozen=True, slots=True)
class Seen:
    """A file with its content's hash. `racy`: it was written so lately that its time may not show a later write.

    `live`: the operating system told of it; `fresh`: it was removed before; `baseline`: the first scan came upon it.
    `identity` is the id of the job or response that it becomes, the same however often it is recorded.
    """

    place: Place
    stat: FileStat
    sha256: str
    racy: bool = False
    live: bool = False
    fresh: bool = False
    baseline: bool = False
    noticed_at: float = 0.0
    identity: UUID | None = None


class Verdict(Enum):
    """What becomes of it. The values are those of the counter."""

    UNCHANGED = "unchanged"
    TOUCHED = "touched"
    RESERVED = "reserved"
    BASELINE = "baseline"
    WAITING = "waiting"
    ANNOUNCED = "announced"


def judge(seen: Seen, facts: "Facts", *, in_baseline: bool) -> Verdict:
    """`in_baseline`: the feed's first scan is not over, or was not when this was noticed."""
    same = facts.content_version == seen.sha256 and not seen.fresh
    if seen.place.area == "response" and (facts.reserved or facts.state == "reserved"):
        return _recorded_as_is(seen, facts) if same else Verdict.RESERVED
    if same and facts.state == "waiting" and facts.device_known:
        return Verdict.ANNOUNCED
    if same:
        # The first scan may come upon a response that arrives while it runs, before the notice of it is heard.
        arrived_in_baseline = facts.state == "baseline" and seen.live and in_baseline
        if not arrived_in_baseline:
            return _recorded_as_is(seen, facts)
    elif seen.place.area == "response" and seen.baseline:
        return Verdict.BASELINE
    return Verdict.ANNOUNCED if facts.device_known else Verdict.WAITING


def _recorded_as_is(seen: Seen, facts: "Facts") -> Verdict:
    stat = (facts.inode, facts.size, facts.mtime_ns)
    return Verdict.UNCHANGED if stat == (seen.stat.inode, seen.stat.size, seen.stat.mtime_ns) else Verdict.TOUCHED


def kind_of(name: str) -> str:
    """The kind of job a request file asks for, by its extension; what is inside is for the handler to find out."""
    return _KINDS.get(PurePosixPath(name).suffix.lower(), "unknown")


def content_type_of(name: str) -> str:
    """The media type that a file's name promises."""
    guessed, encoding = _types.guess_type(f"/{name}")
    return guessed if guessed is not None and encoding is None else "application/octet-stream"


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """A ResponseReady event, ready for the log."""

    event_id: str
    body: bytes
    body_hash: bytes


def response_ready(
    *, event_id: UUID, file_id: UUID, time: str, name: str, size: int, sha256: str, traceparent: str | None = None
) -> EncodedEvent:
    """The event for one file that another system put there. Its `url` is ours and never expires."""
    data: dict[str, Any] = {
        "files": [
            {
                "file_id": str(file_id),
                "name": name,
                "size": size,
                "sha256": sha256,
                "content_type": content_type_of(name),
                "url": f"/api/v1/files/{file_id}",
            }
        ]
    }
    body = encode_event(
        event_id=str(event_id), event_type=RESPONSE_READY, source=SOURCE, time=time, data=data, traceparent=traceparent
    )
    return EncodedEvent(str(event_id), body, body_hash(RESPONSE_READY, data))
