"""Removes what attempts wrote to stores that then failed: each store when it is up again, a few places at a time.

What lies there is a part of a response that was given from another store; nobody was ever told of it.
"""

from collections.abc import Mapping
from typing import Final

import structlog

from shared.cloud.errors import CloudError
from shared.cloud.provider import Provider
from shared.store import left_places
from shared.store.left_places import LeftPlace
from shared.store.pool import Pool

__all__ = ["LeftPlaces"]

_log = structlog.get_logger(__name__)

_OLDER_THAN_S: Final = 3600.0
_AT_A_TIME: Final = 50


class LeftPlaces:
    """`sweep()` now and again. `stores` are those of this worker, by name."""

    def __init__(self, pool: Pool, stores: Mapping[str, Provider], *, older_than_s: float = _OLDER_THAN_S) -> None:
        self._pool = pool
        self._stores = stores
        self._older_than_s = older_than_s

    async def sweep(self) -> int:
        """Remove files at places that are due; returns how many. One that does not answer waits for the next time."""
        removed = 0
        down: set[str] = set()
        for place in await left_places.due(self._pool, older_than_s=self._older_than_s, limit=_AT_A_TIME):
            store = self._stores.get(place.store)
            if store is None or place.store in down:
                continue
            try:
                removed += await self._remove(store, place)
            except CloudError as error:
                down.add(place.store)
                _log.warning("what was left is not removed yet", store=place.store, error=str(error))
            else:
                await left_places.swept(self._pool, place)
        return removed

    async def _remove(self, store: Provider, place: LeftPlace) -> int:
        found = [one async for one in store.list(place.folder)]
        return sum([await store.remove(one.path, object_id=one.object_id) for one in found])
