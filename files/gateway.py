"""The gateway as an ASGI application: a signed address in, a file out or in, in constant memory.

Nothing is known here about devices or tokens: the signature is the whole permission, and what it says (method, path,
size, hash, content type, name) is the whole request. A download that cannot be finished is cut, never padded or ended
as if it were whole. An upload becomes a file when every byte of it is there and right, or leaves no trace. The second
of two equal uploads finds the file and says so (200 instead of 201), so that a device whose answer was lost may just
repeat it. A HEAD that wants the digest (RFC 9530) is answered with that of what lies there, not of what was signed.
Only what was uploaded and not kept is ever removed: files of `Photos/`, by an address that the API signs for itself.
A store elsewhere that gives no addresses out is only read from, in the same stream and by the same bounds.
"""

import asyncio
import base64
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Final, cast

import structlog
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from files.digests import Digests
from files.problems import Problem
from files.ranges import Part, Unsatisfiable, part_of
from files.transfers import Transfers
from shared import clock
from shared.bounded_http import abort
from shared.cloud.errors import (
    BadPath,
    CloudError,
    ContentChanged,
    ContentMismatch,
    NotAFile,
    NotFound,
    StoreFull,
    StoreUnavailable,
)
from shared.cloud.hashes import Digest
from shared.cloud.provider import Provider
from shared.cloud.store import Existed, Reader, Stat, Store, Stored
from shared.disposition import attachment
from shared.request_target import in_origin_form
from shared.signed_urls import LOCAL, PATH_PREFIXES, Grant, InvalidSignedUrl, verify
from shared.telemetry.metrics import FILES_BYTES, FILES_REFUSED, FILES_REQUESTS

_log = structlog.get_logger(__name__)

