"""Google Drive's calls, one method each: the token, the shared drive's parameters, one retry after a token died.

Every error that leaves here is one of errors.py. Single requests are sent again as retrying.py has it; a create is safe
to repeat because it brings its own id. Calls about files say `supportsAllDrives`, or see no shared drive.
"""

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from shared.cloud.drive import wire
from shared.cloud.drive.auth import Tokens
from shared.cloud.drive.errors import error_of, is_limit
from shared.cloud.errors import NotFound, StoreUnavailable
from shared.cloud.http import Answer, Gate, HttpClient, Request, Streamed
from shared.cloud.retrying import ONCE

__all__ = ["DriveClient"]

T = TypeVar("T")

PAGE: Final = 1000
_OF_THE_ACCOUNT: Final = frozenset({"files/generateIds", "channels/stop", "about"})
_JSON: Final = {"Content-Type": "application/json; charset=UTF-8"}


class DriveClient:
    """The API at `url` (without a path) for one account. `drive_id` names the shared drive, if it is one."""

    def __init__(
        self,
        http: HttpClient,
        tokens: Tokens,
        *,
        url: str,
        store: str,
        drive_id: str | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._url = url.rstrip("/")
        self._store = store
        self._gate = gate
        self.drive_id = drive_id

    # Files

    async def file(self, file_id: str) -> wire.File | None:
        """What is under this id, in the trash or not; None when nothing is."""
        try:
            answer = await self._call("files.get", "GET", self._file(file_id, fields=wire.FILE_FIELDS))
        except NotFound:
            return None
        return self._read(answer, wire.File)

    async def files(
        self, query: str, *, page: str | None = None, size: int = PAGE, oldest_first: bool = False
    ) -> wire.FileList:
        """One page of the files that a query means. Drive may not heed the order where files are very many."""
        address = self._at(
            "files",
            q=query,
            fields=wire.LIST_FIELDS,
            pageSize=size,
            pageToken=page,
            spaces="drive",
            orderBy="createdTime" if oldest_first else None,
            corpora="drive" if self.drive_id else "user",
            driveId=self.drive_id,
            includeItemsFromAllDrives=True,
        )
        found = self._read(await self._call("files.list", "GET", address), wire.FileList)
        if found.incomplete_search:
            raise StoreUnavailable(f"{self._store}: the list of files is incomplete")
        return found

    async def files_in(
        self, folder_ids: list[str], *, page: str | None = None, size: int = PAGE
    ) -> tuple[wire.FileList, list[str]]:
        """One page of what lies in these folders, the trash left out; and the folders to go on with.

        Drive refuses the whole question when one of them is gone; then the first page of the others comes.
        """
        try:
            return await self.files(wire.in_folders(folder_ids), page=page, size=size), folder_ids
        except NotFound:
            there = [one for one in folder_ids if len(folder_ids) > 1 and await self.file(one) is not None]
        found = await self.files(wire.in_folders(there), size=size) if there else wire.FileList()
        return found, there

    async def ids(self, count: int) -> tuple[str, ...]:
        """Ids for files to come."""
        address = self._at("files/generateIds", count=count, space="drive")
        return self._read(await self._call("files.generate_ids", "GET", address), wire.Ids).ids

    async def create(self, metadata: Mapping[str, Any], content: bytes | None, content_type: str) -> wire.File:
        """Make a file, or without content a folder. `metadata` brings the id: NameTaken, when that was used."""
        described = json.dumps(metadata).encode()
        if content is None:
            address, headers, body = self._at("files", fields=wire.FILE_FIELDS), dict(_JSON), described
        else:
            boundary = secrets.token_hex(16)
            address = self._at("files", upload=True, uploadType="multipart", fields=wire.FILE_FIELDS)
            headers = {"Content-Type": f"multipart/related; boundary={boundary}"}
            start = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode()
            middle = f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
            body = b"".join((start, described, middle, content, f"\r\n--{boundary}--\r\n".encode()))
        answer = await self._call("files.create", "POST", address, headers=headers, body=body, repeatable=True)
        return self._read(answer, wire.File)

    async def update(
        self, file_id: str, metadata: Mapping[str, Any], *, add: str | None = None, remove: str | None = None
    ) -> wire.File:
        """Another name, another folder, the trash."""
        address = self._file(file_id, addParents=add, removeParents=remove, fields=wire.FILE_FIELDS)
        answer = await self._call(
            "files.update", "PATCH", address, headers=_JSON, body=json.dumps(metadata).encode(), repeatable=False
        )
        return self._read(answer, wire.File)

    async def delete(self, file_id: str) -> None:
        """For good. Raises NotFound."""
        await self._call("files.delete", "DELETE", self._file(file_id))

    @asynccontextmanager
    async def download(self, file_id: str, start: int, length: int) -> AsyncIterator[Streamed]:
        """Bytes of a file's newest revision."""
        for attempt in (0, 1):
            request = self._request(
                "files.download",
                "GET",
                self._file(file_id, alt="media"),
                headers={"Range": f"bytes={start}-{start + length - 1}"},
            )
            token = await self._tokens.headers()
            async with self._http.stream(request) as streamed:
                if streamed.answer.status == 401 and attempt == 0:
                    self._tokens.forget(token)
                    continue
                if streamed.answer.status not in (200, 206):
                    raise error_of(streamed.answer, self._store, "files.download")
                if streamed.answer.status == 200 and start:
                    raise StoreUnavailable(f"{self._store}: files.download: another part came than was asked for")
                yield streamed
                return

    # Uploads in parts

    async def begin_upload(self, metadata: Mapping[str, Any], size: int | None, content_type: str) -> str:
        """The address of a new session; it needs no other permission, so it is a secret."""
        address = self._at("files", upload=True, uploadType="resumable", fields=wire.FILE_FIELDS)
        headers = {**_JSON, "X-Upload-Content-Type": content_type}
        if size is not None:
            headers["X-Upload-Content-Length"] = str(size)
        body = json.dumps(metadata).encode()
        answer = await self._call("upload.begin", "POST", address, headers=headers, body=body, repeatable=True)
        if (session := answer.location) is None:
            raise StoreUnavailable(f"{self._store}: upload.begin: answered without an address")
        return self.checked_session(session)

    def checked_session(self, address: str) -> str:
        """The address, if it leads to where all calls go."""
        ours, theirs = urlsplit(self._url), urlsplit(address)
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc):
            raise StoreUnavailable(f"{self._store}: the session's address leads to another server")
        return address

    async def put_bytes(self, session: str, start: int, content: bytes, size: int | None) -> "wire.File | int":
        """Send a piece: the file once all is there, else how many bytes the session has. Sent once: see `held`."""
        total = "*" if size is None else size
        said = f"bytes {start}-{start + len(content) - 1}/{total}" if content else ""
        return await self._session_call("upload.put", session, content, said, once=True)

    async def held(self, session: str, size: int | None) -> "wire.File | int":
        """The same without sending anything. Raises NotFound when the session is gone."""
        return await self._session_call(
            "upload.status", session, b"", f"bytes */{'*' if size is None else size}", once=False
        )

    async def _session_call(
        self, call: str, session: str, content: bytes, said: str, *, once: bool
    ) -> "wire.File | int":
        # No token goes along: the address is the permission.
        request = Request(
            store=self._store,
            call=call,
            method="PUT",
            url=self.checked_session(session),
            # A content without bytes has no range: it comes whole.
            headers={"Content-Range": said} if said else {},
            body=content,
            gate=self._gate,
            is_limit=is_limit,
            policy=ONCE if once else None,
        )
        answer = await self._http.ask(request)
        if answer.status in (200, 201):
            return self._read(answer, wire.File)
        if answer.status != 308:
            raise error_of(answer, self._store, call)
        try:
            return wire.stored_bytes(answer.headers.get("range"))
        except ValueError as error:
            raise StoreUnavailable(f"{self._store}: {call}: {error}") from None

    async def end_session(self, session: str) -> None:
        """Give an upload up, if it is there at all."""
        request = Request(store=self._store, call="upload.end", method="DELETE", url=self.checked_session(session))
        await self._http.ask(request)

    # Changes

    async def start_token(self) -> str:
        """Where the log ends now."""
        address = self._at("changes/startPageToken", driveId=self.drive_id)
        return self._read(await self._call("changes.start", "GET", address), wire.StartToken).start_page_token

    async def changes(self, token: str, *, size: int = PAGE) -> wire.ChangeList:
        """One page of the log. Raises CursorExpired."""
        address = self._at(
            "changes", **self._corpus(token), pageSize=size, includeRemoved=True, fields=wire.CHANGES_FIELDS
        )
        page = self._read(await self._call("changes.list", "GET", address), wire.ChangeList)
        if (page.next_page_token is None) == (page.new_start_page_token is None):
            raise StoreUnavailable(f"{self._store}: changes.list: answered without one place to go on")
        return page

    async def watch(self, token: str, channel: Mapping[str, Any]) -> wire.Channel:
        """Have an address called."""
        address = self._at("changes/watch", **self._corpus(token))
        body = json.dumps(channel).encode()
        answer = await self._call("changes.watch", "POST", address, headers=_JSON, body=body, repeatable=False)
        return self._read(answer, wire.Channel)

    async def stop(self, channel_id: str, resource_id: str) -> None:
        """Have it called no more. Raises NotFound."""
        body = json.dumps({"id": channel_id, "resourceId": resource_id}).encode()
        address = self._at("channels/stop")
        await self._call("channels.stop", "POST", address, headers=_JSON, body=body, repeatable=True)

    async def about(self) -> tuple[wire.About, float | None]:
        """Whose account it is, and its room; the provider's clock."""
        answer = await self._call("about.get", "GET", self._at("about", fields=wire.ABOUT_FIELDS))
        return self._read(answer, wire.About), answer.server_time

    # Bits

    def _corpus(self, token: str) -> dict[str, Any]:
        return {
            "pageToken": token,
            "spaces": "drive",
            "driveId": self.drive_id,
            "includeItemsFromAllDrives": True,
        }

    def _at(self, what: str, *, upload: bool = False, **parameters: str | int | bool | None) -> str:
        # Only files and changes know the parameter; elsewhere one that is not known may be refused.
        of_drives = what not in _OF_THE_ACCOUNT
        said = wire.query(**parameters, supportsAllDrives=True if of_drives else None)
        return f"{self._url}{'/upload' if upload else ''}/drive/v3/{what}{f'?{said}' if said else ''}"

    def _file(self, file_id: str, **parameters: str | None) -> str:
        said: dict[str, Any] = dict(parameters)
        return self._at(f"files/{quote(file_id, safe='')}", **said)

    def _request(self, call: str, method: str, address: str, **rest: Any) -> Request:
        return Request(
            store=self._store,
            call=call,
            method=method,
            url=address,
            sign=self._tokens.headers,
            gate=self._gate,
            is_limit=is_limit,
            **rest,
        )

    async def _call(self, call: str, method: str, address: str, **rest: Any) -> Answer:
        request = self._request(call, method, address, **rest)
        token = await self._tokens.headers()
        answer = await self._http.ask(request)
        if answer.status == 401:
            self._tokens.forget(token)
            answer = await self._http.ask(request)
        if answer.status not in (200, 201, 204):
            raise error_of(answer, self._store, call)
        return answer

    def _read(self, answer: Answer, kind: type[T]) -> T:
        try:
            # Not strict: Drive writes numbers of 64 bits as text.
            return msgspec.json.decode(answer.body, type=kind, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreUnavailable(f"{self._store} answered {answer.status} with something else: {error}") from None
