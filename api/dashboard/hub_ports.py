"""The operations ports of hubs, as the API asks them: how they stand, and what operators want done.

A hub says its address itself, in its row. Each question has a deadline of a second or so, and a hub that does not
answer is shown as one that cannot be asked; nothing else waits for it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final

import httpx

from api.dashboard.hub_answer import WrongAnswer, read_state
from api.dashboard.slices import Asked
from shared.store.hubs import HubRow

__all__ = ["HubPorts", "HubRefused"]

LOOK_S: Final = 1.0
DO_S: Final = 5.0
AT_ONCE: Final = 16
DEVICES_MAX: Final = 500
ANSWER_MAX_BYTES: Final = 1024 * 1024


class HubRefused(RuntimeError):
    """The hub did not do it; the message says why. `away`: it could not be asked."""

    def __init__(self, detail: str, *, away: bool) -> None:
        super().__init__(detail)
        self.away = away


class HubPorts:
    """`look()` at many hubs at once, `ask()` one."""

    def __init__(self, token: str | None) -> None:
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: httpx.AsyncClient | None = None
        self._places = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> "HubPorts":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def look(self, hubs: Sequence[HubRow], wanted: Mapping[str, Sequence[str]]) -> dict[str, Asked]:
        """How each stands; `wanted` are devices to tell of, by hub."""

        async def one(hub: HubRow) -> tuple[str, Asked]:
            try:
                body = {"devices": list(wanted.get(hub.name, ()))[:DEVICES_MAX]}
                return hub.name, Asked(read_state(await self.ask(hub, "look", body, deadline_s=LOOK_S)))
            except HubRefused as refused:
                return hub.name, Asked(trouble=str(refused))
            except WrongAnswer as wrong:
                return hub.name, Asked(trouble=f"answers what cannot be read: {wrong}")

        return dict(await asyncio.gather(*map(one, hubs)))

    async def ask(
        self, hub: HubRow, what: str, body: Mapping[str, Any], *, deadline_s: float = DO_S
    ) -> Mapping[str, Any]:
        """`POST /control/…`. Raises HubRefused."""
        if hub.ops_url is None:
            raise HubRefused(f"{hub.name} says no operations address", away=True)
        if self._client is None:
            # Made late: most API processes are never looked at.
            self._client = httpx.AsyncClient(
                headers=self._headers,
                trust_env=False,
                follow_redirects=False,
                limits=httpx.Limits(max_connections=2 * AT_ONCE, keepalive_expiry=30.0),
            )
        try:
            async with asyncio.timeout(deadline_s), self._places:
                answer = await self._client.post(f"{hub.ops_url}/control/{what}", json=body, timeout=deadline_s)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            said = "no answer in time" if isinstance(error, TimeoutError | httpx.TimeoutException) else "no connection"
            raise HubRefused(f"cannot be asked at {hub.ops_url}: {said}", away=True) from error
        return _read(hub, answer)


def _read(hub: HubRow, answer: httpx.Response) -> Mapping[str, Any]:
    if answer.status_code == 401:
        raise HubRefused("wants its operations token: set FLEETWIRE_OPS_TOKEN as the hubs have it", away=True)
    try:
        found = answer.json() if len(answer.content) <= ANSWER_MAX_BYTES else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HubRefused(f"answers {answer.status_code} and nothing that can be read", away=True)
    if answer.status_code >= 400:
        detail = str(found.get("detail", ""))[:300] or f"answers {answer.status_code}"
        raise HubRefused(f"{hub.name}: {detail}", away=answer.status_code >= 500)
    return found
