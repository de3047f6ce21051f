"""What can go wrong between a process and Postgres.

StoreError
├── StoreUnavailable    Postgres cannot be reached, hangs or refuses: try again later
│   └── StoreBusy       it answers, but a lock or the statement took too long
├── NotMigrated         the database lacks our tables or settings: run `fleetwire migrate`
├── TermOver            the lease under which this was to be written has another term now
├── UniqueKeyTaken      another job with this unique key has not ended
└── TokenIdTaken        while a release before is running, one token id is revoked for one subject only
"""

__all__ = ["NotMigrated", "StoreBusy", "StoreError", "StoreUnavailable", "TermOver", "TokenIdTaken", "UniqueKeyTaken"]


class StoreError(Exception):
    """Something about the database."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.__doc__)


class StoreUnavailable(StoreError):
    """Postgres cannot be reached now."""


class StoreBusy(StoreUnavailable):
    """Postgres answers, but a lock or the statement took too long."""


class NotMigrated(StoreError):
    """The database lacks our tables or settings: run `fleetwire migrate`."""


class TermOver(StoreError):
    """The lease has another term now: nothing was written."""


class UniqueKeyTaken(StoreError):
    """Another job of the device with this unique key has not ended."""


class TokenIdTaken(StoreError):
    """The id was revoked before as another subject's: run `fleetwire migrate --post` once the last release is gone."""
