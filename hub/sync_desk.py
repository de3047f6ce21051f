"""Operations that devices send over their sockets: the same engine as by REST, at a pace that events do not feel.

A device's batches are done one at a time and in their order; of different devices a few at once, in turns, so that one
with a long queue keeps nobody waiting. What waits is bounded, for a device and for the hub, and each has a deadline
from its arrival on. A batch that is answered by an error may have been applied all the same, when Postgres was lost
over the commit or the deadline came first: sending the same again is safe and tells.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec
import structlog

from hub.store_watch import StoreWatch
from shared.clock import monotonic
from shared.protocol.frames import ErrorFrame, Sync, SyncResult
from shared.protocol.operations import OPERATIONS_MAX, OperationResult
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.sync.engine import KeysSpent, apply_batch, results_of
from shared.telemetry.metrics import HUB_SYNC_SECONDS, HUB_SYNC_WAITING
from shared.tokens import principal_of

__all__ = ["Author", "SyncDesk", "SyncLimits"]

# All that a device can have asked for at once must fit, beside a full window, into what may wait for one that reads
# slowly: five answers of this and a hundred results each.
ENTITIES_MAX_BYTES: Final = 64 * 1024
PER_DEVICE_MAX: Final = 4

_log = structlog.get_logger(__name__)
_encoder: Final = msgspec.json.Encoder()


class Author(Protocol):
    """A connection whose device sends operations."""

    @property
    def device_id(self) -> str: ...
    @property
    def is_over(self) -> bool: ...
    def on_sync_answer(self, answer: SyncResult | ErrorFrame) -> None: ...


@dataclass(frozen=True, slots=True)
class SyncLimits:
    """Batches at once and waiting, in the whole hub; seconds from arrival to answer; keys of a device and day."""

    at_once: int
    waiting_max: int
    deadline_s: float
    keys_per_day: int


class _Batch(NamedTuple):
    ref: str
    operations: Sequence[dict[str, Any]]
    due: float


class SyncDesk:
    """`ask()` queues a batch, `run()` is a loop that answers; there are `limits.at_once` of them."""

    def __init__(self, pool: Pool, watch: StoreWatch, limits: SyncLimits) -> None:
        self._pool = pool
        self._watch = watch
        self.limits = limits
        self._lines: dict[Author, deque[_Batch]] = {}
        self._turns: deque[Author] = deque()
        self._work = asyncio.Event()
        self._waiting = 0
        HUB_SYNC_WAITING.set_function(lambda: self._waiting)

    def __repr__(self) -> str:
        return f"SyncDesk({self._waiting} wait, of {len(self._lines)} devices)"

    def ask(self, author: Author, frame: Sync) -> ErrorFrame | None:
        """Answer by `on_sync_answer`, unless it is refused here and now."""
        count = len(frame.operations)
        if not count:
            return ErrorFrame("wrong_field", f"operations: send 1 to {OPERATIONS_MAX}", frame.ref)
        if count > OPERATIONS_MAX:
            detail = f"operations: there are {count}; send at most {OPERATIONS_MAX}"
            return ErrorFrame("too_large", detail, frame.ref)
        if self._watch.failing is not None:
            return ErrorFrame("unavailable", "operations cannot be applied now; send them again later", frame.ref)
        line = self._lines.get(author)
        if self._waiting >= self.limits.waiting_max or (line is not None and len(line) >= PER_DEVICE_MAX):
            return ErrorFrame("busy", "too many batches wait; send one at a time, and this one again", frame.ref)
        if line is None:
            line = self._lines[author] = deque()
            self._turns.append(author)
            self._work.set()
        line.append(_Batch(frame.ref, frame.operations, monotonic() + self.limits.deadline_s))
        self._waiting += 1
        return None

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._work.wait()
            author = self._next()
            if author is None:
                continue
            line = self._lines[author]
            batch = line.popleft()
            self._waiting -= 1
            try:
                if not author.is_over:
                    author.on_sync_answer(await self._answer(author.device_id, batch))
            finally:
                # Only now may the device's next batch be taken up.
                if author.is_over:
                    self._waiting -= len(line)
                    line.clear()
                if line:
                    self._turns.append(author)
                    self._work.set()
                else:
                    del self._lines[author]

    def _next(self) -> Author | None:
        author = self._turns.popleft() if self._turns else None
        if not self._turns:
            self._work.clear()
        return author

    async def _answer(self, device_id: str, batch: _Batch) -> SyncResult | ErrorFrame:
        began = monotonic()
        principal = principal_of("device", device_id)
        try:
            async with asyncio.timeout(batch.due - began):
                outcomes = await apply_batch(
                    self._pool, principal, batch.operations, keys_per_day=self.limits.keys_per_day
                )
        except TimeoutError:
            return ErrorFrame("unavailable", "operations took too long; send them again", batch.ref)
        except StoreError:
            return ErrorFrame("unavailable", "operations cannot be applied now; send them again later", batch.ref)
        except KeysSpent as error:
            return ErrorFrame("keys_spent", str(error), batch.ref)
        except Exception:  # noqa: BLE001 - whatever it is, it is this batch's alone
            _log.exception("a batch of operations failed", device_id=device_id)
            return ErrorFrame("unavailable", "operations could not be applied; this was logged", batch.ref)
        HUB_SYNC_SECONDS.observe(monotonic() - began)
        return _sync_result(batch.ref, results_of(outcomes, entities_max_bytes=ENTITIES_MAX_BYTES))


def _sync_result(ref: str, results: list[OperationResult]) -> SyncResult:
    return SyncResult(ref, cast("Any", msgspec.Raw(_encoder.encode(results))))
