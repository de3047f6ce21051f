"""The log: append a batch, read pages, trim a prefix.

Promises: an event exists when its row is committed; `seq` is contiguous per device and in commit order, because it is
given under the device's row lock; one dedupe key records one event, whoever repeats it and however often.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal, NamedTuple

from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "APPEND_STATEMENTS",
    "Appended",
    "NewEvent",
    "Page",
    "PageRequest",
    "Retention",
    "StoredEvent",
    "append",
    "append_committed",
    "prune",
    "raise_device_epoch",
    "read_pages",
    "remember",
    "trim",
]

_SQL = statements("log")
_IDENTITY_SQL = statements("log_identity")

APPEND_STATEMENTS: Final = (_SQL["append"], _SQL["known_keys"])
"""What an append runs, for every connection to know before a transaction holds locks."""

READ_MAX_BYTES: Final = 8 * 1024 * 1024
DEDUPE_KEY_MAX_LENGTH: Final = 256

AppendStatus = Literal["recorded", "duplicate", "unknown_device", "conflict"]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An encoded event on its way into the log. `dedupe_key` is the event id unless said otherwise (≤ 256 characters).

    `body_hash` decides whether a repeated key brings the same event (`duplicate`) or another one (`conflict`).
    """

    device_id: str
    event_id: str
    type: str
    body: bytes
    body_hash: bytes
    dedupe_key: str | None = None

    @property
    def key(self) -> str:
        """The key under which this event is recorded once."""
        return self.event_id if self.dedupe_key is None else self.dedupe_key


class Appended(NamedTuple):
    """What became of one item; epoch and seq are 0 unless it was recorded now."""

    status: AppendStatus
    epoch: int = 0
    seq: int = 0


class StoredEvent(NamedTuple):
    """One event of the log, encoded as it was recorded."""

    seq: int
    body: bytes


class PageRequest(NamedTuple):
    """The next events of one device after `after`: at most `max_rows`, and `max_bytes` of bodies after the first."""

    device_id: str
    after: int
    max_rows: int = 256
    max_bytes: int = 64 * 1024


@dataclass(slots=True)
class Page:
    """What one snapshot of the log says about a device. Events are contiguous and begin right after what was asked for,
    unless `floor` says that retention took them.

    `deferred` says that there are events but the answer as a whole was full before the first of them: ask again.
    """

    epoch: int
    floor: int
    head: int
    acked: int
    events: list[StoredEvent] = field(default_factory=list)
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events stay: acked ones, and any."""

    acked: timedelta = timedelta(hours=24)
    any: timedelta = timedelta(days=30)
    keys: timedelta = timedelta(days=31)


async def append(connection: Connection, items: Sequence[NewEvent]) -> list[Appended]:
    """Record a batch, in its order, as the last statements of the caller's transaction; one result per item.

    Nothing is published here: the caller offers what was recorded to the bus after its commit. Call at most once in a
    transaction: locks are taken in key and id order within one call only.
    """
    results: list[Appended | None] = [None] * len(items)
    firsts: dict[tuple[str, str], int] = {}
    for number, item in enumerate(items):
        first = firsts.setdefault((item.device_id, item.key), number)
        if first != number:
            same = items[first].body_hash == item.body_hash
            results[number] = Appended("duplicate" if same else "conflict")
    numbers = [number for number, result in enumerate(results) if result is None]
    if not numbers:
        return []
    chosen = [items[number] for number in numbers]
    rows = await connection.fetch(
        _SQL["append"],
        [item.device_id for item in chosen],
        [item.key for item in chosen],
        [item.event_id for item in chosen],
        [item.type for item in chosen],
        [item.body.decode() for item in chosen],
        [item.body_hash for item in chosen],
    )
    for row in rows:
        results[numbers[row["n"] - 1]] = Appended("recorded", row["epoch"], row["seq"])
    unclaimed = [number for number in numbers if results[number] is None]
    if unclaimed:
        await _explain(connection, items, unclaimed, results)
    # A repetition inside the batch of something that was refused is refused alike.
    for number, item in enumerate(items):
        first_result = results[firsts[item.device_id, item.key]]
        if first_result is not None and first_result.status == "unknown_device":
            results[number] = first_result
    return [result if result is not None else Appended("conflict") for result in results]


async def _explain(
    connection: Connection, items: Sequence[NewEvent], unclaimed: Sequence[int], results: list[Appended | None]
) -> None:
    rows = await connection.fetch(
        _SQL["known_keys"],
        [items[number].device_id for number in unclaimed],
        [items[number].key for number in unclaimed],
        list(unclaimed),
    )
    for row in rows:
        if not row["known"]:
            results[row["n"]] = Appended("unknown_device")
        elif row["body_hash"] == items[row["n"]].body_hash:
            results[row["n"]] = Appended("duplicate")
        else:
            results[row["n"]] = Appended("conflict")


async def append_committed(pool: Pool, items: Sequence[NewEvent]) -> list[Appended]:
    """`append` in a transaction of its own; when it returns, what it says is recorded is durable.

    Where the server was lost over the commit it is sent again: what had been recorded is then a `duplicate`.
    """

    async def work(connection: Connection) -> list[Appended]:
        return await append(connection, items)

    results = await pool.run(work, repeatable=True)
    remember(pool, items, results)
    return results


def remember(pool: Pool, items: Sequence[NewEvent], results: Sequence[Appended]) -> None:
    """Tell the pool's witness what was committed, after the commit. Callers of `append` do this themselves."""
    for item, result in zip(reversed(items), reversed(results), strict=True):
        if result.status == "recorded":
            pool.witness.saw(item.device_id, result.epoch, result.seq, item.event_id)
            return


