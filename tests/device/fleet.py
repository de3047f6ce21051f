"""One device's log behind a real socket server and a real HTTP server that speak the documented wire, faulty to order.

It emulates the hub and the API from the outside only: resume table, window, resets, acks, tickets, long-poll, problems.
"""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.device.gate import Gate
from tests.device.office import Office

WINDOW = 256


def make_event(number: int, *, event_id: str | None = None, data: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "type": "ResponseReady",
        "id": event_id or f"event-{number}",
        "source": "/tests",
        "time": "2026-11-22T00:00:00Z",
        "data": data or {"n": number},
    }


def jwt_like(**claims: Any) -> str:
    """What a device can read of a token; nobody could verify it."""
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims, "s"))


def problem(status: int, **members: Any) -> tuple[int, dict[str, str], bytes]:
    body: dict[str, Any] = {"type": "urn:fleetwire:problem:test", "title": f"problem {status}", "status": status}
    body |= members
    return status, {"Content-Type": "application/problem+json"}, json.dumps(body).encode()


@dataclass
class Fleet:
    """The server's side. Change the fields to make it behave differently."""

    epoch: int = 1
    floor: int = 0
    acked: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    token: str = "token-1"
    heartbeat_s: float = 5.0
    jitter_s: float = 0.0
    ack_every: int = 16
    ack_ms: int = 50
    welcome: bool = True
    refusals: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)  # for the next handshakes
    api_refusals: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)  # for the next API requests
    files: dict[str, bytes] = field(default_factory=dict)
    file_location: str | None = None
    store_answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)  # before the right ones
    broken: set[str] = field(default_factory=set)  # files that the store cannot give
    file_headers: list[dict[str, str]] = field(default_factory=list)
    acks: list[tuple[str, int]] = field(default_factory=list)  # in order of arrival: "socket" or "rest", seq
    handshakes: list[dict[str, str]] = field(default_factory=list)
    first_frames: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    limited: dict[str, list[int]] = field(default_factory=dict)  # Retry-After of the next answers to a kind of request
    limited_at: list[tuple[str, float]] = field(default_factory=list)  # requests of these kinds, and when they came
    renewed: int = 0
    move_to: str | None = None
    supersede: bool = False  # older sockets hear 4002 before the newer one hears its welcome
    welcome_after: asyncio.Event | None = None  # no welcome before this
    token_frames: list[str] = field(default_factory=list)
    token_answers: list[dict[str, Any]] = field(default_factory=list)  # for the next token frames, instead of token_ok
    token_expires_at: str = "2099-01-01T00:00:00Z"
    ticket_session_s: float | None = None  # tickets say that a connection lives this long
    office: Office = field(default_factory=Office)
    sync_hold: asyncio.Event | None = None  # results are held back until then
    sync_answers: list[dict[str, Any] | None] = field(default_factory=list)  # for the next sync frames; None: nothing
    sync_refusals: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)  # for the next batches
    sync_cuts: list[int] = field(default_factory=list)  # the next answers to batches are cut after so many bytes
    assigned: list[str] = field(default_factory=list)  # the urls of the next assignments, instead of the right one

    def __post_init__(self) -> None:
        self.changed = asyncio.Condition()
        self.sockets: set[ServerConnection] = set()
        self._tickets: set[str] = set()
        self._ticket_number = 0

    # -- the log

    @property
    def head(self) -> int:
        return len(self.events)

    async def publish(self, count: int = 1, *, data: dict[str, Any] | None = None) -> None:
        for _ in range(count):
            self.events.append(make_event(self.head + 1, data=data))
        await self._notify()

    async def trim(self, floor: int) -> None:
        self.floor = floor
        await self._notify()

    async def lose(self, keep: int, *, acked: int | None = None) -> None:
        """The log was restored from a copy that ended here: the epoch is raised and connections are closed."""
        self.events = self.events[:keep]
        self.acked = min(self.acked if acked is None else acked, keep)
        self.epoch += 1
        await self.close_sockets(4102)

    def resume(self, after: tuple[int, int] | None) -> tuple[int, str | None]:
        """Where pushing starts, and the reason of a reset."""
        if after is None:
            return (self.acked, None) if self.acked >= self.floor else (self.floor, "retention")
        epoch, seq = after
        if epoch != self.epoch or seq > self.head:
            return max(self.acked, self.floor), "epoch"
        if seq < self.floor:
            return self.floor, "retention"
        return seq, None

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until_acked(self, seq: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.acked >= seq)

    # -- the hub

    def check(self, connection: ServerConnection, request: Request) -> Response | None:
        query = dict(parse_qsl(urlsplit(request.path).query))
        self.handshakes.append({**query, "authorization": request.headers.get("Authorization", "")})
        if self.refusals:
            status, headers, body = self.refusals.pop(0)
            return Response(status, "", Headers({**headers, "Content-Length": str(len(body))}), body)
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if bearer in self._tickets:
            self._tickets.discard(bearer)
        elif bearer != self.token:
            status, headers, body = problem(401)
            return Response(status, "", Headers({**headers, "Content-Length": str(len(body))}), body)
        return None

    async def hub(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        after = tuple(int(part) for part in query["after"][0].split(":")) if "after" in query else None
        epoch = self.epoch
        start, reason = self.resume(after)  # type: ignore[arg-type]
        if self.supersede:
            await self.close_sockets(4002, "superseded")
        self.sockets.add(socket)
        try:
            if self.welcome_after is not None:
                await self.welcome_after.wait()
            if not self.welcome:
                await socket.wait_closed()
                return
            await self._say(
                socket,
                type="welcome", session="s", hub="hub-1", position=f"{epoch}:{start}", acked=self.acked, head=self.head,
                heartbeat_s=self.heartbeat_s, window=WINDOW, ack_every=self.ack_every, ack_ms=self.ack_ms,
                jitter_s=self.jitter_s,
            )  # fmt: skip
            if reason is not None:
                await self._say(socket, type="reset", position=f"{epoch}:{start}", reason=reason)
            if self.move_to is not None:
                url, self.move_to = self.move_to, None
                await self._say(socket, type="moved", url=url, after_ms=10, reason="rebalance")
            link = _Pushing(start, start)  # the window is empty at the start, wherever the cursor is
            async with asyncio.TaskGroup() as group:
                sender = group.create_task(self._push(socket, link))
                try:
                    first = True
                    async for text in socket:
                        frame = json.loads(text)
                        if first:
                            self.first_frames.append(frame)
                            first = False
                        if frame["type"] == "sync":
                            await self._on_sync(socket, frame)
                            continue
                        if frame["type"] == "token":
                            await self._on_token(socket, frame["token"])
                            continue
                        await self._on_ack(frame["seq"], epoch, link)
                finally:
                    sender.cancel()
        except* ConnectionClosed:
            pass
        finally:
            self.sockets.discard(socket)

    async def _push(self, socket: ServerConnection, link: "_Pushing") -> None:
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: link.sent < self.head and link.sent - link.acked < WINDOW)
            link.sent += 1
            await self._say(socket, type="event", seq=link.sent, event=self.events[link.sent - 1])

    async def _on_ack(self, seq: int, epoch: int, link: "_Pushing") -> None:
        self.acks.append(("socket", seq))
        link.acked = max(link.acked, seq)
        if epoch == self.epoch:
            assert seq <= self.head, f"ack {seq} above head {self.head}"
            self.acked = max(self.acked, seq)
        await self._notify()

    async def _on_token(self, socket: ServerConnection, token: str) -> None:
        self.token_frames.append(token)
        answer = self.token_answers.pop(0) if self.token_answers else None
        await self._say(socket, **(answer or {"type": "token_ok", "expires_at": self.token_expires_at}))
        await self._notify()

    async def _on_sync(self, socket: ServerConnection, frame: dict[str, Any]) -> None:
        if self.sync_answers:
            answer = self.sync_answers.pop(0)
            if answer is not None:
                await self._say(socket, ref=frame["ref"], **answer)
            return
        results = self.office.apply("socket", frame["operations"])
        if self.sync_hold is not None:
            await self.sync_hold.wait()
        await self._say(socket, type="sync_result", ref=frame["ref"], results=results)

    async def move(self, url: str, after_ms: int = 0) -> None:
        """Tell every open socket to move."""
        await self.say(type="moved", url=url, after_ms=after_ms, reason="rebalance")

    async def say(self, **frame: Any) -> None:
        """Say this on every open socket."""
        for socket in list(self.sockets):
            await self._say(socket, **frame)

    @staticmethod
    async def _say(socket: ServerConnection, **frame: Any) -> None:
        await socket.send(json.dumps(frame))

    async def close_sockets(self, code: int, reason: str = "") -> None:
        for socket in list(self.sockets):
            await socket.close(code, reason)

    # -- the API

    async def api(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *rest = head.decode().split("\r\n")
                method, target, _ = line.split(" ")
                headers = {k.lower(): v.strip() for k, _, v in (text.partition(":") for text in rest if text)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, out, content = await self._answer(method, target, headers, body)
                out = {"Content-Length": str(len(content)), "Content-Type": "application/json", **out}
                lines = "".join(f"{name}: {value}\r\n" for name, value in out.items())
                writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + content)
                await writer.drain()
                if len(content) < int(out["Content-Length"]):
                    return  # cut in the middle of the body
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        self.requests.append((method, target, headers))
        if parts.path.startswith("/store/"):
            return self._store(parts.path, headers)
        if self.api_refusals:
            return self.api_refusals.pop(0)
        if headers.get("authorization") != f"Bearer {self.token}":
            return problem(401)
        if parts.path.startswith("/api/v1/files/"):
            location = self.file_location or f"{self.store_url}/store/{parts.path.rsplit('/', 1)[1]}"
            return 302, {"Location": location}, b""
        kind = parts.path.rsplit("/", 1)[1]
        if kind in self.limited:
            self.limited_at.append((kind, time.monotonic()))
            if self.limited[kind]:
                status, out, content = problem(429, type="urn:fleetwire:problem:rate-limited")
                return status, out | {"Retry-After": str(self.limited[kind].pop(0))}, content
        match kind:
            case "connection":
                self._ticket_number += 1
                ticket = f"ticket-{self._ticket_number}"
                if self.ticket_session_s is not None:
                    ticket = jwt_like(jti=ticket, session_exp=time.time() + self.ticket_session_s)
                self._tickets.add(ticket)
                urls = self.assigned or [self.hub_url]
                places = [{"hub": f"hub-{number}", "url": url} for number, url in enumerate(urls, start=1)]
                answer = {**places[0], "ticket": ticket, "alternatives": places[1:], "mode": "direct"}
                return 200, {}, json.dumps(answer).encode()
            case "batch":
                return self._batch(body)
            case "events":
                return await self._page(query)
            case "acks":
                epoch, seq = (int(part) for part in json.loads(body)["position"].split(":"))
                if epoch != self.epoch:
                    return problem(409, position=f"{self.epoch}:{self.acked}")
                assert seq <= self.head, f"ack {seq} above head {self.head}"
                self.acks.append(("rest", seq))
                self.acked = max(self.acked, seq)
                await self._notify()
                return 200, {}, json.dumps({"position": f"{self.epoch}:{self.acked}"}).encode()
            case "responses":
                return 200, {}, json.dumps({"responses": []}).encode()
        return problem(404)

    def _batch(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self.sync_refusals:
            return self.sync_refusals.pop(0)
        content = json.dumps({"results": self.office.apply("rest", json.loads(body)["operations"])}).encode()
        if self.sync_cuts:
            return 200, {"Content-Length": str(len(content))}, content[: self.sync_cuts.pop(0)]
        return 200, {}, content

    async def _page(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        after = tuple(int(part) for part in query["after"].split(":")) if "after" in query else None
        start, reason = self.resume(after)  # type: ignore[arg-type]
        if reason is not None:
            return problem(410, position=f"{self.epoch}:{start}", reason=reason)
        epoch = self.epoch
        async with self.changed:
            try:
                async with asyncio.timeout(float(query["wait"])):
                    await self.changed.wait_for(lambda: self.head > start or self.epoch != epoch)
            except TimeoutError:
                pass
        end = min(self.head, start + int(query["limit"])) if self.epoch == epoch else start
        events = [{"seq": seq, "event": self.events[seq - 1]} for seq in range(start + 1, end + 1)]
        page = {"position": f"{epoch}:{end}", "head": self.head, "more": end < self.head, "events": events}
        return 200, {}, json.dumps(page).encode()

    def _store(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        self.file_headers.append(headers)
        if self.store_answers:
            return self.store_answers.pop(0)
        if path.removeprefix("/store/") in self.broken:
            return 500, {}, b""
        content = self.files.get(path.removeprefix("/store/"))
        if content is None:
            return 404, {"Content-Type": "text/plain"}, b"gone"
        if "range" in headers:
            start = int(headers["range"].removeprefix("bytes=").rstrip("-"))
            content_range = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return 206, {"Content-Range": content_range}, content[start:]
        return 200, {}, content

    # -- all of it

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Fleet"]:
        hub_server: Server = await serve(
            self.hub,
            "127.0.0.1",
            0,
            process_request=self.check,
            subprotocols=[Subprotocol("fleetwire.v1")],
            ping_interval=self.heartbeat_s,
            ping_timeout=None,
            close_timeout=0.2,
        )
        api_server = await asyncio.start_server(self.api, "127.0.0.1", 0)
        store_server = await asyncio.start_server(self.api, "127.0.0.1", 0)
        self.store_url = f"http://127.0.0.1:{store_server.sockets[0].getsockname()[1]}"
        self.hub_gate = Gate(next(iter(hub_server.sockets)).getsockname()[1])
        self.other_gate = Gate(self.hub_gate.target)  # another origin that leads to the same hub
        self.api_gate = Gate(api_server.sockets[0].getsockname()[1])
        await self.hub_gate.start()
        await self.other_gate.start()
        await self.api_gate.start()
        try:
            yield self
        finally:
            if self.welcome_after is not None:
                self.welcome_after.set()
            await self.hub_gate.close()
            await self.other_gate.close()
            await self.api_gate.close()
            hub_server.close()
            await hub_server.wait_closed()
            api_server.close()
            store_server.close()

    @property
    def hub_url(self) -> str:
        return f"ws://{self.hub_gate.url}/v1/socket"

    @property
    def other_url(self) -> str:
        return f"ws://{self.other_gate.url}/v1/socket"

    @property
    def api_url(self) -> str:
        return f"http://{self.api_gate.url}"

    def file(self, name: str, content: bytes, *, file_id: str = "f-1") -> dict[str, Any]:
        """Put a file into the store and say it as an event does."""
        self.files[file_id] = content
        return {
            "file_id": file_id,
            "name": name,
            "size": len(content),
            "sha256": sha256(content).hexdigest(),
            "content_type": "application/octet-stream",
            "url": f"/api/v1/files/{file_id}",
        }


@dataclass
class _Pushing:
    sent: int
    acked: int
