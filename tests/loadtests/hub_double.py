"""A hub on a real socket for devices on gevent, scripted: each connection is served by the next line of the script.

It runs in threads of its own, which the device's greenlets do not block.
"""

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

Script = Callable[["Connection"], None]


class Connection:
    """One socket, as the script sees it."""

    def __init__(self, socket: ServerConnection, query: dict[str, str]) -> None:
        self.socket = socket
        self.query = query
        self.acks: list[int] = []
        self.closed: tuple[int, str] | None = None

    def welcome(self, seq: int = 0, *, acked: int = 0, heartbeat_s: float = 5.0) -> None:
        self.send(
            type="welcome",
            session="s",
            hub="double",
            position=f"1:{seq}",
            acked=acked,
            head=seq,
            heartbeat_s=heartbeat_s,
            window=256,
            ack_every=2,
            ack_ms=20,
            jitter_s=0.0,
        )

    def event(self, seq: int) -> None:
        event = {"specversion": "1.0", "type": "T", "id": f"e{seq}", "source": "/double", "data": {}}
        self.send(type="event", seq=seq, event=event)

    def send(self, **frame: Any) -> None:
        self.socket.send(json.dumps(frame, separators=(",", ":")))  # as hubs write them

    def stay(self) -> None:
        """Take acks until the device leaves."""
        with suppress(ConnectionClosed):
            for text in self.socket:
                self.acks.append(json.loads(text)["seq"])


class HubDouble:
    """`url` while the block lasts. Connections beyond the script are served by its last line."""

    def __init__(self, *script: Script, refusals: Sequence[int] = ()) -> None:
        self._script = script
        self._refusals = list(refusals)
        self.connections: list[Connection] = []
        self._server: Server = serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol("fleetwire.v1")],
            process_request=self._refuse,
            compression=None,
            close_timeout=1,
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/v1/socket"

    def __enter__(self) -> "HubDouble":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join(5)

    def _refuse(self, socket: ServerConnection, _request: Request) -> Response | None:
        return socket.respond(self._refusals.pop(0), "not now\n") if self._refusals else None

    def _serve(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = {name: values[0] for name, values in parse_qs(urlsplit(socket.request.path).query).items()}
        connection = Connection(socket, query)
        self.connections.append(connection)
        script = self._script[min(len(self.connections), len(self._script)) - 1]
        with suppress(ConnectionClosed):
            script(connection)
        socket.close()
        connection.closed = (socket.close_code or 0, socket.close_reason or "")
