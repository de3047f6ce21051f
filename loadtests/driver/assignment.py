"""Where the API sends devices: `GET …/connection` for each, as the SDK asks, at most so many at a time.

Only the addresses are used. Driven devices come with their own token, which a hub takes as well as a ticket.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import httpx

__all__ = ["Assignments"]

AT_ONCE: Final = 32
DEADLINE_S: Final = 5.0


class Assignments:
    """Asks `api` with the token that `token` gives for the device."""

    def __init__(self, api: str, token: Callable[[str], str]) -> None:
        self._client = httpx.AsyncClient(base_url=api, timeout=DEADLINE_S, trust_env=False)
        self._token = token
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def ask(self, device_id: str) -> Sequence[str]:
        """Socket addresses, best first. Raises OSError when there is none now."""
        headers = {"Authorization": f"Bearer {self._token(device_id)}"}
        try:
            async with self._gate:
                answer = await self._client.get(f"/api/v1/devices/{device_id}/connection", headers=headers)
        except httpx.HTTPError as error:
            raise OSError(f"the API cannot be asked: {error!r}") from error
        if answer.status_code != 200:
            raise OSError(f"no hub assigned: HTTP {answer.status_code} {answer.text[:200]}")
        found = answer.json()
        return [found["url"], *(one["url"] for one in found["alternatives"])]

    async def close(self) -> None:
        """Ask no more."""
        await self._client.aclose()
