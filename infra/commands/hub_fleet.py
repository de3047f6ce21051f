"""The hubs as commands reach them: who there is, by Postgres; what each says and does, by its operations port."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.shown_commands import starting
from shared.store import hubs
from shared.store.hubs import HubRow
from shared.store.pool import Pool, open_pool

__all__ = ["HubAway", "HubFleet", "Moving", "open_hub_fleet"]

ASK_DEADLINE_S: Final = 5.0

State = Mapping[str, Any]


class HubAway(CommandFailed):
    """A hub cannot be asked now."""


class Moving:
    """What a hub says of the devices it sends on."""

    def __init__(self, state: State) -> None:
        moving = state["moving"]
        self.left: int = moving["left"]
        self.done: int = moving["done"]
        self.leaving: int = moving["leaving"]
        self.skipped: Mapping[str, int] = moving["skipped"]
        self.eta_s: float | None = moving["eta_s"]
        self.is_paused: bool = moving["paused"]
        self.is_held: bool = moving["held"]

    @property
    def is_over(self) -> bool:
        """Everybody was told, and has gone."""
        return not self.left and not self.leaving


class HubFleet:
    """Made by `open_hub_fleet`. Raises CommandFailed with what to do about it."""

    def __init__(self, pool: Pool, client: httpx.AsyncClient) -> None:
        self._pool = pool
        self._client = client

    async def rows(self) -> list[HubRow]:
        """The hubs that live, by name."""
        return await hubs.live(self._pool)

    async def chosen(self, names: Sequence[str]) -> list[HubRow]:
        """Those, or all without names. Raises CommandFailed for one that does not live."""
        rows = await self.rows()
        if not rows:
            raise CommandFailed(f"no hub lives; does `{starting()}` run?")
        if unknown := sorted(set(names) - {row.name for row in rows}):
            raise CommandFailed(
                f"no hub is named {', '.join(unknown)}; there are {', '.join(row.name for row in rows)}"
            )
        return [row for row in rows if not names or row.name in names]

    async def ask(self, hub: HubRow, what: str, body: Mapping[str, Any] | None = None) -> State:
        """`GET /control/hub`, or `POST /control/…` when there is a body, be it empty. Raises HubAway, CommandFailed."""
        if hub.ops_url is None:
            raise HubAway(f"{hub.name} says no operations address: it runs an older version")
        url = f"{hub.ops_url}/control/{what}"
        try:
            answer = await (self._client.get(url) if body is None else self._client.post(url, json=body))
        except httpx.HTTPError as error:
            raise HubAway(
                f"{hub.name} cannot be asked at {hub.ops_url}: {str(error) or type(error).__name__}; it says that "
                f"address itself, FLEETWIRE_HUB_OPS_URL changes it"
            ) from error
        if answer.status_code == 401:
            raise CommandFailed(f"{hub.name} wants its operations token: set FLEETWIRE_OPS_TOKEN as the hubs have it")
        if answer.status_code == 503:
            raise HubAway(f"{hub.name}: {_detail(answer)}")
        if answer.status_code >= 400:
            raise CommandFailed(f"{hub.name} refused it ({answer.status_code}): {_detail(answer)}")
        found: State = answer.json()
        return found

    async def state(self, hub: HubRow) -> State:
        """How it stands."""
        return await self.ask(hub, "hub")


@asynccontextmanager
async def open_hub_fleet(settings: CommandSettings) -> AsyncIterator[HubFleet]:
    """For the length of a command."""
    pool = await open_pool(settings.need_database_url(), name="command", max_size=1, command_timeout_s=10.0)
    headers = {"Authorization": f"Bearer {settings.ops_token}"} if settings.ops_token else {}
    try:
        async with httpx.AsyncClient(headers=headers, timeout=ASK_DEADLINE_S, trust_env=False) as client:
            yield HubFleet(pool, client)
    finally:
        await pool.close()


def _detail(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
