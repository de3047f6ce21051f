"""response.json: what came of a request, and every file of the response with size and sha256. [pure]

It is linked last, so its being there says that all it names is there too; that is the commit point of a response. A
later attempt that finds it takes it as its own. It is read back as strictly as anything from outside, since others
can write into the cloud folder as well.
"""

from typing import Any, Final
from uuid import UUID

import msgspec

from shared.protocol.ids import file_name_problem
from worker.handlers.contract import DETAIL_MAX_CHARS, FILES_MAX, SUMMARY_MAX_BYTES, Answer, Outcome

__all__ = [
    "CARRIED_MAX_BYTES",
    "DOCUMENT_MAX_BYTES",
    "DOCUMENT_NAME",
    "DOCUMENT_TYPE",
    "DocumentFile",
    "InvalidDocument",
    "ResponseDocument",
    "carried",
    "decode",
    "document_of",
    "encode",
    "name_of_attempt",
]

DOCUMENT_NAME: Final = "response.json"
DOCUMENT_TYPE: Final = "application/json"
DOCUMENT_MAX_BYTES: Final = SUMMARY_MAX_BYTES + 128 * 1024
CARRIED_MAX_BYTES: Final = 4 * 1024
_NAME_MAX_BYTES: Final = 200


class InvalidDocument(ValueError):
    """A response.json that this job did not write; `str()` says what is wrong with it."""


class DocumentFile(msgspec.Struct, frozen=True):
    """A file beside the document."""

    name: str
    size: int
    sha256: str
    content_type: str


class RequestPart(msgspec.Struct, frozen=True):
    """Which request this answers."""

    name: str
    size: int
    content_version: str


class ResponseDocument(msgspec.Struct, frozen=True):
    """The document. `detail` is a sentence for people, `summary` is the handler's own."""

    job_id: UUID
    device_id: str
    request: RequestPart
    handler: str
    outcome: Outcome
    detail: str | None
    summary: dict[str, Any]
    files: list[DocumentFile]
    finished_at: str
    version: int = 1


def document_of(
    *,
    job_id: UUID,
    device_id: str,
    request: RequestPart,
    handler: str,
    answer: Answer,
    files: list[DocumentFile],
    finished_at: str,
) -> ResponseDocument:
    """The document for an answer whose files lie in the store as `files` says."""
    return ResponseDocument(
        job_id=job_id,
        device_id=device_id,
        request=request,
        handler=handler,
        outcome=answer.outcome,
        detail=answer.detail[:DETAIL_MAX_CHARS] if answer.detail is not None else None,
        summary=answer.summary,
        files=files,
        finished_at=finished_at,
    )


def encode(document: ResponseDocument) -> bytes:
    """As it is written: indented for people who look into the folder, unless that makes it too long to be read back."""
    compact = msgspec.json.encode(document)
    indented = msgspec.json.format(compact, indent=2)
    return indented if len(indented) <= DOCUMENT_MAX_BYTES else compact


def carried(document: ResponseDocument) -> dict[str, Any] | None:
    """What an event says instead of naming files, where that is all and short; None when it must be written."""
    answer = {
        "handler": document.handler,
        "outcome": document.outcome,
        "detail": document.detail,
        "summary": document.summary,
    }
    encoded = msgspec.json.encode(answer)
    if document.files or len(encoded) > CARRIED_MAX_BYTES:
        return None
    plain: dict[str, Any] = msgspec.json.decode(encoded)  # what every encoder takes, whatever the handler put in
    return plain


def decode(text: bytes, *, job_id: UUID) -> ResponseDocument:
    """Read a document that should be this job's. Raises InvalidDocument."""
    try:
        document = msgspec.json.decode(text, type=ResponseDocument)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidDocument(f"it is no response document: {error}"[:200]) from None
    if document.version != 1:
        raise InvalidDocument(f"it has version {document.version}")
    if document.job_id != job_id:
        raise InvalidDocument("it is of another job")
    if len(document.files) > FILES_MAX:
        raise InvalidDocument(f"it names {len(document.files)} files")
    names = {file.name.lower() for file in document.files}
    if len(names) != len(document.files) or DOCUMENT_NAME in names:
        raise InvalidDocument("it names a file twice")
    for file in document.files:
        if problem := file_name_problem(file.name):
            raise InvalidDocument(problem)
        if len(file.sha256) != 64 or not 0 <= file.size < 1 << 53:
            raise InvalidDocument(f"{file.name}: size or sha256 makes no sense")
    return document


def name_of_attempt(name: str, lease_token: int) -> str:
    """Another name for a file whose own name is taken by other content: `photo.jpg` becomes `photo.t3.jpg`.

    The token belongs to one attempt of the job, so no two attempts ever meet there.
    """
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or len(suffix) > 16:
        stem, suffix = name, ""
    tail = f".t{lease_token}" + (f".{suffix}" if suffix else "")
    room = _NAME_MAX_BYTES - len(tail.encode())
    return stem.encode()[:room].decode(errors="ignore") + tail
