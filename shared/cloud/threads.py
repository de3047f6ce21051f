"""File calls block, so they run in a few threads of their own, away from the event loop and everybody else's threads.

Bounded thrice: the number of threads, the number of calls that wait for one (`StoreBusy` above it), and the time a
caller waits (`StoreUnavailable` after it: a dead network disk never stops the process). A thread cannot be stopped.
So a call whose caller has gone runs to its end, and `release` then gets what it made (an open file, say).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from shared.cloud.errors import StoreBusy, StoreUnavailable, from_os_error

T = TypeVar("T")

DEADLINE_S: Final = 30.0


class FileThreads:
    """Runs blocking calls. Each call must end by itself and handle at most a few MiB."""

    def __init__(self, threads: int, *, waiting_max: int = 1024, deadline_s: float = DEADLINE_S) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="cloud")
        self._threads = threads
        self._limit = threads + waiting_max
        self._deadline_s = deadline_s
        self._unfinished: set[asyncio.Future[Any]] = set()

    def __repr__(self) -> str:
        return f"FileThreads({self._threads}, {len(self._unfinished)} unfinished)"

    async def run(self, path: str, call: Callable[..., T], *args: Any, release: Callable[[T], None] | None = None) -> T:
        """The result of `call(*args)`, its OSErrors made into CloudErrors about `path`."""
        if len(self._unfinished) >= self._limit:
            raise StoreBusy
        return await self._run(path, call, args, release)

    async def run_always(self, path: str, call: Callable[..., T], *args: Any) -> T:
        """As `run`, but never refused: for calls that give something back."""
        return await self._run(path, call, args, None)

    async def _run(
        self, path: str, call: Callable[..., T], args: tuple[Any, ...], release: Callable[[T], None] | None
    ) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._executor, call, *args)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        handed_over = False
        try:
            async with asyncio.timeout(self._deadline_s):
                result = await asyncio.shield(future)
            handed_over = True
            return result
        except OSError as error:
            if isinstance(error, TimeoutError) and not future.done():
                detail = f"{path!r}: the file system did not answer within {self._deadline_s:g} s"
                raise StoreUnavailable(detail) from None
            raise from_os_error(error, path) from error
        finally:
            # Also when the result came in the very moment in which the caller was cancelled.
            if not handed_over:
                future.add_done_callback(lambda done: _abandoned(done, release))

    async def close(self, *, grace_s: float = 5.0) -> None:
        """Take no more calls and wait for those that run, for a while."""
        self._executor.shutdown(wait=False)
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=grace_s)


def _abandoned(future: "asyncio.Future[T]", release: Callable[[T], None] | None) -> None:
    if not future.cancelled() and future.exception() is None and release is not None:
        release(future.result())
