"""The way round when no socket can be had: pages of events and acks by REST. It carries, and the session decides.

Pages are read one after the other while no socket is live; what still comes when one is live is not needed. One ack is
under way at a time, always the newest.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from device.actions import Action, ResetSaid
from device.changes import Changes
from device.errors import Refused, TransportError, Unreachable
from device.positions import Ledger
from device.rest import PageTooLarge, Rest
from device.route import Route
from device.session import Session
from device.timing import Timing
from shared.clock import monotonic
from shared.protocol.position import Position

__all__ = ["WayRound"]

_PAGE_EVENTS: Final = 100
_ASKED_TOO_OFTEN: Final = 429


@dataclass
class WayRound:
    """`do` performs what the session decided; `trouble` is told what was last in the way."""

    rest: Rest
    session: Session
    route: Route
    ledger: Ledger
    timing: Timing
    changes: Changes
    do: Callable[[Iterable[Action]], None]
    trouble: Callable[[str], None]
    to_post: Position | None = None

    async def read_pages(self) -> None:
        """Keep reading while no socket is live."""
        limit, wait_s = _PAGE_EVENTS, 0.0
        while True:
            await self.changes.until(
                lambda: None if self.session.live or self.session.room == 0 else self.route.rest_due
            )
            begun, before = monotonic(), self.session.received
            self.session.use_rest(True)
            page = asyncio.ensure_future(
                self.rest.events(before, limit=max(1, min(limit, self.session.room)), wait_s=wait_s)
            )
            try:
                page.add_done_callback(lambda _: self.changes.notify())
                while not page.done() and not self.session.live:
                    await self.changes.wait()
                if not page.done():
                    wait_s = 0.0
                    continue  # the socket is back; a page on the way is not needed
                answer = page.result()
            except PageTooLarge as error:
                limit = max(1, limit // 2)
                self._failed(error)
                continue
            except TransportError as error:
                wait_s = 0.0
                self._failed(error)
                continue
            finally:
                page.cancel()
                await asyncio.gather(page, return_exceptions=True)
            now = monotonic()
            if isinstance(answer, ResetSaid):
                self.do(self.session.on_rest_reset(answer.position, answer.reason, now))
                self._ok(now, idle=False)
                continue
            self.do(self.session.on_events_page(answer, now))
            if answer.events and self.session.received == before:
                self._failed(Unreachable("a page that does not go on from where it was asked"))
                continue
            # An empty page well before its time is a server that shuts down: do not ask it in a circle.
            early = not answer.events and wait_s > 0 and now - begun < wait_s / 4
            self._ok(now, idle=early)
            limit = min(_PAGE_EVENTS, limit * 2)
            wait_s = 0.0 if answer.more else self.timing.rest_wait_s

    async def post_acks(self) -> None:
        """Keep posting what the session wants acked."""
        while True:
            await self.changes.until(lambda: float("-inf") if self.to_post is not None else None)
            await self.post()

    async def post(self) -> None:
        """Post the newest ack, if there is one, once the position is durable."""
        position, self.to_post = self.to_post, None
        if position is None:
            return
        held: Position | None = None
        wish_s = 0.0
        try:
            await self.ledger.sync()
            held = await self.rest.ack(position)
        except TransportError as error:
            self.trouble(f"ack by REST: {error}")
            wish_s = self.route.heeded(error.retry_after if isinstance(error, Refused) else None)
        self.do(self.session.on_ack_posted(held, monotonic(), wish_s))

    def _ok(self, now: float, *, idle: bool) -> None:
        if not self.session.live:
            self.route.on_rest_ok(now, idle=idle)
        self.changes.notify()

    def _failed(self, error: TransportError) -> None:
        self.trouble(f"REST: {error}")
        if not self.session.live:
            wish_s = error.retry_after if isinstance(error, Refused) else None
            if isinstance(error, Refused) and error.status == _ASKED_TOO_OFTEN:
                self.route.on_rest_later(monotonic(), wish_s)
            else:
                self.route.on_rest_failed(monotonic(), wish_s)
        self.changes.notify()
