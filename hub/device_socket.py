"""One device's socket: asyncio's bytes on one side, whole text frames on the other.

The library's sans-I/O protocol does everything a peer can get wrong; this drives it, without a task, a queue or a
lock per socket. Two shortcuts carry the load: frames that the hub writes are bytes made elsewhere and go out once per
turn of the loop, however many they are, and short text frames that arrive whole are unmasked here. A shortcut is
taken only while the library's parser waits between two frames, so the two never see parts of the same one.

Promises: `on_request` comes at most once; to the owner `on_ack` and `on_text` come only after `accept`, `on_lost`
exactly once.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from websockets.extensions import ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State

from hub.census import Census
from hub.flusher import Flusher
from hub.link import LinkState, link_state
from hub.server_protocol import DeviceServerProtocol
from hub.wire import EMPTY_PONG, PING, SHORT_MAX, ack_of
from shared.clock import monotonic
from shared.protocol.close_codes import CloseCode
from shared.telemetry.metrics import HUB_SOCKETS_CUT

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiled part for this platform
    from websockets.utils import apply_mask

__all__ = ["DeviceSocket", "SocketLimits", "SocketOwner"]

NEVER_LOOK: Final = 2**62
_MASKED: Final = 0x80
_FIN_TEXT: Final = 0x81


class SocketOwner(Protocol):
    """Who is told what a socket brings."""

    def on_ack(self, seq: int) -> None: ...
    def on_text(self, text: bytes) -> None: ...
    def on_much(self) -> None: ...
    def on_closing(self) -> None: ...
    def on_lost(self, socket: "DeviceSocket") -> None: ...


class _Nobody:
    """Owns a socket that is lost, so that it does not keep its owner, who keeps it."""

    def on_ack(self, seq: int) -> None: ...
    def on_text(self, text: bytes) -> None: ...
    def on_much(self) -> None: ...
    def on_closing(self) -> None: ...
    def on_lost(self, socket: "DeviceSocket") -> None: ...


_NOBODY: Final = _Nobody()


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Seconds until the request must be there and a closing handshake over; bytes that may wait for a peer that does
    not read; bytes that may come in before the owner is asked about them (`on_much`).
    """

    request_s: float
    close_s: float
    write_max_bytes: int
    first_look_bytes: int = NEVER_LOOK


