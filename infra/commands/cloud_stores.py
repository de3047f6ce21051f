"""What `fleetwire cloud …` and `fleetwire doctor --cloud` work with: the stores that the environment sets up.

The local one is the cloud folder of the set-up that runs here, unless the environment names another. Postgres and
Redis are used where they answer: without them a store still lists, gives and takes, but claims no names and shares no
budget of calls.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from shared.bus.redis_client import LazyRedis
from shared.cloud.errors import Misconfigured
from shared.cloud.local_provider import LocalProvider
from shared.cloud.provider import Provider
from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.settings import drafts_beside
from shared.cloud.stores import Stores, open_stores
from shared.settings import SettingsError, path, setting
from shared.store.errors import StoreError
from shared.store.pool import Pool, open_pool

__all__ = ["CloudCommandSettings", "OpenedStores", "opened_stores"]


@dataclass(frozen=True, kw_only=True)
class CloudCommandSettings(CommandSettings, ProviderSettings):
    """The stores, and where the database is."""

    cloud_root: Path | None = setting("FLEETWIRE_CLOUD_ROOT", None, help="The local cloud folder.", parse=path)
    cloud_tmp: Path | None = setting("FLEETWIRE_CLOUD_TMP", None, help="Folder for drafts.", parse=path)

    def check(self) -> list[str]:
        """Rules between settings."""
        return self.provider_problems()

    @property
    def local_root(self) -> Path | None:
        """The local cloud folder, if there is one here."""
        running = self.running
        here = Path(running.cloud) if running is not None else self.home.cloud
        folder = self.cloud_root or here
        return folder if folder.is_dir() else None

    def open_local(self) -> LocalProvider | None:
        """The local store. Raises Misconfigured."""
        root = self.local_root
        if root is None:
            if self.cloud_root is not None:
                raise Misconfigured(f"FLEETWIRE_CLOUD_ROOT={self.cloud_root}: no such folder; make it")
            return None
        return LocalProvider(root, self.cloud_tmp or drafts_beside(root))


@dataclass(frozen=True, slots=True)
class OpenedStores:
    """For one command. `problem`: why there is no database."""

    stores: Stores
    pool: Pool | None
    problem: str | None

    def need(self, name: str) -> Provider:
        """The store, or what to say. Raises CommandFailed."""
        found = self.stores.get(name)
        if found is None:
            known = ", ".join(self.stores.names) or "none at all"
            raise CommandFailed(
                f"no store {name} is set up in this environment; there is {known} (docs/cloud-stores.md)"
            )
        return found

    def need_pool(self) -> Pool:
        """Raises CommandFailed."""
        if self.pool is None:
            raise CommandFailed(f"this needs the database: {self.problem}")
        return self.pool


@asynccontextmanager
async def opened_stores(settings: CloudCommandSettings) -> AsyncIterator[OpenedStores]:
    """All of them, until the block ends. Asks no provider."""
    async with AsyncExitStack() as stack:
        pool, problem = await _pool(settings)
        if pool is not None:
            stack.push_async_callback(pool.close)
        redis = _redis(settings)
        if redis is not None:
            stack.push_async_callback(redis.aclose)
        stores = open_stores(settings, local=settings.open_local(), pool=pool, redis=redis, in_part=True)
        stack.push_async_callback(stores.close)
        yield OpenedStores(stores, pool, problem)


async def _pool(settings: CloudCommandSettings) -> tuple[Pool | None, str | None]:
    try:
        url = settings.need_database_url()
    except SettingsError as error:
        return None, str(error)
    try:
        return await open_pool(url, name="fleetwire-cloud", min_size=0, max_size=3), None
    except StoreError as error:
        return None, str(error)


def _redis(settings: CloudCommandSettings) -> LazyRedis | None:
    running = settings.running
    url = settings.redis_url or (running.redis_url if running else None)
    return LazyRedis(url, connections=2, name="fleetwire-cloud") if url else None