# Slices of what one disk read gave: a stalled reader holds one read and one slice, and each slice shows progress.
_SLICE: Final = 64 * 1024
_GONE: Final = 499
_SLOW_S: Final = 1.0
_METHODS: Final = ("GET", "HEAD", "PUT", "DELETE")
_REMOVABLE: Final = "Photos/"
_PRIVATE: Final = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one transfer."""

    upload_max_bytes: int
    stall_s: float
    transfer_min_s: float
    bytes_per_s_min: int
    transfer_max_s: float

    def seconds_for(self, size: int) -> float:
        """How long a transfer of so many bytes may take in all."""
        return min(self.transfer_min_s + size / self.bytes_per_s_min, self.transfer_max_s)


class ClientGone(Exception):
    """The connection ended before the request did."""


class Gateway:
    """Serves `/v1/files/…` and, for whoever asks, `/health` and `/ready`."""

    def __init__(
        self,
        store: Store,
        keys: Mapping[str, bytes],
        transfers: Transfers,
        limits: Limits,
        elsewhere: Mapping[str, Provider] | None = None,
    ) -> None:
        """`store` is the local one; `elsewhere` are the others, by name."""
        self.host = b""
        """The one Host header that signed addresses of this gateway carry; until it is known, all are refused."""
        self._store = store
        self._elsewhere = dict(elsewhere or {})
        self._keys = keys
        self._transfers = transfers
        self._limits = limits
        self._digests = Digests()

    def __repr__(self) -> str:
        return f"Gateway({self.host.decode()}, {self._transfers!r})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            path, _ = in_origin_form(scope["raw_path"])
            if path in (b"/health", b"/ready"):
                await exchange.answer(self._status(path))
                return
            began = clock.monotonic()
            try:
                await self._handle(exchange)
            finally:
                exchange.account(clock.monotonic() - began)

    def _status(self, path: bytes) -> Response:
        if path == b"/ready" and self._transfers.leaving:
            return JSONResponse({"status": "not ready"}, 503)
        return JSONResponse({"status": "ready" if path == b"/ready" else "alive"})

    async def _handle(self, exchange: "_Exchange") -> None:
        try:
            grant = self._admitted(exchange)
            exchange.about(grant)
            match grant.method:
                case "PUT":
                    await self._upload(exchange, grant)
                case "DELETE":
                    await self._remove(exchange, grant)
                case "GET":
                    await self._download(exchange, grant)
        except ClientGone:
            exchange.status = _GONE
        except Problem as problem:
            await exchange.refuse(problem)
        except CloudError as error:
            await exchange.refuse(_problem_of(error))
        except Exception:  # noqa: BLE001 - the outermost frame of a request
            _log.exception("request failed")
            await exchange.refuse(Problem("internal-error", "the failure was logged under this request id"))

    def _admitted(self, exchange: "_Exchange") -> Grant:
        scope = exchange.scope
        if scope["method"] not in _METHODS:
            raise Problem("method-not-allowed", "use the method that the address was signed for")
        raw_path, authority = in_origin_form(scope["raw_path"])
        if not raw_path.startswith(PATH_PREFIXES):
            raise Problem("not-found", "no such path")
        hosts = [value for name, value in scope["headers"] if name == b"host"] if authority is None else [authority]
        if not self.host or hosts != [self.host]:
            raise Problem("forbidden", "the address is not of this gateway", reason="wrong_host")
        try:
            return verify(self._keys, scope["method"], self.host, raw_path, scope["query_string"], now=clock.wall())
        except InvalidSignedUrl as error:
            slug = {"malformed": "invalid-address", "expired": "expired"}.get(error.reason, "forbidden")
            raise Problem(slug, str(error), reason=error.reason) from None

    async def _download(self, exchange: "_Exchange", grant: Grant) -> None:
        headers = exchange.headers
        exchange.check_no_body()
        etag = f'"{grant.sha256}"'
        if _names(headers.get("if-none-match", ""), etag):
            await exchange.answer(Response(status_code=304, headers={"ETag": etag, **_PRIVATE}))
            return
        wanted: Part | Unsatisfiable | None = None
        if exchange.scope["method"] == "GET" and headers.get("if-range", etag) == etag:
            wanted = part_of(headers.get("range", ""), grant.size)
        part = wanted if isinstance(wanted, Part) else Part(0, grant.size - 1)
        async with self._transfers.admit(self._limits.seconds_for(part.length)), self._opened(grant) as file:
            if file.stat.size != grant.size:
                raise Problem("changed", f"the file has {file.stat.size} bytes, signed were {grant.size}; ask again")
            if isinstance(wanted, Unsatisfiable):
                unsatisfied = {"Content-Range": f"bytes */{grant.size}", "Accept-Ranges": "bytes", **_PRIVATE}
                await exchange.answer(Response(status_code=416, headers=unsatisfied))
                return
            answer = {
                "Accept-Ranges": "bytes",
                "Content-Disposition": attachment(grant.name),
                "Content-Length": str(part.length),
                "Content-Type": grant.content_type,
                "ETag": etag,
                **_PRIVATE,
            }
            if wanted is not None:
                answer["Content-Range"] = f"bytes {part.first}-{part.last}/{grant.size}"
            status = 200 if wanted is None else 206
            if exchange.scope["method"] == "HEAD":
                if _wants_digest(headers.get("want-repr-digest", "")):
                    answer["Repr-Digest"] = f"sha-256=:{await self._digest_of(grant, file.stat)}:"
                await exchange.answer(Response(status_code=status, headers=answer))
            else:
                # A reader elsewhere holds a connection, which must not wait for whoever collects it.
                async with aclosing(cast("AsyncGenerator[bytes]", file.chunks(part.first, part.length))) as pieces:
                    await exchange.stream(status, answer, pieces)

    def _opened(self, grant: Grant) -> AbstractAsyncContextManager[Reader]:
        if grant.store == LOCAL:
            return self._store.open(grant.path)
        return self._store_of(grant).open(grant.path, object_id=grant.object_id)

    def _store_of(self, grant: Grant) -> Provider:
        store = self._elsewhere.get(grant.store)
        if store is None:
            raise Problem("unavailable", f"the store {grant.store} is not set up at this gateway", reason="store")
        return store

    async def _digest_of(self, grant: Grant, stat: Stat) -> str:
        """The sha256 of what lies there, as RFC 9530 writes it; read again when it is not known."""
        key = grant.path if grant.store == LOCAL else f"{grant.store}:{grant.object_id}:{grant.path}"
        digest = self._digests.of(key, stat)
        if digest is None:
            if grant.store == LOCAL:
                stat, digest = await self._store.content(grant.path)
            else:
                stat, digest = await self._store_of(grant).content(grant.path, object_id=grant.object_id)
            self._digests.learn(key, stat, digest)
        return base64.b64encode(bytes.fromhex(digest.sha256)).decode()

    async def _remove(self, exchange: "_Exchange", grant: Grant) -> None:
        exchange.check_no_body()
        if not grant.path.startswith(_REMOVABLE):
            raise Problem("forbidden", "only an upload that was not kept may be removed", reason="not_removable")
        async with self._transfers.admit(self._limits.transfer_min_s):
            if not await self._store.remove(grant.path):
                raise Problem("not-found", "there is no such file")
        self._digests.forget(grant.path)
        await exchange.answer(Response(status_code=204, headers={"Cache-Control": "no-store"}))

    async def _upload(self, exchange: "_Exchange", grant: Grant) -> None:
        headers = exchange.headers
        if "transfer-encoding" in headers or "content-length" not in headers:
            raise Problem("length-required", "send the body with Content-Length, not chunked")
        if headers.get("content-encoding", "identity") != "identity":
            raise Problem("unsupported-media-type", "send the content as it is, without Content-Encoding")
        if "content-range" in headers:
            raise Problem("invalid-request", "the content is taken whole: send no Content-Range")
        length = int(headers["content-length"])
        if length > min(grant.size, self._limits.upload_max_bytes):
            allowed = min(grant.size, self._limits.upload_max_bytes)
            raise Problem("too-large", f"the content has {length} bytes, at most {allowed} are admitted")
        if length < grant.size:
            raise Problem("content-mismatch", f"the content has {length} bytes, signed were {grant.size}")
        async with self._transfers.admit(self._limits.seconds_for(length)):
            there = await self._store.stat(grant.path)
            if there is not None and there.size != grant.size:
                raise Problem("exists", "a file of this name is there, with other content; nothing was changed")
            expect = Digest(grant.size, grant.sha256)
            stored = await self._store.put_new(grant.path, exchange.body(self._limits.stall_s), expect=expect)
            if isinstance(stored, Stored) and (made := await self._store.stat(grant.path)) is not None:
                self._digests.learn(grant.path, made, stored.content)
        if isinstance(stored, Existed) and not stored.identical:
            raise Problem("exists", "a file of this name is there, with other content; nothing was changed")
        answer = {"size": stored.offered.size, "sha256": stored.offered.sha256}
        status = 200 if isinstance(stored, Existed) else 201
        await exchange.answer(JSONResponse(answer, status, {"ETag": f'"{grant.sha256}"', "Cache-Control": "no-store"}))


class _Exchange:
    """One request and what became of it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.request_id = uuid.uuid4().hex
        self.status = 0
        self._receive = receive
        self._asgi_send = send
        self._bytes_in = 0
        self._bytes_out = 0
        self._path: str | None = None
        self._reason: str | None = None

    def about(self, grant: Grant) -> None:
        """What the request turned out to be about."""
        self._path = grant.path

    def check_no_body(self) -> None:
        """Raises Problem when one is announced."""
        if self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers:
            raise Problem("invalid-request", "this method takes no body")

    async def answer(self, response: Response) -> None:
        """Send a whole answer."""
        await response(self.scope, self._receive, self._send)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem; cut the connection instead when an answer was begun."""
        self._reason = problem.reason
        FILES_REFUSED.labels(problem.reason).inc()
        if self.status:
            abort(self.scope)
        else:
            await self.answer(problem.response(self.request_id))

    async def stream(self, status: int, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> None:
        """Send an answer piece by piece. Raises ClientGone."""
        gone = asyncio.create_task(self._wait_gone(), name="client gone")
        try:
            raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
            await self._send({"type": "http.response.start", "status": status, "headers": raw})
            async for piece in body:
                for start in range(0, len(piece), _SLICE):
                    # The server takes pieces for a connection that is gone without a word.
                    if gone.done():
                        raise ClientGone
                    part = piece[start : start + _SLICE]
                    await self._send({"type": "http.response.body", "body": part, "more_body": True})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()

    async def body(self, stall_s: float) -> AsyncIterator[bytes]:
        """The request's body as it comes. Raises ClientGone, and Problem when nothing comes for `stall_s`."""
        more = True
        while more:
            try:
                async with asyncio.timeout(stall_s):
                    message = await self._receive()
            except TimeoutError:
                raise Problem("request-timeout", f"nothing of the content came for {stall_s:g} s") from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            if piece := message.get("body", b""):
                self._bytes_in += len(piece)
                yield piece

    def account(self, seconds: float) -> None:
        """Count the request and say it in the log; never its signature."""
        method = self.scope["method"] if self.scope["method"] in _METHODS else "other"
        FILES_REQUESTS.labels(method, str(self.status or _GONE)).inc()
        FILES_BYTES.labels("in").inc(self._bytes_in)
        FILES_BYTES.labels("out").inc(self._bytes_out)
        fields: dict[str, object] = {"bytes_in": self._bytes_in, "bytes_out": self._bytes_out}
        if self._reason is not None:
            fields["reason"] = self._reason
        if self._path is not None:
            fields["path"] = self._path
        duration_ms = round(seconds * 1000, 1)
        # Downloads that went well say nothing: they are counted.
        quiet = method in ("GET", "HEAD") and 0 < self.status < 400 and seconds < _SLOW_S
        log = _log.debug if quiet else _log.info
        log("request", method=method, status=self.status or _GONE, duration_ms=duration_ms, **fields)

    async def _wait_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.request_id.encode())]
        else:
            self._bytes_out += len(message.get("body", b""))
        await self._asgi_send(message)