class DeviceSocket(asyncio.Protocol):
    """An asyncio protocol; `accept` or `refuse` answers the request, `close` says goodbye, `abort` does not."""

    __slots__ = (
        "_census",
        "_deadline",
        "_dirty",
        "_ended",
        "_flusher",
        "_heard_at",
        "_limits",
        "_more",
        "_next",
        "_on_request",
        "_open",
        "_pinged_at",
        "_protocol",
        "_requested",
        "_shortcut",
        "_transport",
        "_wrote_at",
        "address",
        "close_code",
        "heard",
        "heard_bytes",
        "heard_frames",
        "look_at_bytes",
        "owner",
        "rtt_s",
        "written",
    )

    def __init__(
        self,
        owner: SocketOwner,
        flusher: Flusher,
        *,
        on_request: Callable[["DeviceSocket", Request], None],
        limits: SocketLimits,
        census: Census,
        extensions: Sequence[ServerExtensionFactory] = (),
    ) -> None:
        self.owner = owner
        self._on_request = on_request
        self.heard = 0
        self.heard_bytes = 0
        self.heard_frames = 0
        self.look_at_bytes = NEVER_LOOK
        self.written = 0
        self.rtt_s = 0.0
        self.close_code: int | None = None
        self.address = ""
        self._flusher = flusher
        self._dirty = flusher.dirty
        self._limits = limits
        self._census = census
        self._protocol = DeviceServerProtocol(extensions)
        self._transport: asyncio.Transport | None = None
        # What the flusher will write: nearly always one frame, so a list is made only for a second one.
        self._next: bytes | None = None
        self._more: list[bytes] | None = None
        self._open = False
        self._ended = False
        self._requested = False
        self._shortcut = False
        self._pinged_at = 0.0
        self._heard_at = self._wrote_at = flusher.now
        self._deadline: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"DeviceSocket({self._protocol.state.name.lower()}, {self.buffered} bytes wait)"

    # What the owner asks for

    @property
    def is_open(self) -> bool:
        """Whether events may be written."""
        return self._open

    @property
    def deflates(self) -> bool:
        """Whether the peer takes compressed frames."""
        return bool(self._protocol.extensions)

    @property
    def peer(self) -> str:
        """The address at the other end, empty if there is none to tell."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return name[0] if isinstance(name, tuple) and name else ""

    @property
    def is_asking(self) -> bool:
        """Whether a request waits for its answer."""
        if self._transport is None or self._transport.is_closing():
            return False
        return self._requested and self._protocol.is_unanswered

    @property
    def buffered(self) -> int:
        """Bytes that the kernel has not taken yet."""
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if self._next is not None:
            waiting += len(self._next) + (sum(map(len, self._more)) if self._more is not None else 0)
        return waiting

    @property
    def quiet_at(self) -> float:
        """Until then at least there were bytes both ways; in time of the wheel's ticks."""
        return min(self._heard_at, self._wrote_at)

    def link(self) -> LinkState:
        """What the kernel knows of the connection."""
        return link_state(self._transport.get_extra_info("socket") if self._transport is not None else None)

    def set_deadline(self, seconds: float) -> None:
        """Abort after so long, unless accepted or lost before."""
        self._cancel_deadline()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        if not self._requested:
            HUB_SOCKETS_CUT.labels("request").inc()
        self.abort()

    def judge_upgrade(self, request: Request) -> Response:
        """The answer that would upgrade the connection; another status than 101 says that it cannot be."""
        return self._protocol.accept(request)

    def accept(self, response: Response, first: bytes) -> None:
        """Upgrade, and write the first frames with it."""
        if not self.is_asking:
            return
        self._cancel_deadline()
        self._protocol.send_response(response)
        self._open = True
        # What came before was the request.
        self.heard_bytes = self.heard_frames = 0
        self.look_at_bytes = self._limits.first_look_bytes
        self._shortcut = self._protocol.reader.at_boundary
        self._take_writes()
        self.write(first)

    def refuse(self, response: Response) -> None:
        """Answer without an upgrade and end the connection."""
        if not self.is_asking:
            return
        self._protocol.send_response(response)
        self._take_writes()
        self.set_deadline(self._limits.close_s)

    def write(self, frame: bytes) -> None:
        """Write a whole frame at the end of this turn. The caller bounds what it writes."""
        if self._next is None:
            self._next = frame
            dirty = self._dirty
            if not dirty:
                self._flusher.wake()
            dirty.append(self)
        elif self._more is None:
            self._more = [frame]
        else:
            self._more.append(frame)

    def answer(self, frame: bytes) -> None:
        """Write an answer to something the peer sent: bounded here, since a peer that does not read can still ask."""
        if self._open:
            self.write(frame)
            self._check_flood()

    def ping(self) -> None:
        """Ask for a sign of life."""
        if self._open:
            self._pinged_at = monotonic()
            self.write(PING)
            self._check_flood()

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin the closing handshake; what arrives until its end is still handed on."""
        if not self._open:
            return
        self._open = False
        self.close_code = int(code)
        self._protocol.say_goodbye(code, reason)
        self._take_writes()
        self.set_deadline(self._limits.close_s)

    def fail(self, code: CloseCode, reason: str) -> None:
        """Close because of what the peer sent; nothing more of it is read."""
        self._protocol.give_up(code, reason)
        self._after_library()

    def abort(self) -> None:
        """Cut the connection."""
        self._open = False
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Hand the transport what waits; called by the flusher."""
        data = self._next
        if data is None:
            return
        if self._more is not None:
            data = b"".join((data, *self._more))
            self._more = None
        self._next = None
        self.written += len(data)
        self._wrote_at = self._flusher.now
        if self._transport is not None and not self._ended:
            self._transport.write(data)

    # What asyncio brings

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport, though they are ones.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_max_bytes)
        self._census.sockets += 1
        address = self._census.arrive(self.peer)
        if address is None or self._census.sockets > self._census.most:
            HUB_SOCKETS_CUT.labels("address" if address is None else "sockets").inc()
            self._transport.abort()
        else:
            self.set_deadline(self._limits.request_s)
        self.address = address or ""

    def pause_writing(self) -> None:
        """More waits than may: acks by another way made room in the window, but nothing that was written is taken."""
        self.close_code = self.close_code or int(CloseCode.NO_PROGRESS)
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._census.sockets -= 1
        self._census.leave(self.address)
        self._cancel_deadline()
        self._open = False
        self._protocol.receive_eof()
        self._next = self._more = None
        self._transport = None
        owner, self.owner = self.owner, _NOBODY
        owner.on_lost(self)
        self._protocol.release()

    def data_received(self, data: bytes) -> None:
        self.heard += 1
        self._heard_at = self._flusher.now
        self.heard_bytes += len(data)
        if self.heard_bytes > self.look_at_bytes:
            self.owner.on_much()
        if self._shortcut:
            data = self._take_short_frames(data)
            if not data:
                return
        self._feed(data)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._after_library()

    # Inside

    def _take_short_frames(self, data: bytes) -> bytes:
        """Handle the whole short text frames, or the one answer to a ping, that `data` begins with; return the rest."""
        position, end_of_data = 0, len(data)
        while end_of_data - position >= 6 and data[position] == _FIN_TEXT:
            length = data[position + 1] ^ _MASKED
            end = position + 6 + length
            if length > SHORT_MAX or end > end_of_data:
                break
            payload = apply_mask(data[position + 6 : end], data[position + 2 : position + 6])
            position = end
            self.heard_frames += 1
            seq = ack_of(payload)
            if seq is not None:
                self.owner.on_ack(seq)
            else:
                self._on_message(payload)
            if not self._shortcut:
                return b""
        if position:
            return data[position:]
        if end_of_data == 6 and data.startswith(EMPTY_PONG):
            self.heard_frames += 1
            self._on_pong()
            return b""
        return data

    def _feed(self, data: bytes) -> None:
        if self._requested and self._protocol.is_unanswered:
            # A client has nothing to say between its request and the answer.
            self.abort()
            return
        self._protocol.receive_data(data)
        self._after_library()

    def _after_library(self) -> None:
        events = self._protocol.events_received()
        if not self._requested and self._protocol.handshake_exc is not None:
            self._answer_garbage()
        self._take_writes()
        # First, so that what a message before the close asks for is not written behind our own close frame.
        self._note_closing()
        self.heard_frames += len(events)
        for event in events:
            if isinstance(event, Request):
                self._requested = True
                self._on_request(self, event)
            elif isinstance(event, Frame):
                if self._protocol.state is State.CONNECTING:
                    self.abort()
                    return
                self._on_frame(event)
        self._shortcut = self._protocol.is_between_messages
        self._note_closing()

    def _note_closing(self) -> None:
        if self._open and self._protocol.state is not State.OPEN:
            self._open = False
            sent = self._protocol.close_sent
            self.close_code = sent.code if sent is not None else None
            self.set_deadline(self._limits.close_s)
            self.owner.on_closing()

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
            text = self._protocol.join(frame)
            if text is not None:
                self._on_message(text)
        elif frame.opcode is Opcode.PONG:
            self._on_pong()
        elif frame.opcode is Opcode.BINARY:
            self.close(CloseCode.PROTOCOL_ERROR, "binary frame")

    def _on_pong(self) -> None:
        if self._pinged_at:
            self.rtt_s = monotonic() - self._pinged_at
            self._pinged_at = 0.0

    def _on_message(self, text: bytes) -> None:
        try:
            text.decode()
        except UnicodeDecodeError:
            self.fail(CloseCode.BAD_UTF8, CloseCode.BAD_UTF8.reason)
            return
        seq = ack_of(text)
        if seq is not None:
            self.owner.on_ack(seq)
        else:
            self.owner.on_text(text)

    def _take_writes(self) -> None:
        """Move what the library wants written behind what is written already."""
        for data in self._protocol.data_to_send():
            if data is not SEND_EOF and data:
                self.write(data)
            elif self._transport is not None:
                self.flush()
                # Nothing may be written behind it: the transport would raise, in the midst of everybody's frames.
                self._ended = True
                with contextlib.suppress(OSError, RuntimeError):
                    self._transport.write_eof()
        self._check_flood()

    def _check_flood(self) -> None:
        if self._transport is not None and self.buffered > self._limits.write_max_bytes:
            self.close_code = int(CloseCode.OVER_RATE)
            self.abort()

    def _answer_garbage(self) -> None:
        self._requested = True
        if (answer := self._protocol.answer_to_garbage()) is not None:
            self.write(answer)
        self.set_deadline(self._limits.close_s)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
