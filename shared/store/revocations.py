"""Tokens that are not good any more, though their signature holds: single ones by subject and id, or all that a
device was given until now.

Postgres is the truth and the primary alone is asked. A revocation is known to whoever asks after its commit; what a
hub holds already is found by its sweep.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from shared.store.errors import TokenIdTaken
from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["Presented", "RevocationRow", "TokenRevocation", "page", "prune", "revoke_device", "revoke_token", "revoked"]

_SQL = statements("revocations")


class Presented(NamedTuple):
    """A credential as it is judged: whose it is, the same if that is a device (else None), when it was issued, its
    token's id.
    """

    subject: str
    device_id: str | None
    issued_at: float | None
    token_id: str | None


class TokenRevocation(NamedTuple):
    """One revoked token. `made` is False when it was revoked before."""

    token_id: str
    subject: str
    reason: str
    revoked_at: datetime
    expires_at: datetime
    made: bool


class RevocationRow(NamedTuple):
    """One line of the list. `token_id` is None where all tokens of a device until `revoked_at` are meant."""

    token_id: str | None
    subject: str
    reason: str | None
    revoked_at: datetime
    expires_at: datetime | None
    key: str


async def revoke_device(pool: Pool, device_id: str, *, issued_before: datetime | None = None) -> datetime | None:
    """Revoke the device's tokens issued before then, or until now. Returns since when tokens are good.

    None: there is no such device.
    """
    rows = await pool.fetch(_SQL["revoke_device"], device_id, issued_before)
    return rows[0]["tokens_valid_from"] if rows else None


async def revoke_token(
    pool: Pool, token_id: str, *, subject: str, reason: str, expires_at: datetime | None
) -> TokenRevocation:
    """Revoke one token of the subject, and remember it for a year, or until `expires_at` if that is later.

    Twice is once. Raises TokenIdTaken.
    """
    try:
        rows = await pool.fetch(_SQL["revoke_token"], token_id, subject, reason, expires_at)
    except asyncpg.UniqueViolationError as error:
        raise TokenIdTaken from error
    return TokenRevocation(*rows[0])


async def revoked(pool: Pool, presented: Sequence[Presented]) -> set[Presented]:
    """Those that are revoked, in one statement."""
    if not presented:
        return set()
    rows = await pool.fetch(_SQL["revoked"], *(list(column) for column in zip(*presented, strict=True)))
    return {presented[row["number"] - 1] for row in rows}


async def page(
    pool: Pool, *, before: tuple[datetime, str] | None, subject: str | None, limit: int
) -> list[RevocationRow]:
    """A page of the list, newest first."""
    at, key = before if before is not None else (None, "")
    return [RevocationRow(*row) for row in await pool.fetch(_SQL["page"], at, key, subject, limit)]


async def prune(pool: Pool, *, rows: int = 5000) -> int:
    """Forget revoked tokens whose own time is over, in short statements. Returns how many."""
    deleted = 0
    while count := (await pool.fetch(_SQL["prune"], rows))[0][0]:
        deleted += count
    return deleted
