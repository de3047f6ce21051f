"""Pages of several feeds written together, which costs hardly more than one of them: a page is mostly waiting, for the
way to Postgres and for its disk.

At most `at_once` writes run. While one is free a page goes at once and alone; those that come while all are busy go
together into the next. A feed has one page under way at a time. What one page did wrong it answers for alone: when a
write of several fails, each is written by itself.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from watcher.tasks import end

W = TypeVar("W")
R = TypeVar("R")


@dataclass(eq=False, slots=True)
class Ask(Generic[W, R]):
    """What a feed wants written under its term. `size` is how many paths it is about."""

    feed_id: str
    term: int
    work: W
    size: int
    answer: "asyncio.Future[R]" = field(repr=False)
    alone: bool = False
    joined: "Joined[W, R] | None" = field(default=None, repr=False)


@dataclass(eq=False, slots=True)
class Joined(Generic[W, R]):
    """Asks on their way, and the task that writes them."""

    asks: "list[Ask[W, R]]"
    task: "asyncio.Task[None] | None" = None


Write = Callable[[Sequence[Ask[W, R]]], Awaitable[Sequence[R | Exception]]]


class Joiner(Generic[W, R]):
    """`write` gets asks in the order of their feeds, at most one of each feed, and has one answer for each.

    It may raise instead, and then has written nothing, or nobody knows whether it has. `concerns_all` says of such an
    error that it is no fault of a single page: then all get it. `size_max` bounds what is joined, not a single page.
    """

    def __init__(
        self, write: Write[W, R], *, at_once: int, size_max: int, concerns_all: Callable[[Exception], bool]
    ) -> None:
        self._write = write
        self._at_once = at_once
        self._size_max = size_max
        self._concerns_all = concerns_all
        self._waiting: deque[Ask[W, R]] = deque()
        self._running: set[Joined[W, R]] = set()
        self._under_way: set[str] = set()

    def __repr__(self) -> str:
        return f"Joiner({len(self._waiting)} wait, {len(self._under_way)} under way in {len(self._running)} writes)"

    async def ask(self, feed_id: str, term: int, work: W, size: int) -> R:
        """The answer to it. A caller that goes does not stop what was joined with others; its feed has to wait."""
        ask: Ask[W, R] = Ask(feed_id, term, work, size, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        self._begin()
        try:
            return await ask.answer
        except asyncio.CancelledError:
            if not ask.answer.cancelled():
                ask.answer.exception()  # looked at, or it would be reported as never retrieved
            joined = ask.joined
            if joined is not None and joined.task is not None and all(one.answer.done() for one in joined.asks):
                await end([joined.task])
            raise

    def _begin(self) -> None:
        while len(self._running) < self._at_once and (asks := self._next()):
            joined = Joined(asks)
            for ask in asks:
                ask.joined = joined
            self._running.add(joined)
            self._under_way |= {ask.feed_id for ask in asks}
            joined.task = asyncio.create_task(self._run(joined), name=f"write {len(asks)} pages")
            joined.task.add_done_callback(lambda _, joined=joined: self._ended(joined))  # type: ignore[misc]

    def _next(self) -> list[Ask[W, R]]:
        """What goes next, in order of feeds; the rest goes on waiting."""
        taken: dict[str, Ask[W, R]] = {}
        size, left = 0, deque[Ask[W, R]]()
        for ask in self._waiting:
            if ask.answer.done():
                continue
            one_alone = any(one.alone for one in taken.values()) or (ask.alone and taken)
            fits = not taken or (not one_alone and size + ask.size <= self._size_max)
            if fits and ask.feed_id not in taken and ask.feed_id not in self._under_way:
                taken[ask.feed_id] = ask
                size += ask.size
            else:
                left.append(ask)
        self._waiting = left
        return [taken[feed_id] for feed_id in sorted(taken)]

    async def _run(self, joined: Joined[W, R]) -> None:
        asks = joined.asks
        try:
            answers = await self._write(asks)
        except Exception as error:  # noqa: BLE001 - it is what those who asked get
            if len(asks) > 1 and not self._concerns_all(error):
                for ask in asks:
                    ask.alone = True
                self._waiting.extendleft(reversed(asks))
                return
            answers = [error] * len(asks)
        for ask, answer in zip(asks, answers, strict=True):
            if ask.answer.done():
                continue
            if isinstance(answer, Exception):
                ask.answer.set_exception(answer)
            else:
                ask.answer.set_result(answer)

    def _ended(self, joined: Joined[W, R]) -> None:
        """Also when the task was ended before it began to run."""
        self._running.discard(joined)
        for ask in joined.asks:
            self._under_way.discard(ask.feed_id)
            ask.joined = None
        if joined.task is not None and joined.task.cancelled():
            for ask in joined.asks:
                ask.answer.cancel()
        elif joined.task is not None and (error := joined.task.exception()) is not None:
            for ask in joined.asks:
                if not ask.answer.done():
                    ask.answer.set_exception(error)
        self._begin()
