"""Removes what uploads and moves left: parts that nobody goes on with, claims that came to nothing, moves long over.

Parts that lie at a provider cost money and are seen by no listing, so each upload is given up at its store once
nobody has come back to it for a day.
"""

from collections.abc import Mapping
from typing import Final

import structlog

from shared.cloud.errors import CloudError
from shared.cloud.provider import Provider
from shared.cloud.upload_rows import give_up_left
from shared.store import cloud_moves, cloud_names
from shared.store.pool import Pool

__all__ = ["CloudLeftovers"]

_log = structlog.get_logger(__name__)

_UPLOADS_S: Final = 86_400.0
_CLAIMS_S: Final = 7 * 86_400.0
_MOVES_S: Final = 7 * 86_400.0


class CloudLeftovers:
    """`sweep()` now and again. `stores` are those of this worker, by name."""

    def __init__(self, pool: Pool, stores: Mapping[str, Provider], *, older_than_s: float = _UPLOADS_S) -> None:
        self._pool = pool
        self._stores = stores
        self._older_than_s = older_than_s

    async def sweep(self) -> int:
        """Remove a bounded number of each; returns how many uploads. A store that does not answer holds up no other."""
        gone = 0
        for store in self._stores.values():
            try:
                gone += await give_up_left(self._pool, store, older_than_s=self._older_than_s)
            except CloudError as error:
                _log.warning("uploads are not given up yet", store=store.name, error=str(error))
        await cloud_names.forget(self._pool, older_than_s=_CLAIMS_S)
        await cloud_moves.prune(self._pool, older_than_s=_MOVES_S)
        return gone
