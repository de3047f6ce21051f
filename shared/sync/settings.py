"""What processes that take operations are told; a base class of their settings."""

from dataclasses import dataclass

from shared.settings import bounded_int, setting
from shared.sync.engine import KEYS_PER_DAY

__all__ = ["SyncSettings"]


@dataclass(frozen=True, kw_only=True)
class SyncSettings:
    """The same for the API and for hubs: they count together."""

    sync_keys_per_day: int = setting(
        "FLEETWIRE_SYNC_KEYS_PER_DAY",
        KEYS_PER_DAY,
        help="Most operations and request keys that one device or user may have kept in a day (UTC).",
        parse=bounded_int(1, 100_000_000),
    )
