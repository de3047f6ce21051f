"""Bringing the parts of one upload: read once in order, hashed on the way, each part tried until the provider has it.

A part stays in memory until it is in, so a retry reads nothing again. As many are on their way as the provider takes at
a time; where it takes them only in order, one more is being read. All uploads of a process together hold no more bytes
than its budget. Where parts go in order, the provider is asked what it has before one is tried again: the answer may
have been lost and not the part, and it may have taken half of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from shared.cloud.byte_budget import ByteBudget
from shared.cloud.errors import CloudError, ContentMismatch, NotFound, RateLimited, StoreUnavailable
from shared.cloud.hash_kinds import ContentHashes
from shared.cloud.provider import Provider, Upload
from shared.cloud.threads import FileThreads
from shared.cloud.transfer_plan import Patience, TransferPlan, unbroken
from shared.cloud.transfer_source import ContentReader

__all__ = ["PartSender", "SessionGone", "Surroundings"]

T = TypeVar("T")

_PASS_OVER = 1024 * 1024


class SessionGone(CloudError):
    """The provider knows nothing of the upload any more, or less than it did: it begins anew."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all uploads of a process share."""

    budget: ByteBudget
    threads: FileThreads
    patience: Patience
    rand: Random
    time: Callable[[], float]
    sleep: Callable[[float], Awaitable[Any]]

    async def persistently(self, call: Callable[[], Awaitable[T]], on_retry: Callable[[], None]) -> T:
        """One call to a provider, again while it is unavailable and patience lasts."""
        began = self.time()
        failed = 0
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                failed += not isinstance(error, RateLimited)
                await self.pause(error, failed, began)
                on_retry()

    async def pause(self, error: CloudError, failed: int, began: float) -> None:
        """Wait for the next try, or raise the error when there is none."""
        told_s = error.retry_after_s if isinstance(error, RateLimited) else None
        spent_s = self.time() - began
        wait_s = self.patience.wait_s(made=failed, spent_s=spent_s, rand=self.rand, retry_after_s=told_s)
        if wait_s is None:
            raise error
        await self.sleep(wait_s)


class PartSender:
    """Brings what is missing of one upload. `on_change` is called after every part and every failed try."""

    def __init__(
        self,
        provider: Provider,
        upload: Upload,
        plan: TransferPlan,
        around: Surroundings,
        *,
        on_brought: Callable[[], None],
        on_retry: Callable[[], None],
    ) -> None:
        self._provider = provider
        self._upload = upload
        self._plan = plan
        self._around = around
        self._on_brought = on_brought
        self._on_retry = on_retry
        at_once = max(1, provider.capabilities.parts_at_once)
        self._sending = asyncio.Semaphore(at_once)
        self._slots = asyncio.Semaphore(at_once + 1 if plan.in_order else at_once)

    async def send_all(self, reader: ContentReader, hashes: ContentHashes) -> None:
        """All parts, and all bytes through `hashes`. Raises SessionGone, ContentChanged, what patience ended with."""
        try:
            async with asyncio.TaskGroup() as group:
                for start, end in self._plan.cuts():
                    if self._plan.missing(start, end) is None:
                        await self._pass_over(reader, hashes, end - start)
                        continue
                    await self._slots.acquire()
                    content = await self._read(reader, hashes, end - start)
                    group.create_task(self._send(start, content))
                    # Not to be held by this frame while the next is read.
                    del content
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _read(self, reader: ContentReader, hashes: ContentHashes, length: int) -> bytes:
        await self._around.budget.take(length)
        try:
            content = await reader.read(length)
            await self._around.threads.run(self._upload.path, hashes.update, content)
            return content
        except BaseException:
            self._around.budget.give_back(length)
            raise

    async def _pass_over(self, reader: ContentReader, hashes: ContentHashes, length: int) -> None:
        while length:
            piece = await reader.read(min(length, _PASS_OVER))
            await self._around.threads.run(self._upload.path, hashes.update, piece)
            length -= len(piece)

    async def _send(self, start: int, content: bytes) -> None:
        held = len(content)
        try:
            async with self._sending:
                missing = self._plan.missing(start, start + held)
                if missing is None:
                    return
                content = content[missing[0] - start :]
                await self._persistently(missing[0], content)
        finally:
            self._slots.release()
            self._around.budget.give_back(held)

    async def _persistently(self, start: int, content: bytes) -> None:
        began = self._around.time()
        end = start + len(content)
        failed = 0
        while True:
            try:
                self._plan.has(await self._provider.put_part(self._upload, start, content))
                self._on_brought()
                return
            except NotFound as error:
                raise SessionGone(str(error)) from error
            except (StoreUnavailable, ContentMismatch) as error:
                failed += not isinstance(error, RateLimited)
                await self._around.pause(error, failed, began)
            self._on_retry()
            if self._plan.in_order:
                until = await self._has_until()
                if until < start:
                    raise SessionGone(f"{self._upload.path!r}: the provider has {until} bytes and had {start}")
                self._plan.has_until(until)
                if until >= end > 0:
                    self._on_brought()
                    return
                content = content[until - start :]
                start = until

    async def _has_until(self) -> int:
        async def ask() -> int:
            return unbroken(await self._provider.parts(self._upload))

        try:
            return await self._around.persistently(ask, self._on_retry)
        except NotFound as error:
            raise SessionGone(str(error)) from error


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of all that went wrong at once; what ends the whole upload comes before what ends a session."""
    flat: list[BaseException] = []
    waiting: list[BaseException] = [errors]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseExceptionGroup):
            waiting = [*error.exceptions, *waiting]
        else:
            flat.append(error)
    return next((error for error in flat if not isinstance(error, SessionGone)), flat[0])
