"""Cursors: what each device has acked, and which of its connections is the newest.

They live apart from the log's heads, so that an ack never waits for an append. Everything a hub asks for comes
gathered: one statement for all handshakes of a few milliseconds, one for all acks, one for the sweep over all
connected devices.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = [
    "Ack",
    "AckResult",
    "Departure",
    "Greeted",
    "Greeting",
    "Known",
    "Swept",
    "greet",
    "mark_disconnected",
    "mark_rehomed",
    "record_acks",
    "sweep",
]

_SQL = statements("cursors")

FLAP_DECAY_S: Final = 120.0

Verdict = Literal["ok", "ticket_used", "older_attempt", "unknown_device", "revoked"]


class Greeting(NamedTuple):
    """One handshake: the client's run (`instance`) and its `attempt`, the hub, and the ticket to spend, if any.

    `issued_at` (Unix seconds) and `token_id` are of the bearer token, for a ticket of the token it was made for. A
    token that does not say when it was issued counts as older than any revocation.
    """

    device_id: str
    instance: str
    attempt: int
    hub: str
    jti: str | None = None
    jti_expires_at: float | None = None
    issued_at: float | None = None
    token_id: str | None = None


class Greeted(NamedTuple):
    """The answer; numbers are 0 unless the verdict is ok.

    `conn_term` is the connection's, higher than any before it. `flaps` counts the device's connections, this one
    included, each worth less the longer ago it began; `since_rehomed_s` is None for a device never sent to its owner.
    """

    verdict: Verdict
    epoch: int = 0
    floor: int = 0
    head: int = 0
    acked: int = 0
    conn_term: int = 0
    flaps: float = 0.0
    since_rehomed_s: float | None = None
    device_class: str = ""


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


class Departure(NamedTuple):
    """Connections of a device that are gone, up to the newest of them, `conn_term`.

    `excused` is how many of them the hub itself ended, so that the connections that follow those are no flaps.
    """

    device_id: str
    conn_term: int
    excused: int = 0


class Known(NamedTuple):
    """What a hub believes of one connected device, and the token it is connected by."""

    device_id: str
    epoch: int
    head: int
    acked: int
    conn_term: int
    issued_at: float | None = None
    token_id: str | None = None


class Swept(NamedTuple):
    """What is true instead."""

    device_id: str
    epoch: int
    floor: int
    head: int
    acked: int
    conn_term: int
    instance: str | None
    revoked: bool = False


async def greet(pool: Pool, greetings: Sequence[Greeting], *, flap_decay_s: float = FLAP_DECAY_S) -> dict[str, Greeted]:
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
        [greeting.issued_at for greeting in greetings],
        [greeting.token_id for greeting in greetings],
        flap_decay_s,
    )
    return {
        device_id: Greeted(verdict) if verdict != "ok" else
        # The cursor was read under its lock, the log's head in the statement's snapshot, which may be a little older.
        Greeted(verdict, epoch, floor, max(head, acked), acked, conn_term, flaps, since_rehomed_s, device_class)
        for device_id, verdict, epoch, floor, head, acked, conn_term, flaps, since_rehomed_s, device_class in rows
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
    """Those of the known devices that have changed, or whose token was revoked."""
    if not known:
        return []
    rows = await pool.fetch(
        _SQL["sweep"],
        [one.device_id for one in known],
        [one.epoch for one in known],
        [one.head for one in known],
        [one.acked for one in known],
        [one.conn_term for one in known],
        [one.issued_at for one in known],
        [one.token_id for one in known],
    )
    return [Swept(*row) for row in rows]


async def mark_disconnected(pool: Pool, departures: Sequence[Departure]) -> None:
    """These connections are gone; a newer connection's mark is left alone.

    Raises ValueError when a device is there twice: its departures are one.
    """
    if len({departure.device_id for departure in departures}) != len(departures):
        raise ValueError("mark_disconnected takes each device at most once")
    if departures:
        device_ids, conn_terms, excused = zip(*departures, strict=True)
        await pool.fetch(_SQL["mark_disconnected"], list(device_ids), list(conn_terms), list(excused))


async def mark_rehomed(pool: Pool, device_ids: Sequence[str]) -> None:
    """These devices are about to be sent to the hub that owns them. Said before they are told."""
    if device_ids:
        await pool.fetch(_SQL["mark_rehomed"], list(device_ids))
