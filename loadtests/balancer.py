"""A balancer as small as one can be: connections go in turn to those of its targets that say they are ready.

It does what a proxy in front of the API does and no more. Every `period_s` each target is asked `/ready`; a new
connection is taken to the next one that said yes, or to another when that one refuses it; open connections are left
alone. What a target does to them is therefore seen by the client as it is.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Final

__all__ = ["Balancer"]

_HOST: Final = "127.0.0.1"
_CHUNK: Final = 64 * 1024
_ANSWER_S: Final = 1.0


class Balancer:
    """In front of ports of the loopback address: `async with Balancer([8081, 8082]) as balancer`."""

    def __init__(self, targets: Sequence[int], *, period_s: float = 0.1) -> None:
        self._targets = tuple(targets)
        self._period_s = period_s
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Condition()
        self.ready = dict.fromkeys(self._targets, False)
        self.taken = dict.fromkeys(self._targets, 0)
        self.turned_away = 0

    def __repr__(self) -> str:
        return f"Balancer({sum(self.ready.values())} of {len(self.ready)} ready, {self.taken} taken)"

    @property
    def url(self) -> str:
        """Where clients connect."""
        assert self._server is not None, "not entered"
        return f"http://{_HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> "Balancer":
        # Not a coroutine: of one, asyncio asks how it ended, and takes being cancelled for an error.
        self._server = await asyncio.start_server(lambda *streams: self._begin(self._take(*streams)), _HOST, 0)
        for target in self._targets:
            self._begin(self._watch(target))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, target: int, *, ready: bool, deadline_s: float = 60.0) -> None:
        """Wait until a target is ready, or is not."""
        async with asyncio.timeout(deadline_s), self._news:
            await self._news.wait_for(lambda: self.ready[target] is ready)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, target: int) -> None:
        while True:
            said = await _says_ready(target)
            if said is not self.ready[target]:
                async with self._news:
                    self.ready[target] = said
                    self._news.notify_all()
            await asyncio.sleep(self._period_s)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            found = await self._connect()
            if found is None:
                self.turned_away += 1
                return
            its_reader, its_writer = found
            try:
                await _either(_copy(reader, its_writer), _copy(its_reader, writer))
            finally:
                its_writer.close()
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        ready = [target for target in self._targets if self.ready[target]]
        for step in range(len(ready)):
            target = ready[(self._turn + step) % len(ready)]
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_ANSWER_S):
                    found = await asyncio.open_connection(_HOST, target)
                self._turn += 1
                self.taken[target] += 1
                return found
        return None


async def _says_ready(target: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(_HOST, target)
            try:
                writer.write(b"GET /ready HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            finally:
                writer.close()
    return False


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


async def _either(*works: Coroutine[Any, Any, None]) -> None:
    """Until one of them ends: an HTTP connection of which one half is closed is over."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
