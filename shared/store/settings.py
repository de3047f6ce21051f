"""Where Postgres is and how many connections a process may hold; a base class of every process's settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.settings import bounded_int, setting
from shared.store.pool import Pool, open_pool

__all__ = ["DatabaseSettings", "database_url"]


def database_url(raw: str) -> str:
    """A setting's parser: postgresql:// or postgres://."""
    if urlsplit(raw).scheme not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql://")
    return raw


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """All processes together must stay below max_connections - 10."""

    database_url: str = setting(
        "FLEETWIRE_DATABASE_URL",
        help="Postgres (16 or later): postgresql://user:password@host:port/database.",
        parse=database_url,
        secret=True,
    )
    db_pool_min: int = setting(
        "FLEETWIRE_DB_POOL_MIN", 2, help="Connections to Postgres kept open.", parse=bounded_int(0, 100)
    )
    db_pool_max: int = setting(
        "FLEETWIRE_DB_POOL_MAX", 10, help="Most connections to Postgres of this process.", parse=bounded_int(1, 1000)
    )
    db_statement_cache: int = setting(
        "FLEETWIRE_DB_STATEMENT_CACHE",
        100,
        help="Prepared statements kept per connection; 0 behind a PgBouncer before 1.21.",
        parse=bounded_int(0, 10_000),
    )

    async def open_pool(self, name: str, *, prepared: Sequence[str] = ()) -> Pool:
        """Open the pool; `name` shows in pg_stat_activity. Raises StoreUnavailable, NotMigrated.

        `prepared` are the statements of transactions that others wait for.
        """
        return await open_pool(
            self.database_url,
            name=name,
            min_size=min(self.db_pool_min, self.db_pool_max),
            max_size=self.db_pool_max,
            statement_cache_size=self.db_statement_cache,
            prepared=prepared,
        )