def _names(header: str, etag: str) -> bool:
    """Whether an If-None-Match header names this content (RFC 9110, section 13.1.2: weak comparison)."""
    return header.strip() == "*" or etag in (one.strip().removeprefix("W/") for one in header.split(","))


def _wants_digest(header: str) -> bool:
    """Whether a Want-Repr-Digest header (RFC 9530, section 4) asks for sha-256."""
    wanted = (part.strip().partition("=") for part in header.split(","))
    return any(name == "sha-256" and weight != "0" for name, _, weight in wanted)


def _problem_of(error: CloudError) -> Problem:
    match error:
        case BadPath():
            return Problem("invalid-address", str(error), reason="bad_path")
        case NotFound():
            return Problem("not-found", "there is no such file")
        case NotAFile():
            return Problem("not-found", "there is no such file", reason="not_a_file")
        case ContentMismatch():
            return Problem("content-mismatch", "the content is not the one whose sha256 was signed")
        case ContentChanged():
            return Problem("changed", "the file was written to meanwhile")
        case StoreFull():
            _log.error("no space left", detail=str(error))
            return Problem("full", "no space is left; try again later")
        case StoreUnavailable():
            _log.warning("store unavailable", detail=str(error))
            return Problem("unavailable", "the store does not answer; try again later", reason="store")
        case _:
            _log.error("store failed", detail=str(error))
            return Problem("internal-error", "the failure was logged under this request id")
