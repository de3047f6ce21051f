"""One server, two libraries for its sockets: what the choice costs. Needs `picows` beside the project's own packages.

usage: python -m loadtests.bench.socket_libraries websockets|picows PORT REDIS_URL

Both take every device without asking, hear Redis through the hub's reader and decide by the hub's session; acks are
noted and forgotten. What differs is who reads and writes frames: `hub/device_socket.py`, or picows' listener.
"""

import asyncio
import sys
from collections.abc import Callable
from http import HTTPStatus
from importlib import import_module
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import uvloop
from websockets.http11 import Request

from hub.acks import AckBook
from hub.census import Census
from hub.device_socket import DeviceSocket, SocketLimits
from hub.flusher import Flusher
from hub.session import Session
from hub.window import WindowLimits
from hub.wire import ack_of, event_bytes, text_bytes
from shared.asgi_server import bind
from shared.bus.reader import SlotReader

__all__: list[str] = []

SLOTS: Final = 1024
_WELCOME: Final = b'{"type":"welcome","position":"1:0","acked":0,"head":0}'


def _session() -> Session:
    return Session(epoch=1, start=0, head=0, acked=0, conn_term=1, instance="-", limits=WindowLimits())


def _device_of(target: str) -> str:
    return parse_qs(urlsplit(target).query)["device_id"][0]


class _Registry:
    """Who is here, and what both kinds of sockets need."""

    def __init__(self) -> None:
        self.write: dict[str, Callable[[int, bytes], None]] = {}
        self.sessions: dict[str, Session] = {}
        self.book = AckBook(100_000)

    def on_message(self, kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        """An event from the bus."""
        del kind
        session = self.sessions.get(device_id)
        if session is not None and session.passes(epoch, seq, len(body)):
            self.write[device_id](seq, body)

    def on_ack(self, device_id: str, seq: int) -> None:
        """An ack frame."""
        if self.sessions[device_id].ack_passes(seq):
            self.book.note(device_id, 1, seq)

    async def forget_acks(self) -> None:
        """As often as the hub writes them."""
        while True:
            await asyncio.sleep(0.2)
            self.book.take(100_000)


class _Owner:
    """A device on a socket of the hub's."""

    def __init__(self, registry: _Registry, device_id: str, socket: DeviceSocket) -> None:
        self._registry = registry
        self._device_id = device_id
        registry.sessions[device_id] = _session()
        registry.write[device_id] = lambda seq, body: socket.write(event_bytes(seq, body))

    def on_ack(self, seq: int) -> None:
        """An ack frame."""
        self._registry.on_ack(self._device_id, seq)

    def on_text(self, text: bytes) -> None:
        """Nothing else is said here."""

    def on_much(self) -> None:
        """Nobody says too much here."""

    def on_closing(self) -> None:
        """Nobody lingers here."""

    def on_lost(self, socket: DeviceSocket) -> None:
        """Nobody comes twice."""


class _Nobody:
    def on_ack(self, seq: int) -> None: ...
    def on_text(self, text: bytes) -> None: ...
    def on_much(self) -> None: ...
    def on_closing(self) -> None: ...
    def on_lost(self, socket: DeviceSocket) -> None: ...


async def _serve_websockets(port: int, registry: _Registry, flusher: Flusher) -> None:
    def on_request(socket: DeviceSocket, request: Request) -> None:
        answer = socket.judge_upgrade(request)
        assert answer.status_code == HTTPStatus.SWITCHING_PROTOCOLS
        socket.accept(answer, text_bytes(_WELCOME))
        socket.owner = _Owner(registry, _device_of(request.path), socket)

    limits, census = SocketLimits(5.0, 3.0, 2**21), Census(30_000)
    await asyncio.get_running_loop().create_server(
        lambda: DeviceSocket(_Nobody(), flusher, on_request=on_request, limits=limits, census=census),
        sock=bind("127.0.0.1", port, setting="PORT"),
        backlog=4096,
    )


async def _serve_picows(port: int, registry: _Registry) -> None:
    picows: Any = import_module("picows")  # not ours: whoever runs this has put it there

    class Listener(picows.WSListener):  # type: ignore[misc]
        """A device on a socket of picows'."""

        def __init__(self, device_id: str) -> None:
            self._device_id = device_id

        def on_ws_connected(self, transport: Any) -> None:
            text = picows.WSMsgType.TEXT
            send = transport.send
            registry.sessions[self._device_id] = _session()
            registry.write[self._device_id] = lambda seq, body: send(
                text, b'{"type":"event","seq":%d,"event":%b}' % (seq, body)
            )
            send(text, _WELCOME)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            seq = ack_of(frame.get_payload_as_bytes()) if frame.msg_type == picows.WSMsgType.TEXT else None
            if seq is not None:
                registry.on_ack(self._device_id, seq)

    def made(request: Any) -> Any:
        target = request.path.decode()
        answer = picows.WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": "fleetwire.v1"})
        return picows.WSUpgradeResponseWithListener(answer, Listener(_device_of(target)))

    await picows.ws_create_server(made, "127.0.0.1", port, backlog=4096)


async def main(library: str, port: int, redis_url: str) -> None:
    """Until killed."""
    registry = _Registry()
    flusher = Flusher(asyncio.get_running_loop())

    def on_message(kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        flusher.in_batch = True
        registry.on_message(kind, device_id, epoch, seq, body)

    reader = SlotReader(redis_url, on_message=on_message, on_gap=lambda slots: None, on_batch_end=flusher.flush)
    for slot in range(SLOTS):
        reader.acquire(slot)
    if library == "picows":
        await _serve_picows(port, registry)
    else:
        await _serve_websockets(port, registry, flusher)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.run())
        tasks.create_task(registry.forget_acks())


if __name__ == "__main__":
    from shared.lifecycle import raise_open_file_limit

    raise_open_file_limit()
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
