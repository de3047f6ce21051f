"""Who works under a lease: the loops of the local folder, or those of a cloud provider."""

from collections.abc import Collection

from watcher.leases import Holders
from watcher.remote.feed_set import RemoteFeedSet


class Routed:
    """Two sets of loops as one. What is not `remote`'s is `local`'s."""

    def __init__(self, local: Holders, remote: RemoteFeedSet) -> None:
        self._local = local
        self._remote = remote

    def on_gained(self, feed_id: str, term: int) -> None:
        """A lease was claimed."""
        (self._remote if feed_id in self._remote else self._local).on_gained(feed_id, term)

    def on_renewed(self) -> None:
        """Leases were renewed."""
        self._local.on_renewed()
        self._remote.on_renewed()

    async def end(self, feed_ids: Collection[str], change: str, *, grace_s: float = 0.0) -> None:
        """Stop the loops of these feeds. All are told before the first is waited for."""
        tasks = self._remote.ending([feed_id for feed_id in feed_ids if feed_id in self._remote], change)
        others = [feed_id for feed_id in feed_ids if feed_id not in self._remote]
        if others:
            await self._local.end(others, change, grace_s=grace_s)
        await self._remote.ended(tasks, grace_s=grace_s)
