"""One open socket of the client: its outbox, which never waits and holds the newest of each kind, and the task that
empties it.

An ack leaves only when the position is durable; what is asked for meanwhile has its own turn. A close goes last.
"""

import asyncio

from device.actions import ack_frame
from device.link import Link, LinkClosed
from device.positions import Ledger
from shared.protocol.frames import Token, encode_frame

__all__ = ["Wire"]


class Wire:
    """At most one ack, one token, one batch, one ping and one close wait here. `bearer` is what opened it."""

    def __init__(self, number: int, link: Link, ledger: Ledger, *, bearer: str, is_ticket: bool) -> None:
        self.number = number
        self.link = link
        self.bearer = bearer
        self.is_ticket = is_ticket
        self.closing = False
        self._ledger = ledger
        self._ack: int | None = None
        self._token: str | None = None
        self._batch: bytes | None = None
        self._ping = False
        self._close: tuple[int, str] | None = None
        self._kick = asyncio.Event()
        self._outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Wire({self.number}, closing={self.closing})"

    def decided(self, *, live: bool) -> None:
        """Whether the try for this socket has led to a live one."""
        if not self._outcome.done():
            self._outcome.set_result(live)

    async def outcome(self) -> bool:
        """Wait for `decided()`. Bounded by the session, which closes a socket that is accepted and silent."""
        return await self._outcome

    def ack(self, seq: int) -> None:
        """Send an ack, once the position is durable."""
        self._ack = seq
        self._kick.set()

    def renew(self, token: str) -> None:
        """Send a newer credential."""
        self._token = token
        self._kick.set()

    def sync(self, frame: bytes) -> None:
        """Send a batch of operations; one is under way at a time."""
        self._batch = frame
        self._kick.set()

    def ping(self) -> None:
        """Send a ping."""
        self._ping = True
        self._kick.set()

    def close(self, code: int, reason: str) -> None:
        """Shake hands and close, after an ack that waits."""
        self.closing = True
        self._close = self._close or (code, reason)
        self._kick.set()

    def abort(self) -> None:
        """Close without a handshake."""
        self.closing = True
        self.link.abort()

    async def write(self) -> None:
        """Empty the outbox until the socket closes."""
        try:
            while True:
                await self._kick.wait()
                self._kick.clear()
                if self._ping:
                    self._ping = False
                    await self.link.ping()
                if self._token is not None:
                    token, self._token = self._token, None
                    await self.link.send(encode_frame(Token(token)))
                if self._ack is not None:
                    # Taken before the sync: what comes in meanwhile may not be durable yet, and has its own turn.
                    seq, self._ack = self._ack, None
                    await self._ledger.sync()
                    await self.link.send(ack_frame(seq))
                if self._batch is not None:
                    batch, self._batch = self._batch, None
                    await self.link.send(batch)
                if self._close is not None and self._ack is None:
                    await self.link.close(*self._close)
                    return
        except LinkClosed:
            return  # the reader sees it as well, and says how it ended