async def read_pages(pool: Pool, requests: Iterable[PageRequest]) -> dict[str, Page]:
    """One page for each device asked for, in one statement, at most 8 MiB and one event in all, shared out evenly.

    Pages that did not fit in are `deferred`; the first asked for always fits.
    At most one request per device. A device that does not exist is absent from the answer.
    """
    asked = list(requests)
    if not asked:
        return {}
    share = max(1, READ_MAX_BYTES // len(asked))
    rows = await pool.fetch(
        _SQL["read_pages"],
        [request.device_id for request in asked],
        [request.after for request in asked],
        [request.max_rows for request in asked],
        [min(request.max_bytes, share) for request in asked],
        READ_MAX_BYTES,
    )
    pages: dict[str, Page] = {}
    for device_id, epoch, floor, head, acked, seq, body, cut in rows:
        page = pages.get(device_id)
        if page is None:
            page = pages[device_id] = Page(epoch, floor, head, acked, deferred=cut)
        if seq is not None:
            page.events.append(StoredEvent(seq, body.encode()))
    return pages


async def raise_device_epoch(pool: Pool, device_id: str, *, seen_epoch: int, claimed_epoch: int) -> int | None:
    """A device knows more than the log does: raise its epoch above both, unless somebody has. Returns the new epoch."""
    rows = await pool.fetch(_IDENTITY_SQL["raise_device_epoch"], device_id, seen_epoch, claimed_epoch)
    return rows[0]["epoch"] if rows else None


async def trim(pool: Pool, retention: Retention, *, devices: int = 100, events: int = 1000) -> int:
    """Delete what retention lets go, one short transaction per device, all devices once. Returns events deleted."""
    deleted, after = 0, ""
    while True:
        rows = await pool.fetch(_SQL["trim_candidates"], after, retention.any, retention.acked, devices)
        for row in rows:
            while count := (
                await pool.fetch(_SQL["trim_device"], row["device_id"], retention.any, retention.acked, events)
            )[0][0]:
                deleted += count
                if count < events:
                    break
        if len(rows) < devices:
            return deleted
        after = rows[-1]["device_id"]


async def prune(pool: Pool, retention: Retention, *, rows: int = 5000) -> int:
    """Delete dedupe keys and used tickets whose time is over, in short statements. Returns how many."""
    deleted = 0
    while count := (await pool.fetch(_SQL["prune_event_keys"], retention.keys, rows))[0][0]:
        deleted += count
    while count := (await pool.fetch(_SQL["prune_used_tickets"], rows))[0][0]:
        deleted += count
    return deleted
