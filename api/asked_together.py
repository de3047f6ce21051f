"""Questions that come at the same time are asked together, and equal ones as one; no answer is kept.

A question that comes while a statement runs waits for the next, so no answer is older than its question. What waits is
bounded by the bound on requests in flight.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

__all__ = ["AskedTogether"]

BATCH_MAX: Final = 500
AT_ONCE: Final = 2

K = TypeVar("K", bound=Hashable)
A = TypeVar("A")


class AskedTogether(Generic[K, A]):
    """`ask` gives the answer to one question; `run` answers many, and leaves out those without an answer."""

    def __init__(
        self, run: Callable[[Sequence[K]], Awaitable[Mapping[K, A]]], *, name: str, at_once: int = AT_ONCE
    ) -> None:
        self._run = run
        self._name = name
        self._at_once = at_once
        self._waiting: dict[K, asyncio.Future[A | None]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"AskedTogether({self._name}, {len(self._waiting)} waiting, {len(self._running)} running)"

    async def ask(self, question: K) -> A | None:
        """Raises what the statement raised. Cancel to give up."""
        answer = self._waiting.get(question)
        if answer is None:
            answer = self._waiting[question] = asyncio.get_running_loop().create_future()
            # Nobody may be left to hear of it when it fails.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            if len(self._running) < self._at_once:
                task = asyncio.create_task(self._work(), name=self._name)
                self._running.add(task)
                task.add_done_callback(self._ended)
        return await asyncio.shield(answer)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)

    async def _work(self) -> None:
        batch: dict[K, asyncio.Future[A | None]] = {}
        try:
            while self._waiting:
                batch = {question: self._waiting.pop(question) for question in list(self._waiting)[:BATCH_MAX]}
                try:
                    answers = await self._run(list(batch))
                except Exception as error:  # noqa: BLE001 - it is raised again where it was asked
                    for answer in batch.values():
                        answer.set_exception(error)
                else:
                    for question, answer in batch.items():
                        answer.set_result(answers.get(question))
        finally:
            # In the same step as the last look at who waits: a request that comes after it must find a place free.
            task = asyncio.current_task()
            if task is not None:
                self._running.discard(task)
            for answer in batch.values():
                answer.cancel()
