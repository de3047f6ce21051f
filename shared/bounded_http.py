"""uvicorn's HTTP/1.1 protocol with an end to every wait that it leaves open.

uvicorn bounds only the idle time between requests. Here also the head of a request, or the rest of a body that nobody
reads any more, must come within `head_s`; an answer of which the peer takes nothing for `stall_s` is cut (slow is
fine: any progress counts); and one connection too many is told so. What is no HTTP gets a problem like every other
error. An application that must not look as if it had answered in full calls `abort(scope)`.
"""

import asyncio
import json
import uuid
from typing import Any, Final

import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedHttp", "abort", "bounded_http"]

_TRANSPORT: Final = "fleetwire.transport"


class BoundedHttp(H11Protocol):
    """One connection."""

    connections_max = 1_000
    head_s = 10.0
    stall_s = 30.0

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        if len(self.connections) > self.connections_max:
            self._refuse("503 Service Unavailable", "unavailable", "too many connections; try again later")
        else:
            self._mind_the_peer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._mind_the_peer()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = None
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def send_400_response(self, msg: str) -> None:
        del msg
        self._refuse("400 Bad Request", "invalid-request", "this is no HTTP/1.1 request that can be read")

    def _mind_the_peer(self) -> None:
        """The timer runs exactly while the peer owes something that no handler waits for."""
        state = self.conn.their_state
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn declares
        head_is_due = state is h11.IDLE and (cycle is None or bool(self.conn.trailing_data[0]))
        rest_is_due = state is h11.SEND_BODY and cycle is not None and cycle.response_complete
        if not (head_is_due or rest_is_due):
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self._give_up)

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.abort()

    def _watch(self, unsent: int) -> None:
        self._stall_timer = self.loop.call_later(self.stall_s, self._cut_if_stalled, unsent)

    def _cut_if_stalled(self, unsent_before: int) -> None:
        self._stall_timer = None
        unsent = self.transport.get_write_buffer_size()
        if unsent >= unsent_before:
            # Not close(): that would go on waiting for the peer to take the rest.
            self.transport.abort()
        else:
            self._watch(unsent)

    def _refuse(self, status: str, slug: str, detail: str) -> None:
        """Answer without the application, and close. Written by hand: h11 may be in a state that allows no answer."""
        if self.transport.is_closing():
            return
        about = {"title": status[4:], "status": int(status[:3]), "detail": detail, "request_id": uuid.uuid4().hex}
        body = json.dumps({"type": f"urn:fleetwire:problem:{slug}", **about}).encode()
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
            "retry-after: 5\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded_http(*, connections_max: int, head_s: float, stall_s: float) -> Any:
    """The protocol class with these bounds, for uvicorn's `http` option."""
    members = {"connections_max": connections_max, "head_s": head_s, "stall_s": stall_s}
    return type("BoundedHttp", (BoundedHttp,), members)


def abort(scope: Scope) -> None:
    """Cut the connection of a request at once, so that half an answer is not taken for a whole one."""
    transport = scope.get("state", {}).get(_TRANSPORT)
    if transport is not None:
        transport.abort()
