"""Templates in Postgres: what inspections are made by. Every version stays; the newest is the template.

A version is told from any other by its number and its time together: after a failover that lost commits the same number
may be given out again, for another content.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from shared.store.pool import Connection, Pool, Reader
from shared.store.queries import statements

__all__ = ["Edition", "ListedTemplate", "TemplateRow", "change", "create", "outdated", "page", "read", "read_version"]

_SQL = statements("templates")


class Edition(NamedTuple):
    """What names one content of a template."""

    version: int
    updated_at: datetime


class ListedTemplate(NamedTuple):
    """A template as lists show it."""

    template_id: UUID
    name: str
    version: int
    created_at: datetime
    updated_at: datetime


class TemplateRow(NamedTuple):
    """One version. `body` is a JSON object as text; `updated_at` is when this version was made."""

    template_id: UUID
    name: str
    version: int
    created_at: datetime
    updated_at: datetime
    body: str

    @property
    def edition(self) -> Edition:
        """Which version this is."""
        return Edition(self.version, self.updated_at)


async def page(reader: Reader, *, after: UUID, limit: int) -> Sequence[ListedTemplate]:
    """Templates in the order of their ids, from the newest down."""
    return [ListedTemplate(*row) for row in await reader.fetch(_SQL["page"], after, limit)]


async def read(pool: Pool, template_id: UUID, known: Edition | None = None) -> TemplateRow | Edition | None:
    """The newest version; `known` itself when that is the one; None when there is no such template."""
    rows = await pool.fetch(_SQL["read"], template_id, *(known or (None, None)))
    if not rows:
        return None
    return known if known is not None and rows[0]["body"] is None else TemplateRow(*rows[0])


async def read_version(pool: Pool, template_id: UUID, version: int) -> TemplateRow | None:
    """One version, or None."""
    rows = await pool.fetch(_SQL["read_version"], template_id, version)
    return TemplateRow(*rows[0]) if rows else None


async def create(connection: Connection, template_id: UUID, name: str, body: str, *, by: str) -> TemplateRow:
    """Its first version."""
    return TemplateRow(*await connection.fetchrow(_SQL["create"], template_id, name, body, by))


async def change(
    connection: Connection, template_id: UUID, seen: Collection[int] | None, name: str, body: str, *, by: str
) -> TemplateRow | None:
    """The next version, if the newest is one of `seen` (None: whichever it is); None, and nothing done, if not."""
    versions = None if seen is None else list(seen)
    row = await connection.fetchrow(_SQL["change"], template_id, versions, name, body, by)
    return TemplateRow(*row) if row is not None else None


async def outdated(pool: Pool, known: Sequence[tuple[UUID, Edition]]) -> set[UUID]:
    """Those of these templates whose newest version is another now, in one read."""
    columns = [[one for one, _ in known], [e.version for _, e in known], [e.updated_at for _, e in known]]
    return {row[0] for row in await pool.fetch(_SQL["outdated"], *columns)}
