"""uvicorn's HTTP/1.1 protocol with an end to every wait: for a request's head, for a reader that takes nothing, for a
place.

uvicorn bounds only the idle time between two requests. Here a connection that sends no complete head is closed, one
whose answer does not move at all for `STALL_S` is cut (slow is fine: any progress counts), one too many is told so,
and what is not HTTP gets a problem like every other error.
"""

import asyncio
import contextlib
import fcntl
import termios
import uuid
from array import array
from typing import Any, Final

import h11
import orjson
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from api.client_class import NOBODY
from api.peer import Peer
from api.problems import MEDIA_TYPE, PROBLEMS
from api.security_headers import SECURITY_HEADERS
from shared.telemetry.metrics import API_REQUESTS

__all__ = ["BoundedHttp", "bounded_http"]

HEAD_S: Final = 10.0
STALL_S: Final = 30.0
_SECURITY: Final = b"".join(b"%b: %b\r\n" % pair for pair in SECURITY_HEADERS)


class BoundedHttp(H11Protocol):
    """One connection."""

    connections_max = 10_000
    head_s = HEAD_S
    stall_s = STALL_S
    parting_s = 0.0

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _parting_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._used_at = self.loop.time()
        self._peer = Peer()
        self.app_state = {**self.app_state, **self._peer.in_state()}
        if len(self.connections) > self.connections_max:
            self._refuse(b"503 Service Unavailable", "unavailable", "too many connections", b"retry-after: 5\r\n")
            return
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        self._used_at = self.loop.time()
        super().on_response_complete()
        self._expect_head()

    def shutdown(self) -> None:
        """The server closes: an idle connection with it, if it was idle for long enough."""
        rest_s = self._used_at + self.parting_s - self.loop.time()
        cycle: RequestResponseCycle | None = self.cycle
        is_idle = cycle is None or cycle.response_complete
        if is_idle and rest_s > 0 and not self.transport.is_closing():
            self._parting_timer = self.loop.call_later(rest_s, self._part)
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timers()
        super().connection_lost(exc)
        self._peer.gone()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall_timer is None:
            self._watch_progress(self._unsent())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def send_400_response(self, msg: str) -> None:
        API_REQUESTS.labels("unmatched", "other", "400", NOBODY).inc()
        self._refuse(b"400 Bad Request", "invalid-request", "this is not an HTTP/1.1 request that can be read")

    def _expect_head(self) -> None:
        """The timer runs exactly while the peer owes us something that no handler waits for."""
        state = self.conn.their_state
        cycle: RequestResponseCycle | None = self.cycle
        head_is_due = state is h11.IDLE and (cycle is None or bool(self.conn.trailing_data[0]))
        rest_is_due = state is h11.SEND_BODY and cycle is not None and cycle.response_complete
        if not (head_is_due or rest_is_due):
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self._give_up_on_head)

    def _give_up_on_head(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _watch_progress(self, unsent: int) -> None:
        self._stall_timer = self.loop.call_later(self.stall_s, self._cut_if_stalled, unsent)

    def _cut_if_stalled(self, unsent_before: int) -> None:
        self._stall_timer = None
        unsent = self._unsent()
        if unsent >= unsent_before:
            self.transport.abort()
        else:
            self._watch_progress(unsent)

    def _unsent(self) -> int:
        """Bytes that the peer has not taken, those in the kernel included.

        The kernel's buffer may hold more than a slow link moves in minutes, and ours does not shrink before it.
        """
        in_kernel = array("i", [0])
        with contextlib.suppress(OSError, AttributeError):
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, in_kernel)
        return self.transport.get_write_buffer_size() + in_kernel[0]

    def _part(self) -> None:
        self._parting_timer = None
        if not self.transport.is_closing():
            super().shutdown()

    def _cancel_timers(self) -> None:
        for timer in (self._head_timer, self._stall_timer, self._parting_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = self._parting_timer = None

    def _refuse(self, status_line: bytes, slug: str, detail: str, extra: bytes = b"") -> None:
        """Answer without the application, and close. Written by hand: h11 may be in a state that allows no answer."""
        if self.transport.is_closing():
            return
        kind = PROBLEMS[slug]
        about = {"title": kind.title, "status": kind.status, "detail": detail, "request_id": uuid.uuid4().hex}
        body = orjson.dumps({"type": f"urn:fleetwire:problem:{slug}", **about})
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n%b%b\r\n%b"
            % (status_line, MEDIA_TYPE.encode(), len(body), _SECURITY, extra, body)
        )
        self.transport.close()


def bounded_http(
    *, connections_max: int, head_s: float = HEAD_S, stall_s: float = STALL_S, parting_s: float = 0.0
) -> Any:
    """The protocol class with these bounds, for uvicorn's `http` option."""
    members = {"connections_max": connections_max, "head_s": head_s, "stall_s": stall_s, "parting_s": parting_s}
    return type("BoundedHttp", (BoundedHttp,), members)
