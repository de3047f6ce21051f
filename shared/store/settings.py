"""Where Postgres is and how many connections a process may hold; base classes of the processes' settings."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.settings import bounded_float, bounded_int, setting
from shared.store.pool import Pool, open_pool

__all__ = ["DatabaseSettings", "ReplicaSettings", "database_url"]


def database_url(raw: str) -> str:
    """A setting's parser: postgresql:// or postgres://, one or several hosts."""
    if raw.partition("://")[0] not in ("postgresql", "postgres"):
        raise ValueError("must begin with postgresql://")
    return raw


def _replica_urls(raw: str) -> tuple[str, ...]:
    return tuple(database_url(one) for one in raw.split())


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


@dataclass(frozen=True, kw_only=True)
class ReplicaSettings(DatabaseSettings):
    """Of processes that read lists from streaming copies. Seconds end in `_s`."""

    replica_urls: tuple[str, ...] = setting(
        "FLEETWIRE_DATABASE_REPLICA_URL",
        (),
        help="Streaming copies to read lists from: addresses like that of the primary, one server each, with spaces "
        "between them.",
        parse=_replica_urls,
        secret=True,
    )
    replica_lag_max_s: float = setting(
        "FLEETWIRE_DB_REPLICA_LAG_S",
        0.1,
        help="A copy later than this is not read from.",
        parse=bounded_float(0.01, 60),
    )
    replica_wait_s: float = setting(
        "FLEETWIRE_DB_REPLICA_WAIT_S",
        0.05,
        help="How long a read waits for a copy to have its own writes.",
        parse=bounded_float(0, 1),
    )
    replica_probe_s: float = setting(
        "FLEETWIRE_DB_REPLICA_PROBE_S", 0.1, help="How often copies are looked at.", parse=bounded_float(0.01, 10)
    )
    replica_probe_deadline_s: float = setting(
        "FLEETWIRE_DB_REPLICA_PROBE_DEADLINE_S",
        0.3,
        help="A copy that takes longer to say how it stands is not read from.",
        parse=bounded_float(0.01, 10),
    )
    replica_cool_s: float = setting(
        "FLEETWIRE_DB_REPLICA_COOL_S",
        0.5,
        help="How long a copy must have been well before it is read from again.",
        parse=bounded_float(0, 60),
    )

    async def open_replica_pool(self, url: str, name: str) -> Pool:
        """Connections to one copy. Raises StoreUnavailable, NotMigrated."""
        return await open_pool(
            url,
            name=name,
            role="replica",
            min_size=min(self.db_pool_min, self.db_pool_max),
            max_size=self.db_pool_max,
            statement_cache_size=self.db_statement_cache,
            acquire_timeout_s=max(1.0, self.replica_probe_deadline_s),
        )
