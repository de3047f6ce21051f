"""Many requests that ask the same of the database at the same time ask together, in one statement.

When a hub dies or a network comes back, thousands of devices ask within a second; one statement each would keep all
of them waiting for a connection. A request that comes alone goes at once; those that come while statements run are
gathered into the next. At most one request per device is in a statement, in the order they came. Nothing is kept when
the answers are out.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

__all__ = ["Gathering"]

R = TypeVar("R")
A = TypeVar("A")


class _Asked(NamedTuple, Generic[R, A]):
    device_id: str
    request: R
    answer: "asyncio.Future[A | None]"


class Gathering(Generic[R, A]):
    """`ask` gives the answer to one request; `run` answers many, by device id, and leaves out what does not exist."""

    def __init__(
        self, run: Callable[[Sequence[R]], Awaitable[Mapping[str, A]]], *, batch_max: int, at_once: int = 2
    ) -> None:
        self._run = run
        self._batch_max = batch_max
        self._at_once = at_once
        self._waiting: deque[_Asked[R, A]] = deque()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Gathering({len(self._waiting)} waiting, {self._running} running)"

    async def ask(self, device_id: str, request: R) -> A | None:
        """Raises what the statement raised. Bounded by the bound on requests in flight; cancel to give up."""
        answer: asyncio.Future[A | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(device_id, request, answer))
        if self._running < self._at_once:
            self._running += 1
            task = asyncio.create_task(self._work(), name="gathered statements")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _work(self) -> None:
        batch: list[_Asked[R, A]] = []
        try:
            while batch := self._take():
                try:
                    answers = await self._run([asked.request for asked in batch])
                except Exception as error:  # noqa: BLE001 - it is raised again where it was asked
                    for asked in batch:
                        if not asked.answer.done():
                            asked.answer.set_exception(error)
                    continue
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_result(answers.get(asked.device_id))
        finally:
            # In the same step as the last look at who waits: a request that comes after it must find a place free.
            self._running -= 1
            for asked in batch:
                asked.answer.cancel()

    def _take(self) -> list[_Asked[R, A]]:
        """The next requests of different devices; a device's second one keeps its place for the next statement."""
        batch: dict[str, _Asked[R, A]] = {}
        later: list[_Asked[R, A]] = []
        while self._waiting and len(batch) < self._batch_max:
            asked = self._waiting.popleft()
            if asked.answer.done():
                continue  # whoever asked has gone
            if asked.device_id in batch:
                later.append(asked)
            else:
                batch[asked.device_id] = asked
        self._waiting.extendleft(reversed(later))
        return list(batch.values())
