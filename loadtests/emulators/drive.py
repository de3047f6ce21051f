"""An emulated Google Drive: one ASGI application that speaks the wire of its API, bytes on disk, faulty by script.

What is as at Google: the answers' shape and the `fields` that choose from it, opaque page tokens that can die, trash
and deletion, the changes of a shared drive apart from those of the account, ids made beforehand, names that repeat,
uploads by session, channels without content, tokens for signed assertions. `POST /control` does from outside what a
test does by calling: see `_control`. Run as a program it prints one line of JSON with its address and its key file.
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from loadtests.emulators.blobs import BlobFolder
from loadtests.emulators.clock import EmulatedClock
from loadtests.emulators.drive_account import ServiceAccount
from loadtests.emulators.drive_channels import Channels
from loadtests.emulators.drive_corpus import FOLDER, Corpus, DriveError, File
from loadtests.emulators.drive_query import Mask, masked, parse_mask, parse_query
from loadtests.emulators.drive_uploads import Session, Sessions, split_related
from loadtests.emulators.drive_wire import (
    BASIC,
    call_of,
    check_parameters,
    fault_answer,
    file_resource,
    parent_of,
    pieces_of,
    refusal,
)
from loadtests.emulators.faults import Fault, FaultScript, FaultyWire
from loadtests.emulators.serving import serving

__all__ = ["DriveEmulator", "running_drive"]


class DriveEmulator:
    """One account. Attributes are there for tests to turn and to look at."""

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self.url = ""
        self.clock = EmulatedClock()
        self.corpus = Corpus(self.clock)
        self.account = ServiceAccount(self.clock)
        self.blobs = BlobFolder(folder)
        self.sessions = Sessions(self.clock, self.blobs)
        self.channels = Channels(self.clock, seed=seed)
        self.script = FaultScript(seed)
        self.page_max = 1000
        self.ignore_order = False
        self.quota: int | None = None
        self.calls: dict[str, int] = {}
        self._routes: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "about.get": self._about,
            "drives.get": self._drive,
            "files.list": self._list,
            "files.create": self._create,
            "files.generate_ids": self._generate_ids,
            "files.get": self._get,
            "files.download": self._download,
            "files.update": self._update,
            "files.delete": self._delete,
            "upload.begin": self._upload_begin,
            "upload.put": self._upload_put,
            "upload.end": self._upload_end,
            "changes.start": self._start_token,
            "changes.list": self._changes,
            "changes.watch": self._watch,
            "channels.stop": self._stop,
            "token": self._token,
            "control": self._control,
        }
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        bare = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        self.wire = FaultyWire(bare, self.script, name=call_of, answer=fault_answer)

    # What others do to the files, without going over the wire

    def folder(self, path: str, *, parent: str | None = None) -> str:
        """The id of a folder, made where missing. The path is relative to the account's own folder at the top."""
        at = self.corpus.file(parent or "root").id
        for name in filter(None, path.split("/")):
            there = [one for one in self.corpus.children(at) if one.name == name and one.mime == FOLDER]
            at = there[0].id if there else self._told(self.corpus.make(name, FOLDER, at)).id
        return at

    def put(self, name: str, content: bytes, *, parent: str | None = None) -> File:
        """A new file, whatever has that name."""
        return self._told(self.corpus.make(name, "application/octet-stream", parent, blob=self.blobs.put(content)))

    def write(self, file_id: str, content: bytes) -> None:
        """New content for a file."""
        self.corpus.write(self.corpus.file(file_id), self.blobs.put(content))
        self._told(self.corpus.file(file_id))

    def change(
        self, file_id: str, *, name: str | None = None, parent: str | None = None, trashed: bool | None = None
    ) -> None:
        """Rename, move, put into the trash or take out of it."""
        file = self.corpus.file(file_id)
        changes = {key: value for key, value in (("name", name), ("trashed", trashed)) if value is not None}
        self.corpus.update(file, changes, add=parent, remove=file.parent)
        self._told(file)

    def delete(self, file_id: str) -> None:
        """For good."""
        file = self.corpus.file(file_id)
        self.corpus.delete(file)
        self._told(file)

    def content(self, file_id: str) -> bytes:
        """What a file holds."""
        blob = self.corpus.file(file_id).blob
        assert blob is not None
        return blob.read()

    def _told(self, file: File) -> File:
        with contextlib.suppress(RuntimeError):
            self.channels.changed(file.drive_id)
        return file

    # Answering

    async def _answer(self, request: Request) -> Response:
        call = call_of(request.scope)
        self.calls[call] = self.calls.get(call, 0) + 1
        handler = self._routes.get(call)
        try:
            if handler is None:
                raise DriveError(404, "notFound", "Not Found")
            # A session's address is a permission by itself.
            is_open = call in ("token", "control", "upload.put", "upload.end")
            if not is_open and not self.account.admits(request.headers.get("authorization", "")):
                raise DriveError(401, "authError", "Invalid Credentials", location="Authorization")
            check_parameters(call, request.query_params)
            return await handler(request)
        except DriveError as error:
            return refusal(error)
        except ClientDisconnect:
            return Response(status_code=499)
        except (ValueError, KeyError, TypeError) as error:
            return refusal(DriveError(400, "badRequest", f"Bad Request: {error}"))

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        status, answer = self.account.grant(form, f"{self.url}/token")
        return JSONResponse(answer, status)

    async def _about(self, request: Request) -> Response:
        if "fields" not in request.query_params:
            raise DriveError(400, "required", "The 'fields' parameter is required for this method.", location="fields")
        used = sum(one.blob.size for one in self.corpus.files.values() if one.blob is not None)
        quota = {"usage": str(used)} | ({"limit": str(self.quota)} if self.quota is not None else {})
        user = {"kind": "drive#user", "emailAddress": self.account.email, "displayName": self.account.email}
        return self._fields(request, {"kind": "drive#about", "user": user, "storageQuota": quota})

    async def _drive(self, request: Request) -> Response:
        drive_id = request.url.path.rpartition("/")[2]
        if drive_id not in self.corpus.drives:
            raise DriveError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
        return self._fields(request, {"kind": "drive#drive", "id": drive_id, "name": self.corpus.drives[drive_id]})

    async def _list(self, request: Request) -> Response:
        asked = request.query_params
        query = parse_query(asked.get("q", ""))
        drive_id = self._drive_of(asked.get("driveId"), asked.get("corpora") == "drive")
        all_drives = asked.get("includeItemsFromAllDrives") == "true" and asked.get("supportsAllDrives") == "true"
        if drive_id and not all_drives:
            raise DriveError(403, "teamDrivesNotSupported", "includeItemsFromAllDrives must be true")
        if any(one != "root" and one not in self.corpus.files for one in query.parents or ()):
            raise DriveError(404, "notFound", "File not found: .", location="fileId")
        size = self._page_size(asked.get("pageSize"))
        position = self.corpus.position(asked["pageToken"], drive_id)[1] if "pageToken" in asked else 0
        everything = self.corpus.candidates(query.parents, drive_id, all_drives=all_drives)
        if (order := asked.get("orderBy")) not in (None, "createdTime"):
            raise DriveError(400, "invalid", "Invalid Value", location="orderBy")
        by_age = order is not None and not self.ignore_order
        everything.sort(key=lambda one: (one.created, one.id) if by_age else (0.0, one.id))
        # No more of them than are asked for, and one to know that there are more.
        matching = (one for one in everything if query.matches(self.corpus, one))
        found = list(itertools.islice(matching, position + size + 1))
        answer: dict[str, Any] = {"kind": "drive#fileList", "incompleteSearch": False}
        answer["files"] = [self._resource(one) for one in found[position : position + size]]
        if position + size < len(found):
            answer["nextPageToken"] = self.corpus.token(0, drive_id, position + size)
        default = f"kind,incompleteSearch,nextPageToken,files({BASIC})"
        return self._fields(request, answer, default=default)

    async def _create(self, request: Request) -> Response:
        body = json.loads(await request.body() or b"{}")
        made = self.corpus.make(
            str(body.get("name", "Untitled")),
            str(body.get("mimeType", "application/octet-stream")),
            parent_of(body),
            file_id=body.get("id"),
            blob=None if body.get("mimeType", "").startswith("application/vnd.google-apps.") else self.blobs.put(b""),
            app_properties=body.get("appProperties"),
        )
        return self._fields(request, self._resource(self._told(made)), default=BASIC)

    async def _generate_ids(self, request: Request) -> Response:
        count = int(request.query_params.get("count", "10"))
        if not 1 <= count <= 1000:
            raise DriveError(400, "invalidParameter", "Invalid value for count", location="count")
        ids = self.corpus.generate_ids(count)
        return self._fields(request, {"kind": "drive#generatedIds", "space": "drive", "ids": ids})

    async def _get(self, request: Request) -> Response:
        return self._fields(request, self._resource(self._asked_file(request)), default=BASIC)

    async def _download(self, request: Request) -> Response:
        file = self._asked_file(request)
        if file.blob is None:
            raise DriveError(403, "fileNotDownloadable", "Only files with binary content can be downloaded.")
        headers = {"Content-Type": file.mime, "Accept-Ranges": "bytes"}
        start, end, status = 0, file.blob.size, 200
        if (wanted := request.headers.get("range", "")).startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, end - int(last))
            end = min(end, int(last) + 1) if first and last else end
            if start >= file.blob.size:
                answer = refusal(DriveError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable"))
                answer.headers["Content-Range"] = f"bytes */{file.blob.size}"
                return answer
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.blob.size}"
        headers["Content-Length"] = str(end - start)
        return StreamingResponse(pieces_of(file, start, end - start), status, headers)

    async def _update(self, request: Request) -> Response:
        file = self._asked_file(request)
        body = json.loads(await request.body() or b"{}")
        asked = request.query_params
        if (removed := asked.get("removeParents")) and removed != file.parent:
            raise DriveError(404, "parentNotFound", "The specified parent was not found.", location="removeParents")
        self.corpus.update(file, body, add=asked.get("addParents"), remove=removed)
        return self._fields(request, self._resource(self._told(file)), default=BASIC)

    async def _delete(self, request: Request) -> Response:
        file = self._asked_file(request)
        self.corpus.delete(file)
        self._told(file)
        return Response(status_code=204)

    # Uploads

    async def _upload_begin(self, request: Request) -> Response:
        kind = request.query_params.get("uploadType")
        file_id = request.url.path.removeprefix("/upload/drive/v3/files").strip("/") or None
        if file_id is not None:
            self.corpus.file(file_id)
        if kind == "resumable":
            return await self._begin_session(request, file_id)
        metadata: dict[str, Any] = {}
        mime = request.headers.get("content-type", "application/octet-stream")
        body = await request.body()
        if kind == "multipart":
            described, mime, body = split_related(mime, body)
            metadata = json.loads(described)
        elif kind != "media":
            raise DriveError(400, "invalidParameter", "Unknown uploadType", location="uploadType")
        if file_id is None and metadata.get("id") is not None:
            self.corpus.check_new_id(metadata["id"])
        self._check_quota(len(body))
        blob = self.sessions.spoilt(self.blobs.put(body))
        if file_id is not None:
            file = self.corpus.file(file_id)
            self.corpus.update(file, metadata)
            self.corpus.write(file, blob)
        else:
            name, parent = str(metadata.get("name", "Untitled")), parent_of(metadata)
            known = metadata.get("appProperties")
            file = self.corpus.make(name, mime, parent, file_id=metadata.get("id"), blob=blob, app_properties=known)
        return self._fields(request, self._resource(self._told(file)), default=BASIC)

    async def _begin_session(self, request: Request, file_id: str | None) -> Response:
        metadata = json.loads(await request.body() or b"{}")
        if file_id is None:
            self.corpus.file(parent_of(metadata) or "root")
            if metadata.get("id") is not None:
                self.corpus.check_new_id(metadata["id"])
        size = request.headers.get("x-upload-content-length")
        self._check_quota(int(size or 0))
        mime = request.headers.get("x-upload-content-type", "application/octet-stream")
        session = self.sessions.begin(metadata, file_id, mime, int(size) if size else None)
        query = "&".join(f"{name}={value}" for name, value in request.query_params.items() if name == "fields")
        where = f"{self.url}/upload/drive/v3/files?uploadType=resumable&upload_id={session.key}"
        return Response(status_code=200, headers={"Location": f"{where}&{query}" if query else where})

    async def _upload_put(self, request: Request) -> Response:
        session = self.sessions.find(request.query_params.get("upload_id", ""))
        if session.made is not None:
            return self._fields(request, self._resource(self.corpus.file(session.made)), default=BASIC)
        if not await self.sessions.take(session, request):
            held = session.growing.size
            return Response(status_code=308, headers={"Range": f"bytes=0-{held - 1}"} if held else {})
        file = self._told(self._seal(session))
        return self._fields(request, self._resource(file), default=BASIC)

    async def _upload_end(self, request: Request) -> Response:
        self.sessions.drop(self.sessions.find(request.query_params.get("upload_id", "")).key)
        return Response(status_code=204)

    def _seal(self, session: Session) -> File:
        described = session.metadata
        if session.file_id is None and described.get("id") is not None:
            # Somebody may have been quicker; the session is no reservation.
            self.corpus.check_new_id(described["id"])
        blob = self.sessions.seal(session)
        if session.file_id is not None:
            file = self.corpus.file(session.file_id)
            self.corpus.write(file, blob)
        else:
            file = self.corpus.make(
                str(described.get("name", "Untitled")),
                session.mime,
                parent_of(described),
                file_id=described.get("id"),
                blob=blob,
                app_properties=described.get("appProperties"),
            )
        session.made = file.id
        return file

    # Changes

    async def _start_token(self, request: Request) -> Response:
        drive_id = self._drive_of(request.query_params.get("driveId"), False)
        token = self.corpus.token(self.corpus.start_position(), drive_id)
        return self._fields(request, {"kind": "drive#startPageToken", "startPageToken": token})

    async def _changes(self, request: Request) -> Response:
        asked = request.query_params
        drive_id = self._drive_of(asked.get("driveId"), False)
        if "pageToken" not in asked:
            raise DriveError(400, "required", "Required parameter: pageToken", location="pageToken")
        position, _ = self.corpus.position(asked["pageToken"], drive_id)
        everywhere = asked.get("includeItemsFromAllDrives") == "true" and asked.get("restrictToMyDrive") != "true"
        size = self._page_size(asked.get("pageSize"))
        entries, position = self.corpus.entries(position, size, drive_id, everywhere=everywhere)
        changes = []
        for entry in entries:
            gone = entry.file_id not in self.corpus.files
            if gone and asked.get("includeRemoved") == "false":
                continue
            change: dict[str, Any] = {
                "kind": "drive#change",
                "changeType": "file",
                "time": self.clock.iso(entry.at),
                "removed": gone,
                "fileId": entry.file_id,
            }
            if not gone:
                change["file"] = self._resource(self.corpus.files[entry.file_id])
            changes.append(change)
        token = self.corpus.token(position, drive_id)
        is_last = position >= self.corpus.start_position()
        answer = {"kind": "drive#changeList", "changes": changes}
        answer["newStartPageToken" if is_last else "nextPageToken"] = token
        default = f"kind,nextPageToken,newStartPageToken,changes(kind,changeType,time,removed,fileId,file({BASIC}))"
        return self._fields(request, answer, default=default)

    async def _watch(self, request: Request) -> Response:
        asked = request.query_params
        drive_id = self._drive_of(asked.get("driveId"), False)
        self.corpus.position(asked.get("pageToken", ""), drive_id)
        channel = self.channels.watch(
            json.loads(await request.body()),
            uri=f"{self.url}/drive/v3/changes?alt=json&pageToken={asked['pageToken']}",
            drive_id=drive_id,
            everywhere=asked.get("includeItemsFromAllDrives") == "true",
            allow_http=True,
        )
        answer = {
            "kind": "api#channel",
            "id": channel.id,
            "resourceId": channel.resource_id,
            "resourceUri": channel.resource_uri,
            "expiration": str(int(channel.expires_at * 1000)),
        }
        return JSONResponse(answer | ({"token": channel.token} if channel.token else {}))

    async def _stop(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.channels.stop(str(body.get("id")), str(body.get("resourceId")))
        return Response(status_code=204)

    # Bits

    def _asked_file(self, request: Request) -> File:
        file = self.corpus.file(request.url.path.rpartition("/")[2])
        if file.drive_id is not None and request.query_params.get("supportsAllDrives") != "true":
            raise DriveError(404, "notFound", f"File not found: {file.id}.", location="fileId")
        return file

    def _drive_of(self, drive_id: str | None, needed: bool) -> str | None:
        if (needed and drive_id is None) or (drive_id is not None and drive_id not in self.corpus.drives):
            raise DriveError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")
        return drive_id

    def _page_size(self, asked: str | None) -> int:
        size = int(asked or 100)
        if not 1 <= size <= 1000:
            raise DriveError(400, "invalidParameter", "Invalid value for pageSize", location="pageSize")
        return min(size, self.page_max)

    def _check_quota(self, size: int) -> None:
        if self.quota is None:
            return
        used = sum(one.blob.size for one in self.corpus.files.values() if one.blob is not None)
        if used + size > self.quota:
            raise DriveError(403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.")

    def _fields(self, request: Request, value: dict[str, Any], *, default: str = "*") -> Response:
        mask: Mask = parse_mask(request.query_params.get("fields", default))
        return JSONResponse(masked(value, mask))

    def _resource(self, file: File) -> dict[str, Any]:
        return file_resource(self.corpus, file)

    async def _control(self, request: Request) -> Response:
        """One order per key of the body; answers with how things stand."""
        body = json.loads(await request.body() or b"{}")
        said: dict[str, Any] = {}
        for order, value in body.items():
            match order:
                case "faults":
                    self.script.add(*(Fault(**one) for one in value))
                case "clear_faults":
                    self.script.clear()
                case "hooks":
                    for name, rate in value.items():
                        setattr(self.channels.faults, name, float(rate))
                case "expire_tokens":
                    self.corpus.expire_tokens()
                case "revoke":
                    self.account.revoke_tokens()
                case "advance":
                    self.clock.advance(float(value))
                case "set":
                    for name in value.keys() & {"page_max", "quota"}:
                        setattr(self, name, value[name])
                case "folder":
                    said["id"] = self.folder(value["path"], parent=value.get("parent"))
                case "put":
                    content = base64.b64decode(value["content"])
                    said["id"] = self.put(value["name"], content, parent=value.get("parent")).id
                case "change":
                    self.change(value.pop("id"), **value)
                case "delete":
                    self.delete(str(value))
                case "drive":
                    said["id"] = self.corpus.make_drive(str(value))
                case _:
                    raise DriveError(400, "badRequest", f"unknown order {order}")
        said |= {"calls": self.calls, "channels": len(self.channels.open), "files": len(self.corpus.files)}
        said |= {"faults": [asdict(one) for one in self.script.faults], "happened": len(self.script.happened)}
        return JSONResponse(said | {"root": self.corpus.root, "sessions": len(self.sessions.open)})


@asynccontextmanager
async def running_drive(folder: Path, *, seed: int = 0, port: int = 0) -> AsyncIterator[DriveEmulator]:
    """On a port of its own, in this loop; its bytes are below `folder`."""
    emulator = DriveEmulator(folder, seed=seed)
    try:
        async with serving(emulator.wire, port=port) as emulator.url:
            yield emulator
    finally:
        emulator.wire.released.set()
        await emulator.channels.close()
        emulator.sessions.close()


async def _serve(folder: Path, port: int) -> None:
    async with running_drive(folder, port=port) as emulator:
        key_file = emulator.account.write_key_file(folder / "key.json", f"{emulator.url}/token")
        print(json.dumps({"url": emulator.url, "key_file": str(key_file), "root": emulator.corpus.root}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="An emulated Google Drive.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetwire-drive-") as made, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.folder or Path(made), arguments.port))


if __name__ == "__main__":
    main()
