"""The shapes of Google Drive's wire, for its emulator: which call a request is, what a file and a refusal look like."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Scope

from loadtests.emulators.drive_corpus import FOLDER, Corpus, DriveError, File
from loadtests.emulators.faults import Fault

__all__ = ["BASIC", "call_of", "check_parameters", "fault_answer", "file_resource", "parent_of", "pieces_of", "refusal"]

BASIC: Final = "kind,id,name,mimeType"
"""What is said of a file when nobody asks for `fields`."""
_CALLS: Final = {
    ("GET", "/drive/v3/about"): "about.get",
    ("GET", "/drive/v3/files"): "files.list",
    ("POST", "/drive/v3/files"): "files.create",
    ("GET", "/drive/v3/files/generateIds"): "files.generate_ids",
    ("GET", "/drive/v3/changes/startPageToken"): "changes.start",
    ("GET", "/drive/v3/changes"): "changes.list",
    ("POST", "/drive/v3/changes/watch"): "changes.watch",
    ("POST", "/drive/v3/channels/stop"): "channels.stop",
    ("POST", "/token"): "token",
    ("POST", "/control"): "control",
    ("PUT", "/upload/drive/v3/files"): "upload.put",
}

_EVERYWHERE: Final = frozenset(
    {"alt", "fields", "key", "prettyPrint", "quotaUser", "uploadType", "upload_id", "$.xgafv"}
)
_DRIVES: Final = frozenset({"supportsAllDrives", "supportsTeamDrives"})
_CORPUS: Final = _DRIVES | {"driveId", "includeItemsFromAllDrives", "pageSize", "pageToken", "spaces"}
_WRITING: Final = _DRIVES | {"enforceSingleParent", "keepRevisionForever"}
_PARAMETERS: Final = {
    "files.list": _CORPUS | {"corpora", "orderBy", "q"},
    "files.get": _DRIVES | {"acknowledgeAbuse"},
    "files.download": _DRIVES | {"acknowledgeAbuse"},
    "files.create": _WRITING,
    "files.update": _WRITING | {"addParents", "removeParents"},
    "files.delete": _DRIVES | {"enforceSingleParent"},
    "files.generate_ids": frozenset({"count", "space", "type"}),
    "upload.begin": _WRITING | {"addParents", "removeParents"},
    "upload.put": _WRITING,
    "upload.end": _WRITING,
    "changes.start": _DRIVES | {"driveId"},
    "changes.list": _CORPUS | {"includeCorpusRemovals", "includeRemoved", "restrictToMyDrive"},
    "changes.watch": _CORPUS | {"includeCorpusRemovals", "includeRemoved", "restrictToMyDrive"},
}
"""What may be asked for, by the document of the API; calls that are missing take nothing of their own."""


def check_parameters(call: str, names: Iterable[str]) -> None:
    """Refuse a parameter that the call does not know."""
    for name in names:
        if name not in _EVERYWHERE and name not in _PARAMETERS.get(call, frozenset()):
            raise DriveError(400, "invalidParameter", f"Unknown parameter {name}", location=name)


def call_of(scope: Scope) -> str:
    """The name of a request's call."""
    path, method = str(scope["path"]), str(scope["method"])
    if (known := _CALLS.get((method, path))) is not None:
        return known
    if path.startswith("/upload/drive/v3/files"):
        return {"POST": "upload.begin", "PATCH": "upload.begin", "DELETE": "upload.end"}.get(method, "upload.put")
    if path.startswith("/drive/v3/files/"):
        if method == "GET":
            return "files.download" if b"alt=media" in scope["query_string"] else "files.get"
        return {"PATCH": "files.update", "DELETE": "files.delete"}.get(method, "unknown")
    return "drives.get" if path.startswith("/drive/v3/drives/") else "unknown"


def parent_of(described: dict[str, Any]) -> str | None:
    parents = described.get("parents") or [None]
    if len(parents) > 1:
        raise DriveError(400, "invalid", "A file can only have a single parent.", location="parents")
    return str(parents[0]) if parents[0] is not None else None


async def pieces_of(file: File, start: int, length: int) -> AsyncIterator[bytes]:
    assert file.blob is not None
    for piece in file.blob.pieces(start, length):
        yield piece
        await asyncio.sleep(0)


def refusal(error: DriveError) -> Response:
    limits = "LimitExceeded" in error.reason or "QuotaExceeded" in error.reason
    one: dict[str, Any] = {
        "message": error.message,
        "domain": "usageLimits" if limits else "global",
        "reason": error.reason,
    }
    if error.location is not None:
        is_header = error.location == "Authorization"
        one |= {"location": error.location, "locationType": "header" if is_header else "parameter"}
    body = {"error": {"code": error.status, "message": error.message, "errors": [one]}}
    return JSONResponse(body, error.status)


def fault_answer(fault: Fault) -> ASGIApp:
    answer = refusal(DriveError(fault.status, fault.reason or "backendError", "as scripted"))
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = fault.retry_after
    return answer


def file_resource(corpus: Corpus, file: File) -> dict[str, Any]:
    """A file as an answer has it, before `fields` choose from it."""
    said: dict[str, Any] = {
        "kind": "drive#file",
        "id": file.id,
        "name": file.name,
        "mimeType": file.mime,
        "createdTime": corpus.clock.iso(file.created),
        "modifiedTime": corpus.clock.iso(file.modified),
        "version": str(file.version),
        "trashed": corpus.trashed(file),
        "explicitlyTrashed": file.trashed_itself,
        "capabilities": {"canAddChildren": file.mime == FOLDER, "canEdit": True, "canDelete": True},
    }
    if file.parent is not None:
        said["parents"] = [file.parent]
    if file.drive_id is not None:
        said["driveId"] = file.drive_id
    if file.app_properties:
        said["appProperties"] = file.app_properties
    if file.blob is not None:
        said |= {"size": str(file.blob.size), "headRevisionId": file.revision}
        said |= {f"{name}Checksum": digest.hex() for name, digest in file.blob.hashes.items()}
    return said
