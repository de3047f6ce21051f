"""The stores that a process works with, by the names that stand in rows; only what its settings set up is opened.

One HTTP client serves all of them. Opening asks nobody: a provider that is down, or set up wrongly, shows when it is
first asked, and holds up no other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from shared.bus.redis_client import LazyRedis
from shared.cloud.errors import Misconfigured
from shared.cloud.http import HttpClient
from shared.cloud.provider import Provider
from shared.cloud.provider_settings import ProviderSettings
from shared.store.pool import Pool

__all__ = ["Means", "Stores", "open_stores"]


@dataclass(frozen=True, slots=True)
class Means:
    """What a provider may be built with. Without Postgres nothing can be claimed, without Redis nothing is shared."""

    http: HttpClient
    pool: Pool | None = None
    redis: LazyRedis | None = None


class Stores:
    """By name."""

    def __init__(
        self, stores: Mapping[str, Provider], http: HttpClient, *, problems: Sequence[Misconfigured] = ()
    ) -> None:
        self._stores = dict(stores)
        self.http = http
        self.problems = tuple(problems)
        """What could not be opened, for who wanted the others all the same."""

    def __repr__(self) -> str:
        return f"Stores({', '.join(self._stores)})"

    def __iter__(self) -> Iterator[Provider]:
        return iter(self._stores.values())

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they are set up."""
        return tuple(self._stores)

    def get(self, name: str) -> Provider | None:
        """The store of that name, or None when it is not set up here."""
        return self._stores.get(name)

    def need(self, name: str) -> Provider:
        """The store of that name. Raises Misconfigured."""
        found = self._stores.get(name)
        if found is None:
            known = ", ".join(self._stores) or "none"
            raise Misconfigured(f"the store {name} is not set up in this process; there is: {known}")
        return found

    async def close(self) -> None:
        """Give all of them up, and the connections."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.http.close)
            for store in self._stores.values():
                stack.push_async_callback(store.close)


Opener = Callable[[ProviderSettings, Means], Sequence[Provider]]


def _drives(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
    if not settings.cloud_drive_roots:
        return ()
    from shared.cloud.drive.opening import open_drives

    return open_drives(settings, means)


def _s3(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
    if settings.cloud_s3_bucket is None:
        return []
    from shared.cloud.s3.opening import open_s3

    return open_s3(settings, means)


def _graph(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
    if not settings.cloud_graph_drives:
        return ()
    from shared.cloud.graph.opening import open_graph

    return open_graph(settings, means)


# Each imports its provider only when that is set up. Nothing when it is not.
_OPENERS: Final[tuple[Opener, ...]] = (_s3, _drives, _graph)


def open_stores(
    settings: ProviderSettings,
    *,
    local: Provider | None = None,
    pool: Pool | None = None,
    redis: LazyRedis | None = None,
    openers: Sequence[Opener] = _OPENERS,
    in_part: bool = False,
) -> Stores:
    """`local` is the folder of this machine, for processes that have one; it is closed with the others.

    Raises Misconfigured for a file of credentials that is none; with `in_part` the rest is opened.
    """
    means = Means(HttpClient(deadline_s=settings.cloud_request_s), pool, redis)
    stores = {} if local is None else {local.name: local}
    problems: list[Misconfigured] = []
    for opener in openers:
        try:
            stores |= {store.name: store for store in opener(settings, means)}
        except Misconfigured as error:
            if not in_part:
                raise
            problems.append(error)
    return Stores(stores, means.http, problems=problems)
