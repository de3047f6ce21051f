"""An emulated Microsoft Graph: one ASGI application that speaks the wire of drives, bytes on disk, faulty by script.

What is as at Graph: the delta feed of a drive's root and how it forgets (graph_drive.py), names that fold case, upload
sessions (graph_uploads.py), subscriptions with their handshake (graph_hooks.py), tokens of an application
(graph_login.py), resource units counted per minute, addresses of content that need no token and live for an hour.
`POST /control` does from outside what a test does by calling: see `_control`. Run as a program it prints one line of
JSON with its address.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import re
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from loadtests.emulators.blobs import Blob
from loadtests.emulators.clock import EmulatedClock
from loadtests.emulators.faults import Fault, FaultScript, FaultyWire
from loadtests.emulators.graph_addresses import Address, address_of
from loadtests.emulators.graph_drive import Drive, DriveManners, GraphBlobs, GraphFault, Item
from loadtests.emulators.graph_hooks import Subscriptions
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT, Login
from loadtests.emulators.graph_uploads import Uploads
from loadtests.emulators.meter import Meter
from loadtests.emulators.serving import serving

__all__ = ["DRIVE", "GraphEmulator", "running_graph"]

DRIVE: Final = "b!FLEET-documents"
_DOWNLOAD_S: Final = 3600.0
_DOWNLOADS_MAX: Final = 100_000
_SMALL_MAX: Final = 250 * 1024 * 1024
_UNITS: Final = {"delta": 1, "item": 1, "download": 1, "content.get": 1, "drive": 1, "token": 0, "control": 0}
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class GraphEmulator:
    """One tenant. Attributes are there for tests to turn and to look at."""

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self.url = ""
        self.content_url = ""
        """Where sessions and downloads are; at Microsoft that is another host."""
        self.clock = EmulatedClock()
        self.blobs = GraphBlobs(folder)
        self.drives: dict[str, Drive] = {}
        self.login = Login(self.clock)
        self.uploads = Uploads(self.clock)
        self.subscriptions = Subscriptions(self.clock, TENANT, seed=seed)
        self.meter = Meter(self.clock)
        self.script = FaultScript(seed)
        self.small_max = _SMALL_MAX
        self.calls: dict[str, int] = {}
        self._seed = seed
        self._downloads: dict[str, tuple[Item, float]] = {}
        self.drive = self.add_drive(DRIVE)
        self._routes: dict[str, Callable[[Request, Address], Awaitable[Response]]] = {
            "token": self._token,
            "control": self._control,
            "drive": self._drive_row,
            "delta": self._delta,
            "children": self._children,
            "item": self._item,
            "item.patch": self._patch,
            "item.delete": self._delete,
            "folder.create": self._create_folder,
            "content.get": self._content,
            "content.put": self._put,
            "download": self._download,
            "upload.begin": self._upload_begin,
            "upload.put": self._upload_put,
            "upload.status": self._upload_status,
            "upload.commit": self._upload_commit,
            "upload.cancel": self._upload_cancel,
            "subscription.list": self._subscription_list,
            "subscription.create": self._subscribe,
            "subscription.get": self._subscription,
            "subscription.renew": self._subscription_renew,
            "subscription.reauthorize": self._subscription,
            "subscription.delete": self._unsubscribe,
        }
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        bare = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        self.wire = FaultyWire(bare, self.script, name=lambda scope: address_of(scope).call, answer=self._fault_answer)

    def add_drive(self, drive_id: str, manners: DriveManners | None = None) -> Drive:
        """Another drive of this tenant."""
        made = Drive(drive_id, self.blobs, self.clock, manners or DriveManners(), self._seed)
        self.drives[drive_id] = made
        return made

    # What others do to the files, without going over the wire; whoever subscribed is told

    def write(self, path: str, content: bytes, *, drive: str = DRIVE) -> Item:
        """A file there, new or with new content."""
        return self._told(self.drives[drive], self.drives[drive].write(path, content))

    def rename(self, path: str, to: str, *, drive: str = DRIVE) -> Item:
        """Move or rename a file or folder."""
        where = self.drives[drive]
        above, _, name = to.rpartition("/")
        return self._told(where, where.move(where.walk(where.root, path), where.folder(where.root, above), name))

    def remove(self, path: str, *, drive: str = DRIVE) -> None:
        """A file or folder."""
        where = self.drives[drive]
        item = where.walk(where.root, path)
        where.remove(item)
        self._told(where, item)

    def content(self, path: str, *, drive: str = DRIVE) -> bytes | None:
        """What is there."""
        found = self.drives[drive].look(path)
        return found.blob.read() if found is not None and found.blob is not None else None

    def _told(self, drive: Drive, item: Item) -> Item:
        with contextlib.suppress(RuntimeError):
            self.subscriptions.changed(drive.id)
        return item

    # Answering

    async def _answer(self, request: Request) -> Response:
        address = address_of(request.scope)
        call = address.call
        self.calls[call] = self.calls.get(call, 0) + 1
        try:
            return await self._admitted(request, address)
        except GraphFault as error:
            return _refusal(error, inside=self.drive.manners.code_inside and error.status == 410)
        except ClientDisconnect:
            return Response(status_code=499)
        except (ValueError, KeyError, TypeError) as error:
            return _refusal(GraphFault(400, "invalidRequest", f"{type(error).__name__}: {error}"))

    async def _admitted(self, request: Request, address: Address) -> Response:
        call = address.call
        handler = self._routes.get(call)
        if handler is None:
            raise GraphFault(400, "BadRequest", "Resource not found for the segment.")
        shown = request.headers.get("authorization", "")
        if call in ("upload.put", "upload.status", "upload.cancel", "download", "upload.commit"):
            # Such an address is a permission by itself, and no other may be shown to it.
            if shown and call != "upload.commit":
                raise GraphFault(401, "unauthenticated", "An Authorization header must not be sent here.")
        elif call not in ("token", "control") and not self.login.admits(shown):
            raise GraphFault(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
        if call in ("token", "control"):
            return await handler(request, address)
        with_token = call == "delta" and (address.token or "token" in request.query_params)
        reading = self.meter.take(1 if with_token else 2 if call == "delta" else _UNITS.get(call, 2))
        if reading is not None and reading.refused_s is not None:
            headers = {"Retry-After": str(reading.refused_s), **reading.headers()}
            raise GraphFault(429, "activityLimitReached", "The app has been throttled.", headers)
        answer = await handler(request, address)
        answer.headers.update(reading.headers() if reading is not None else {})
        return answer

    def _fault_answer(self, fault: Fault) -> ASGIApp:
        usual = {429: "activityLimitReached", 503: "serviceNotAvailable", 404: "itemNotFound", 410: "resyncRequired"}
        headers = {}
        if fault.retry_after is not None:
            headers["Retry-After"] = fault.retry_after
            if fault.retry_after.isdigit():
                self.meter.told_to_wait(float(fault.retry_after))
        code = fault.reason or usual.get(fault.status, "generalException")
        return _refusal(GraphFault(fault.status, code, "As scripted.", headers))

    async def _token(self, request: Request, address: Address) -> Response:
        tenant = request.url.path.split("/")[1]
        form = dict(parse_qsl((await request.body()).decode("ascii")))
        status, answer = self.login.grant(tenant, form, f"{self.url}/{tenant}/oauth2/v2.0/token")
        return JSONResponse(answer, status)

    # Drives and items

    def _drive_of(self, address: Address) -> Drive:
        found = self.drives.get(address.drive or DRIVE)
        if found is None:
            raise GraphFault(404, "itemNotFound", "The drive could not be found.")
        return found

    def _item_of(self, address: Address) -> tuple[Drive, Item]:
        drive = self._drive_of(address)
        return drive, drive.walk(drive.find(address.item), address.path)

    async def _drive_row(self, request: Request, address: Address) -> Response:
        drive = self._drive_of(address)
        total = drive.manners.quota
        quota = {"total": total, "used": drive.used, "remaining": total - drive.used, "deleted": 0, "state": "normal"}
        row = {"id": drive.id, "driveType": "documentLibrary", "name": "Documents", "quota": quota}
        return self._selected(request, row)

    async def _delta(self, request: Request, address: Address) -> Response:
        drive, item = self._item_of(address)
        if item is not drive.root and drive.manners.business:
            raise GraphFault(400, "invalidRequest", "Delta is only supported on the root of a drive.")
        here = f"{self.url}/v1.0/drives/{drive.id}/root/delta"
        token = address.token or request.query_params.get("token") or None
        top = int(request.query_params["$top"]) if "$top" in request.query_params else None
        parents = "deltaexcludeparent" not in request.headers
        try:
            page = drive.delta(token, top=top, parents=parents)
        except GraphFault as error:
            if error.status == 410:
                error.headers["Location"] = f"{here}?token={drive.full_token()}"
            raise
        link = "@odata.nextLink" if page.more else "@odata.deltaLink"
        select = request.query_params.get("$select")
        tail = f"&$select={select}" if select else ""
        rows = [_select(row, select) for row in page.rows]
        context = f"{self.url}/v1.0/$metadata#Collection(driveItem)"
        return JSONResponse({"@odata.context": context, "value": rows, link: f"{here}?token={page.token}{tail}"})

    async def _children(self, request: Request, address: Address) -> Response:
        drive, item = self._item_of(address)
        if not item.folder:
            return JSONResponse({"value": []})
        size = min(int(request.query_params.get("$top", "200")), drive.manners.page_size)
        after = int(request.query_params.get("$skiptoken", "0"))
        found = sorted((one for one in drive.children(item) if one.order > after), key=lambda one: one.order)
        rows = [self._row(request, drive, one) for one in found[:size]]
        answer: dict[str, Any] = {"value": rows}
        if size < len(found):
            select = request.query_params.get("$select")
            here = f"{self.url}/v1.0/drives/{drive.id}/items/{item.id}/children?$top={size}"
            answer["@odata.nextLink"] = f"{here}&$skiptoken={found[size - 1].order}" + (
                f"&$select={select}" if select else ""
            )
        return JSONResponse(answer)

    async def _item(self, request: Request, address: Address) -> Response:
        drive, item = self._item_of(address)
        return JSONResponse(self._row(request, drive, item))

    async def _patch(self, request: Request, address: Address) -> Response:
        drive, item = self._item_of(address)
        _check_match(request, drive, item)
        body = json.loads(await request.body())
        behavior = request.query_params.get("@microsoft.graph.conflictBehavior") or body.get(
            "@microsoft.graph.conflictBehavior", "fail"
        )
        parent_id = (body.get("parentReference") or {}).get("id") or item.parent
        parent = drive.find(str(parent_id))
        if not parent.folder:
            raise GraphFault(400, "invalidRequest", "The parent is no folder.")
        drive.move(item, parent, str(body.get("name", item.name)), behavior)
        return JSONResponse(self._row(request, drive, self._told(drive, item)))

    async def _delete(self, request: Request, address: Address) -> Response:
        drive, item = self._item_of(address)
        _check_match(request, drive, item)
        drive.remove(item)
        self._told(drive, item)
        return Response(status_code=204)

    async def _create_folder(self, request: Request, address: Address) -> Response:
        drive, parent = self._item_of(address)
        body = json.loads(await request.body())
        if "folder" not in body:
            raise GraphFault(400, "invalidRequest", "Only folders are made like this.")
        behavior = body.get("@microsoft.graph.conflictBehavior", "fail")
        name, _ = drive.check(parent, str(body["name"]), "rename" if behavior == "rename" else "fail")
        made = drive.folder(parent, name)
        return JSONResponse(self._row(request, drive, self._told(drive, made)), 201)

    # Content

    async def _put(self, request: Request, address: Address) -> Response:
        drive = self._drive_of(address)
        behavior = request.query_params.get("@microsoft.graph.conflictBehavior", "replace")
        if address.path:
            parent, name = drive.parent_for(drive.find(address.item), address.path)
        else:
            item = drive.find(address.item)
            if item.parent is None or item.folder:
                raise GraphFault(400, "invalidRequest", "A folder has no content.")
            parent, name, behavior = drive.items[item.parent], item.name, "replace"
        drive.check(parent, name, behavior)
        growing = self.blobs.begin()
        try:
            async for piece in request.stream():
                growing.write(piece)
                if growing.size > self.small_max:
                    raise GraphFault(413, "requestEntityTooLarge", "Use an upload session.")
        except BaseException:
            growing.discard()
            raise
        mime = request.headers.get("content-type", "")
        item, is_new = drive.put(parent, name, self._spoilt(growing.seal()), behavior, mime=mime)
        return JSONResponse(self._row(request, drive, self._told(drive, item)), 201 if is_new else 200)

    def _spoilt(self, blob: Blob) -> Blob:
        if not self.uploads.spoils:
            return blob
        self.uploads.spoils -= 1
        content = bytearray(blob.read())
        content[0] ^= 1
        return self.blobs.put(bytes(content))

    async def _content(self, request: Request, address: Address) -> Response:
        drive, item = self._item_of(address)
        if item.folder:
            raise GraphFault(404, "itemNotFound", "A folder has no content.")
        return Response(status_code=302, headers={"Location": self._row(request, drive, item)[_DOWNLOAD_URL]})

    async def _download(self, request: Request, address: Address) -> Response:
        # The address is of the item: what it gives is whatever is in there by then.
        item, end = self._downloads.get(request.url.path.rpartition("/")[2], (None, 0.0))
        blob = item.blob if item is not None else None
        if item is None or blob is None or end <= self.clock.now() or item.deleted:
            raise GraphFault(404, "itemNotFound", "The resource could not be found.")
        headers = {"Content-Type": item.mime, "Accept-Ranges": "bytes"}
        start, stop, status = 0, blob.size, 200
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        if asked is not None and asked[0] != "bytes=-":
            start = int(asked[1]) if asked[1] else max(0, stop - int(asked[2]))
            stop = min(stop, int(asked[2]) + 1) if asked[1] and asked[2] else stop
            if start >= blob.size:
                raise GraphFault(416, "invalidRange", "The range is not within the content.")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
        headers["Content-Length"] = str(stop - start)
        return StreamingResponse(_pieces(blob, start, stop - start), status, headers)

    # Upload sessions

    async def _upload_begin(self, request: Request, address: Address) -> Response:
        drive = self._drive_of(address)
        body = json.loads(await request.body() or b"{}")
        parent, name = drive.parent_for(drive.find(address.item), address.path)
        session = self.uploads.begin(drive, parent, name, body, self.blobs)
        ends = self.clock.iso(session.expires_at)
        return JSONResponse({"uploadUrl": f"{self.content_url}/upload/{session.key}", "expirationDateTime": ends})

    async def _upload_put(self, request: Request, address: Address) -> Response:
        session = self.uploads.find(address.item)
        complete = await self.uploads.take(session, request)
        if complete and not session.deferred:
            item, is_new = self.uploads.commit(session)
            return JSONResponse(session.drive.row(self._told(session.drive, item)), 201 if is_new else 200)
        ends = self.clock.iso(session.expires_at)
        return JSONResponse({"expirationDateTime": ends, "nextExpectedRanges": session.missing()}, 202)

    async def _upload_status(self, request: Request, address: Address) -> Response:
        session = self.uploads.find(address.item)
        ends = self.clock.iso(session.expires_at)
        return JSONResponse({"expirationDateTime": ends, "nextExpectedRanges": session.missing()})

    async def _upload_commit(self, request: Request, address: Address) -> Response:
        session = self.uploads.find(address.item)
        if not session.deferred:
            raise GraphFault(400, "invalidRequest", "The session commits by itself.")
        item, is_new = self.uploads.commit(session)
        return JSONResponse(session.drive.row(self._told(session.drive, item)), 201 if is_new else 200)

    async def _upload_cancel(self, request: Request, address: Address) -> Response:
        self.uploads.end(self.uploads.find(address.item))
        return Response(status_code=204)

    # Subscriptions

    async def _subscribe(self, request: Request, address: Address) -> Response:
        known = {f"drives/{one}/root" for one in self.drives} | {"me/drive/root"}
        made = await self.subscriptions.create(json.loads(await request.body()), known)
        return JSONResponse(made.row(self.clock), 201)

    async def _subscription_list(self, request: Request, address: Address) -> Response:
        return JSONResponse({"value": [one.row(self.clock) for one in self.subscriptions.open.values()]})

    async def _subscription(self, request: Request, address: Address) -> Response:
        return JSONResponse(self.subscriptions.find(address.item).row(self.clock))

    async def _subscription_renew(self, request: Request, address: Address) -> Response:
        found = self.subscriptions.renew(address.item, json.loads(await request.body()))
        return JSONResponse(found.row(self.clock))

    async def _unsubscribe(self, request: Request, address: Address) -> Response:
        del self.subscriptions.open[self.subscriptions.find(address.item).id]
        return Response(status_code=204)

    # Bits

    def _row(self, request: Request, drive: Drive, item: Item) -> dict[str, Any]:
        row = drive.row(item)
        if item.blob is not None:
            key = secrets.token_urlsafe(24)
            self._downloads[key] = (item, self.clock.now() + _DOWNLOAD_S)
            while len(self._downloads) > _DOWNLOADS_MAX:
                self._downloads.pop(next(iter(self._downloads)))
            row[_DOWNLOAD_URL] = f"{self.content_url}/download/{key}"
        if request.method == "GET" and (select := request.query_params.get("$select")):
            return _select(row, select)
        return row

    def _selected(self, request: Request, row: dict[str, Any]) -> Response:
        return JSONResponse(_select(row, request.query_params.get("$select")))

    def _fill(self, drive: Drive, *, folder: str, count: int, first: int = 0, folders: int = 1) -> None:
        """Many small files at once, all of the same bytes, spread over folders (`truck-0`, …) of a folder."""
        blob = self.blobs.put(b"filled")
        places = [drive.folder(drive.root, f"{folder}/truck-{number}") for number in range(folders)]
        for number in range(first, first + count):
            drive.put(places[number % folders], f"{number:07}.txt", blob)

    async def _control(self, request: Request, address: Address) -> Response:
        """One order per key of the body; answers with how things stand."""
        body = json.loads(await request.body() or b"{}")
        drive = self.drives[str(body.pop("drive_id", DRIVE))]
        said: dict[str, Any] = {}
        for order, value in body.items():
            match order:
                case "faults":
                    self.script.add(*(Fault(**one) for one in value))
                case "clear_faults":
                    self.script.clear()
                case "hooks":
                    _turn(self.subscriptions.manners, value)
                case "manners":
                    _turn(drive.manners, value)
                case "expire_tokens":
                    drive.expire_tokens()
                case "revoke":
                    self.login.revoke()
                case "advance":
                    self.clock.advance(float(value))
                case "limit":
                    self.meter.limit = value
                case "lifecycle":
                    self.subscriptions.lifecycle(str(value["id"]), str(value["event"]))
                case "put":
                    said["id"] = self.write(str(value["path"]), base64.b64decode(value["content"]), drive=drive.id).id
                case "rename":
                    self.rename(str(value["path"]), str(value["to"]), drive=drive.id)
                case "remove":
                    self.remove(str(value), drive=drive.id)
                case "add_drive":
                    self.add_drive(str(value))
                case "fill":
                    self._fill(drive, **value)
                case _:
                    raise GraphFault(400, "invalidRequest", f"unknown order {order}")
        said |= {"calls": self.calls, "units": self.meter.spent, "early": self.meter.early}
        said |= {"files": sum(1 for _ in drive.files()), "subscriptions": list(self.subscriptions.open)}
        said |= {"faults": [asdict(one) for one in self.script.faults], "happened": len(self.script.happened)}
        return JSONResponse(said | {"sessions": len(self.uploads.open), "tokens": self.login.given})


_DOWNLOAD_URL: Final = "@microsoft.graph.downloadUrl"


def _check_match(request: Request, drive: Drive, item: Item) -> None:
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted not in ("*", drive.row(item).get("eTag")):
        raise GraphFault(412, "resourceModified", "ETag does not match current item's value.")


def _select(row: dict[str, Any], select: str | None) -> dict[str, Any]:
    if not select:
        return row
    wanted = {name.strip() for name in select.split(",")}
    return {name: value for name, value in row.items() if name in wanted or name == "deleted"}


def _turn(manners: object, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if not hasattr(manners, name):
            raise GraphFault(400, "invalidRequest", f"there is no {name} to turn")
        setattr(manners, name, value)


async def _pieces(blob: Blob, start: int, length: int) -> AsyncIterator[bytes]:
    for piece in blob.pieces(start, length):
        yield piece
        await asyncio.sleep(0)


def _refusal(error: GraphFault, *, inside: bool = False) -> Response:
    inner: dict[str, Any] = {"request-id": secrets.token_hex(8), "date": "2026-01-01T00:00:00"}
    body: dict[str, Any] = {"code": error.code, "message": error.message, "innerError": inner}
    if inside:
        body["code"] = "resyncRequired"
        inner["code"] = error.code
    return JSONResponse({"error": body}, error.status, error.headers)


@asynccontextmanager
async def running_graph(folder: Path, *, seed: int = 0, port: int = 0) -> AsyncIterator[GraphEmulator]:
    """On a port of its own, in this loop; its bytes are below `folder`."""
    emulator = GraphEmulator(folder, seed=seed)
    try:
        async with serving(emulator.wire, port=port) as emulator.url:
            emulator.content_url = emulator.url
            yield emulator
    finally:
        emulator.wire.released.set()
        emulator.uploads.close()
        await emulator.subscriptions.close()


async def _serve(folder: Path, port: int) -> None:
    async with running_graph(folder, port=port) as emulator:
        emulator.content_url = emulator.url.replace("127.0.0.1", "localhost")
        said = {"url": emulator.url, "drive": DRIVE, "tenant": TENANT, "client_id": CLIENT_ID}
        print(json.dumps(said | {"client_secret": CLIENT_SECRET}), flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="An emulated Microsoft Graph.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetwire-graph-") as made, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(arguments.folder or Path(made), arguments.port))


if __name__ == "__main__":
    main()
