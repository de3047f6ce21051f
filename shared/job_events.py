"""The event that ends a job's story for its device: exactly one, whichever attempt, worker or person brings it about.

Both kinds carry the dedupe key `job:<job_id>`, so that even two ends that should exclude each other could not both be
recorded. A dead job that an operator queues anew goes on under another key, `job:<job_id>:<redrives>`: it ends once
more, and once only. What the device needs to fetch is named by ids that never expire; nothing secret is stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from shared.protocol.event import REQUEST_FAILED, RESPONSE_READY, body_hash, encode_event
from shared.store.log import NewEvent

__all__ = ["AnnouncedFile", "request_failed", "response_ready"]

_REASON_MAX_CHARS = 500


class AnnouncedFile(NamedTuple):
    """A file of a response as the device is told of it."""

    file_id: UUID
    name: str
    size: int
    sha256: str
    content_type: str


def response_ready(
    *,
    event_id: UUID,
    job_id: UUID,
    device_id: str,
    request_name: str,
    files: Sequence[AnnouncedFile],
    source: str,
    time: str,
    traceparent: str | None = None,
    redrives: int = 0,
    answer: Mapping[str, Any] | None = None,
) -> NewEvent:
    """The response of a job is there to be fetched; or it is `answer`, and there is nothing to fetch."""
    data: dict[str, Any] = {
        "job_id": str(job_id),
        "request": {"name": request_name},
        "files": [
            {
                "file_id": str(file.file_id),
                "name": file.name,
                "size": file.size,
                "sha256": file.sha256,
                "content_type": file.content_type,
                "url": f"/api/v1/files/{file.file_id}",
            }
            for file in files
        ],
    }
    if answer is not None:
        data["answer"] = answer
    return _event(
        RESPONSE_READY,
        event_id=event_id,
        job_id=job_id,
        device_id=device_id,
        data=data,
        source=source,
        time=time,
        traceparent=traceparent,
        redrives=redrives,
    )


def request_failed(
    *,
    event_id: UUID,
    job_id: UUID,
    device_id: str,
    request_name: str,
    reason: str,
    source: str,
    time: str,
    traceparent: str | None = None,
    redrives: int = 0,
) -> NewEvent:
    """No response will come; `reason` is for the person who waits for it."""
    data = {"job_id": str(job_id), "request": {"name": request_name}, "reason": reason[:_REASON_MAX_CHARS]}
    return _event(
        REQUEST_FAILED,
        event_id=event_id,
        job_id=job_id,
        device_id=device_id,
        data=data,
        source=source,
        time=time,
        traceparent=traceparent,
        redrives=redrives,
    )


def _event(
    kind: str,
    *,
    event_id: UUID,
    job_id: UUID,
    device_id: str,
    data: dict[str, Any],
    source: str,
    time: str,
    traceparent: str | None,
    redrives: int,
) -> NewEvent:
    body = encode_event(
        event_id=str(event_id), event_type=kind, source=source, time=time, data=data, traceparent=traceparent
    )
    key = f"job:{job_id}:{redrives}" if redrives else f"job:{job_id}"
    return NewEvent(device_id, str(event_id), kind, body, body_hash(kind, data), key)
