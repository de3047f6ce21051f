"""Cursors: what each device has acked, and which of its connections is the newest.

They live apart from the log's heads, so that an ack never waits for an append. Everything a hub asks for comes
gathered: one statement for all handshakes of a few milliseconds, one for all acks, one for the sweep over all
connected devices.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = [
    "Ack",
    "AckResult",
    "Greeted",
    "Greeting",
    "Known",
    "Swept",
    "greet",
    "mark_disconnected",
    "record_acks",
    "sweep",
]

_SQL = statements("cursors")

Verdict = Literal["ok", "ticket_used", "older_attempt", "unknown_device"]


class Greeting(NamedTuple):
    """One handshake: the client's run (`instance`) and its `attempt`, the hub, and the ticket to spend, if any."""

    device_id: str
    instance: str
    attempt: int
    hub: str
    jti: str | None = None
    jti_expires_at: float | None = None


class Greeted(NamedTuple):
    """The answer; numbers are 0 unless the verdict is ok.

    `conn_term` is the connection's, higher than any before it.
    """

    verdict: Verdict
    epoch: int = 0
    floor: int = 0
    head: int = 0
    acked: int = 0
    conn_term: int = 0


class Ack(NamedTuple):
    """Everything up to `seq` of `epoch` is done with on the device."""

    device_id: str
    epoch: int
    seq: int


class AckResult(NamedTuple):
    """Where the cursor stands after an ack. Another `epoch` than the ack's, or a lower `acked`: it did not count."""

    device_id: str
    epoch: int
    floor: int
    head: int
    acked: int


class Known(NamedTuple):
    """What a hub believes of one connected device."""

    device_id: str
    epoch: int
    head: int
    acked: int
    conn_term: int


class Swept(NamedTuple):
    """What is true instead."""

    device_id: str
    epoch: int
    floor: int
    head: int
    acked: int
    conn_term: int
    instance: str | None


async def greet(pool: Pool, greetings: Sequence[Greeting]) -> dict[str, Greeted]:
    """Admit connections, by device.

    Raises ValueError when a device is there twice: the later one waits for the next call.
    """
    if len({greeting.device_id for greeting in greetings}) != len(greetings):
        raise ValueError("greet takes each device at most once")
    rows = await pool.fetch(
        _SQL["greet"],
        [greeting.device_id for greeting in greetings],
        [greeting.instance for greeting in greetings],
        [greeting.attempt for greeting in greetings],
        [greeting.hub for greeting in greetings],
        [greeting.jti for greeting in greetings],
        [greeting.jti_expires_at for greeting in greetings],
    )
    return {
        device_id: Greeted(verdict) if verdict != "ok" else
        # The cursor was read under its lock, the log's head in the statement's snapshot, which may be a little older.
        Greeted(verdict, epoch, floor, max(head, acked), acked, conn_term)
        for device_id, verdict, epoch, floor, head, acked, conn_term in rows
    }  # fmt: skip


async def record_acks(pool: Pool, acks: Sequence[Ack], *, refused_only: bool = False) -> list[AckResult]:
    """Move cursors upward. An ack of another epoch, above the head or of an unknown device moves nothing.

    With `refused_only`, answers for those alone that did not count: a hub acks for hundreds of devices at a time, and
    the others need no answer.
    """
    if not acks:
        return []
    rows = await pool.fetch(
        _SQL["record_acks"],
        [ack.device_id for ack in acks],
        [ack.epoch for ack in acks],
        [ack.seq for ack in acks],
        refused_only,
    )
    return [AckResult(*row) for row in rows]


async def sweep(pool: Pool, known: Sequence[Known]) -> list[Swept]:
    """Those of the known devices that have changed."""
    if not known:
        return []
    rows = await pool.fetch(
        _SQL["sweep"],
        [one.device_id for one in known],
        [one.epoch for one in known],
        [one.head for one in known],
        [one.acked for one in known],
        [one.conn_term for one in known],
    )
    return [Swept(*row) for row in rows]


async def mark_disconnected(pool: Pool, connections: Sequence[tuple[str, int]]) -> None:
    """These (device_id, conn_term) are gone; a newer connection's mark is left alone."""
    if connections:
        device_ids, conn_terms = zip(*connections, strict=True)
        await pool.fetch(_SQL["mark_disconnected"], list(device_ids), list(conn_terms))
