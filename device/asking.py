"""Batches of operations that were sent over a socket and wait for their answers, told apart by `ref`."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from device.errors import TransportError, Unreachable
from device.results import Answer

__all__ = ["Asking", "SyncRefused"]


class SyncRefused(TransportError):
    """The hub answered a batch with an error. `code` is the frame's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


class Asking:
    """Whoever asks has a deadline; an answer that comes later is dropped."""

    def __init__(self) -> None:
        self._number = 0
        self._open: dict[str, tuple[int, asyncio.Future[list[Answer]]]] = {}

    @contextmanager
    def question(self, link: int) -> Iterator[tuple[str, asyncio.Future[list[Answer]]]]:
        """A new `ref` and its answer, to be waited for inside. The answer raises SyncRefused, Unreachable."""
        self._number += 1
        ref = f"s{self._number}"
        answer: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._open[ref] = link, answer
        try:
            yield ref, answer
        finally:
            del self._open[ref]
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # whoever asked may have been cancelled in the same moment

    def answered(self, link: int, ref: str, results: Sequence[Mapping[str, Any]]) -> None:
        """A `sync_result` has come."""
        if (answer := self._waiting(link, ref)) is None:
            return
        try:
            answer.set_result(msgspec.convert(results, list[Answer]))
        except msgspec.ValidationError as error:
            answer.set_exception(Unreachable(f"results that are not the hub's: {error}"))

    def refused(self, link: int, ref: str | None, code: str, detail: str) -> bool:
        """An `error` has come; whether it was the answer to a question."""
        if ref is None or (answer := self._waiting(link, ref)) is None:
            return False
        answer.set_exception(SyncRefused(code, detail))
        return True

    def closed(self, link: int) -> None:
        """Nothing more will come by this socket."""
        for asked, answer in self._open.values():
            if asked == link and not answer.done():
                answer.set_exception(Unreachable("the socket was closed before the answer"))

    def _waiting(self, link: int, ref: str) -> "asyncio.Future[list[Answer]] | None":
        asked, answer = self._open.get(ref, (0, None))
        return answer if asked == link and answer is not None and not answer.done() else None
