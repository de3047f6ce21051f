"""Sends what waits in the outbox, batch by batch, over the socket when there is one and the batch fits, else by REST.

It carries, and the outbox decides. Whatever a batch's fate, one of the outbox's answers follows; only what ends the
whole client ends it too. A file that cannot be written for now (a full disk) makes it wait and ask again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from device.asking import SyncRefused
from device.errors import OutboxError, Refused, TransportError, Unreachable
from device.keeper import Keeper
from device.outbox import BATCH_MAX_BYTES, Batch
from device.rest import BatchRefused, Rest
from device.results import Answer, Fault
from device.socket_way import FRAME_MAX_BYTES, SocketWay
from device.timing import Timing
from shared.backoff import Backoff
from shared.clock import monotonic

__all__ = ["Sender"]

_log = logging.getLogger("fleetwire.device")

_BARRED_S: Final = 60.0
_LONG_BARRED_S: Final = 3600.0
# A hub that says this has never heard of such frames, or not of what is in this one.
_NOT_TAKEN: Final = frozenset({"not_supported", "unknown_type", "wrong_field"})
# The API says the same, and with it when to come back or what is wrong.
_BY_REST: Final = frozenset({"too_large", "keys_spent", "over_rate"})


class Sender:
    """`ask` sends a batch over the live socket; `is_live` says whether there is one."""

    def __init__(
        self,
        keeper: Keeper,
        rest: Rest | None,
        *,
        ask: Callable[[bytes], Awaitable[list[Answer]]],
        is_live: Callable[[], bool],
        timing: Timing,
        rand: Random,
    ) -> None:
        self._keeper = keeper
        self._rest = rest
        self._ask = ask
        self._is_live = is_live
        self._timing = timing
        self._rand = rand
        self._way = SocketWay(monotonic())
        self.trouble = ""  # the last try that failed, for people

    async def run(self) -> None:
        """Send until cancelled. Raises ClientClosed."""
        while True:
            await self._keeper.changes.until(self._due)
            # Without REST a batch must fit into a frame.
            bytes_max = FRAME_MAX_BYTES if self._rest is None else BATCH_MAX_BYTES
            batch = self._keeper.outbox.next_batch(monotonic(), bytes_max=bytes_max)
            if batch is None:
                continue
            try:
                await self._send(batch)
            except OutboxError as error:
                self._troubled(f"operations cannot be kept: {error}", logging.ERROR)
                await self._recover()

    def hurry(self) -> None:
        """The network is back."""
        self._keeper.outbox.hurry(monotonic())
        self._keeper.changes.notify()

    def on_over_rate(self) -> None:
        """The hub says that this device sends too much."""
        self._way.bar(monotonic() + _BARRED_S)

    # -- inside

    def _due(self) -> float | None:
        due = self._keeper.outbox.due
        if due is None or self._rest is not None:
            return due
        if not self._is_live():
            return None
        ready = self._way.ready_at(min(FRAME_MAX_BYTES, self._keeper.waiting_bytes))
        return due if ready is None else max(due, ready)

    async def _send(self, batch: Batch) -> None:
        keeper = self._keeper
        operations = await keeper.begin(batch)
        try:
            answers = await self._by_some_way(operations)
        except SyncRefused as error:
            self._troubled(f"socket: {error}")
            await self._refused_by_hub(error)
        except BatchRefused as error:
            self._troubled(f"REST: {error}", logging.WARNING)
            await keeper.on_refused(error.http, error.fault)
        except Refused as error:
            self._troubled(f"REST: HTTP {error.status} {error}")
            await keeper.on_failed(wish_s=error.retry_after, answered=True)
        except TransportError as error:
            self._troubled(f"{error}")
            await keeper.on_failed()
        else:
            self.trouble = ""
            await keeper.on_results(answers)

    async def _by_some_way(self, operations: bytes) -> list[Answer]:
        now, size = monotonic(), len(operations)
        rest = self._rest
        ready = self._way.ready_at(size)
        if rest is None or (self._is_live() and ready is not None and ready <= now):
            if size > FRAME_MAX_BYTES:
                raise SyncRefused("too_large", "larger than a frame; give api=, then it goes by REST")
            self._way.spend(size, now)
            try:
                return await self._ask(operations)
            except Unreachable:
                if rest is not None:
                    self._way.bar(monotonic() + self._timing.sync_answer_s)
                raise
        return await rest.sync(operations)

    async def _refused_by_hub(self, error: SyncRefused) -> None:
        keeper = self._keeper
        if error.code in _NOT_TAKEN or error.code in _BY_REST:
            if self._rest is not None:
                self._way.bar(monotonic() + (_LONG_BARRED_S if error.code in _NOT_TAKEN else _BARRED_S))
                keeper.outbox.on_abandoned()
                return
            if error.code in ("too_large", "wrong_field"):
                await keeper.on_refused(413, Fault(error.code, str(error)))
                return
        await keeper.on_failed(answered=True, wish_s=_LONG_BARRED_S if error.code == "keys_spent" else None)

    async def _recover(self) -> None:
        """Until the file can be written again, nothing is known of what was answered; it is asked for again."""
        backoff = Backoff(self._rand, base=self._timing.sync_base_s, cap=self._timing.sync_cap_s)
        while True:
            try:
                await self._keeper.recover()
            except OutboxError as error:
                self._troubled(f"operations cannot be kept: {error}")
                await asyncio.sleep(backoff.next() + self._timing.sync_base_s)
            else:
                return

    def _troubled(self, text: str, level: int = logging.DEBUG) -> None:
        self.trouble = text
        _log.log(level, "operations: %s", text)
