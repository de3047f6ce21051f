"""What calls of a model cost, by device and day, and the budgets that they may not exceed.

The most that a call can cost is put aside before it is sent, for its device and for all together, or the call is
refused; what it did cost takes that place once it is known. So calls at the same time cannot exceed a budget
together, and a call whose cost never came to be known counts as the most. Days are UTC's. Costs are millionths of
the currency that prices are told in.
"""

from datetime import date
from typing import Final, Literal, NamedTuple
from uuid import UUID

from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = [
    "ALL",
    "Answered",
    "Budgets",
    "Refused",
    "Settlement",
    "Usage",
    "answered",
    "reserve",
    "settle",
    "sweep",
    "usage",
]

_SQL = statements("model_usage")

ALL: Final = ""
"""In the place of a device: the sum over all."""

Refused = Literal["device", "all"]


class Budgets(NamedTuple):
    """The most of one day, in millionths."""

    device_micros: int
    all_micros: int


class Settlement(NamedTuple):
    """How a call ended. `free`: it cannot have cost anything. `unknown`: it may have; without a cost, the most."""

    outcome: Literal["answered", "unknown", "free"]
    tokens_in: int = 0
    tokens_out: int = 0
    cost_micros: int | None = None
    answer: str | None = None


class Answered(NamedTuple):
    """What an earlier attempt of the job was answered, as it was settled."""

    answer: str
    tokens_in: int
    tokens_out: int
    cost_micros: int


class Usage(NamedTuple):
    """One row: a device, or all, on a day."""

    device_id: str
    day: date
    calls: int
    tokens_in: int
    tokens_out: int
    cost_micros: int
    reserved_micros: int


class _OverBudget(Exception):
    def __init__(self, of: Refused) -> None:
        super().__init__(of)
        self.of = of


async def reserve(
    pool: Pool, call_id: UUID, *, job_id: UUID, device_id: str, micros: int, budgets: Budgets
) -> Refused | None:
    """Put `micros` aside for a call. None when that was done, else which budget has no room for it."""
    if micros < 0 or device_id == ALL:
        raise ValueError("a reservation is of a device and not negative")

    async def work(connection: Connection) -> None:
        # The device's row first: whoever settles takes them in the same order.
        if not await connection.fetch(_SQL["reserve"], device_id, micros, budgets.device_micros):
            raise _OverBudget("device")
        if not await connection.fetch(_SQL["reserve"], ALL, micros, budgets.all_micros):
            raise _OverBudget("all")
        await connection.execute(_SQL["add_call"], call_id, job_id, device_id, micros)

    try:
        await pool.run(work)
    except _OverBudget as refused:
        return refused.of
    return None


async def settle(pool: Pool, call_id: UUID, settlement: Settlement) -> int | None:
    """Put what a call cost in the place of what was reserved; returns it. None when that was done before."""
    if settlement.outcome == "free":
        settlement = settlement._replace(cost_micros=0)
    rows = await pool.fetch(_SQL["settle"], call_id, *settlement, repeatable=True)
    return int(rows[0][0]) if rows else None


async def answered(pool: Pool, job_id: UUID) -> Answered | None:
    """The answer that an attempt of this job was given and paid for, if one was."""
    rows = await pool.fetch(_SQL["answered"], job_id)
    return Answered(*rows[0]) if rows else None


async def usage(pool: Pool, device_id: str = ALL, day: date | None = None) -> Usage | None:
    """What a device, or all, used on a day; today if none is given."""
    rows = await pool.fetch(_SQL["usage"], device_id, day)
    return Usage(*rows[0]) if rows else None


async def sweep(pool: Pool, *, lost_s: float, keep_s: float, limit: int = 500) -> int:
    """Settle calls whose makers are gone, and forget old ones. Returns how many of both."""
    lost = await pool.fetch(_SQL["lost"], lost_s, limit)
    for row in lost:
        await settle(pool, row[0], Settlement("unknown"))
    return len(lost) + len(await pool.fetch(_SQL["prune"], keep_s, limit, repeatable=True))
