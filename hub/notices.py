"""Notices: from one message of the bus to every device here, or those of one class, at most once, without a number.

They come after everything that matters: a device that is behind, or has more on its way than a little, gets none, and
more notices than can be handed out are dropped as they come. The frame is made once, and the connections are gone
through in small steps with the loop's other work in between.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

import structlog

from hub.compression import Deflater
from hub.flusher import Flusher
from hub.wire import text_bytes
from shared.bus.message import NOTICE, InvalidMessage, notice_body
from shared.telemetry.metrics import BUS_MALFORMED, HUB_NOTICES

__all__ = ["NOTICE_ROOM_BYTES", "NoticeFrames", "Notices", "Receiver"]

WAITING_MAX: Final = 64
FRAME_MAX_BYTES: Final = 8 * 1024
STEP: Final = 64
# A device with more than this unsent or not acked has enough to do.
NOTICE_ROOM_BYTES: Final = 64 * 1024

_SENT: Final = HUB_NOTICES.labels("sent")
_BEHIND: Final = HUB_NOTICES.labels("behind")
_FULL: Final = HUB_NOTICES.labels("full")

_log = structlog.get_logger(__name__)


class NoticeFrames(NamedTuple):
    """One notice as it is written: plain, and compressed when that gains."""

    plain: bytes
    compressed: bytes | None


class Receiver(Protocol):
    """A connection as notices see it."""

    @property
    def device_class(self) -> str: ...
    @property
    def is_done(self) -> bool: ...
    def on_notice(self, frames: NoticeFrames) -> bool: ...


class Notices:
    """`on_message` takes one from the bus, `run()` is the loop that hands them out."""

    def __init__(self, *, receivers: Callable[[], Iterable[Receiver]], flusher: Flusher, deflater: Deflater) -> None:
        """`receivers()` are the newest connections of the devices that are here."""
        self._receivers = receivers
        self._flusher = flusher
        self._deflater = deflater
        self._waiting: deque[tuple[str | None, bytes]] = deque()
        self._work = asyncio.Event()

    def __repr__(self) -> str:
        return f"Notices({len(self._waiting)} wait)"

    def on_message(self, kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        """One message of the notices' channel."""
        del device_id, epoch, seq
        try:
            device_class, frame = notice_body(body)
        except InvalidMessage:
            BUS_MALFORMED.inc()
            return
        if kind != NOTICE or len(frame) > FRAME_MAX_BYTES:
            BUS_MALFORMED.inc()
        elif len(self._waiting) >= WAITING_MAX:
            _FULL.inc()
        else:
            self._waiting.append((device_class, frame))
            self._work.set()

    async def run(self) -> None:
        """Hand out until cancelled."""
        while True:
            await self._work.wait()
            while self._waiting:
                await self._hand_out(*self._waiting.popleft())
            self._work.clear()

    async def _hand_out(self, device_class: str | None, frame: bytes) -> None:
        frames = NoticeFrames(text_bytes(frame), self._deflater.text(frame))
        receivers = [
            receiver for receiver in self._receivers() if device_class is None or receiver.device_class == device_class
        ]
        sent = 0
        for start in range(0, len(receivers), STEP):
            # The turn of the loop in between is when others are served, and when some of these may end.
            await asyncio.sleep(0)
            self._flusher.in_batch = True
            for receiver in receivers[start : start + STEP]:
                try:
                    sent += not receiver.is_done and receiver.on_notice(frames)
                except Exception:  # noqa: BLE001 - one device's trouble must not keep the others' frames
                    _log.exception("a notice could not be handed to a device")
            self._flusher.flush()
        _SENT.inc(sent)
        _BEHIND.inc(len(receivers) - sent)
        _log.debug("notice handed out", device_class=device_class, devices=len(receivers), sent=sent)
