"""One live page's stream of server-sent events: bounded in life, watched for a session that has ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.dashboard.viewers import Viewer, Viewers
from api.problems import Problem
from shared.clock import monotonic
from shared.store.errors import StoreError

__all__ = ["LiveStream"]

# A line that says nothing, so that a proxy does not take the stream for dead, nor we a page that is gone for alive.
QUIET_S: Final = 15.0
RECHECK_S: Final = 10.0
_OVER: Final = b"event: over\ndata: {}\n\n"


class LiveStream(Response):
    """Sends what the viewer is to be sent until `lasts_s` are over, or the session is.

    `still_allowed` raises Problem when it is. The page opens the next stream by itself, after a second or so.
    """

    def __init__(
        self,
        viewers: Viewers,
        device_ids: Sequence[str],
        *,
        lasts_s: float,
        retry_ms: int,
        still_allowed: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(b"", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.media_type = "text/event-stream"
        del self.headers["content-length"]
        self.headers["content-type"] = "text/event-stream; charset=utf-8"
        self._viewers = viewers
        self._device_ids = device_ids
        self._lasts_s = lasts_s
        self._retry_ms = retry_ms
        self._still_allowed = still_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            await _send(send, b"retry: %d\n\n" % self._retry_ms)
            # Not before: who is cancelled on the way here must leave nothing behind.
            viewer = self._viewers.open(self._device_ids)
            if viewer is not None:
                try:
                    await self._stream(viewer, send)
                finally:
                    self._viewers.leave(viewer)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, viewer: Viewer, send: Send) -> None:
        began = checked = monotonic()
        while not viewer.is_closed and (left_s := began + self._lasts_s - monotonic()) > 0:
            try:
                async with asyncio.timeout(min(QUIET_S, left_s)):
                    await viewer.wait()
            except TimeoutError:
                await _send(send, b": quiet\n\n")
            if monotonic() - checked >= RECHECK_S:
                checked = monotonic()
                if not await self._is_allowed():
                    await _send(send, _OVER)
                    return
            if changed := viewer.take():
                await _send(send, changed)

    async def _is_allowed(self) -> bool:
        try:
            await self._still_allowed()
        except Problem:
            return False
        except StoreError:
            return True  # nobody can say: the page shows nothing new meanwhile anyway
        return True


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
