"""HTTP to the stores of uploads: small questions, bounded answers, one deadline for all of it.

No redirect is followed and no proxy or netrc of the environment is heeded. What is wrong on the way becomes
StoreUnavailable, which never holds the address that was asked: it is signed.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from shared.cloud.errors import Misconfigured, StoreUnavailable

__all__ = ["Answer", "StoreClient"]

ANSWER_MAX_BYTES: Final = 256 * 1024
CONNECTIONS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What a store answered."""

    status: int
    headers: httpx.Headers
    body: bytes

    def failure(self, store: str) -> StoreUnavailable | Misconfigured:
        """The error for an answer that was not expected."""
        if self.status in (400, 401, 403, 405):
            return Misconfigured(f"{store} answered {self.status}: look at its settings (FLEETWIRE_PHOTO_…) and rights")
        return StoreUnavailable(f"{store} answered {self.status}")


class StoreClient:
    """One for all stores of a process. `deadline_s` is for a whole exchange, waiting for a connection included."""

    def __init__(self, *, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=8, keepalive_expiry=20)
        timeout = httpx.Timeout(deadline_s, connect=min(5.0, deadline_s))
        # Answers are read as they come, so none may come compressed.
        headers = {"Accept-Encoding": "identity", "User-Agent": "fleetwire"}
        self._http = httpx.AsyncClient(
            limits=limits, timeout=timeout, headers=headers, trust_env=False, follow_redirects=False
        )

    async def ask(
        self,
        store: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """The answer, whatever its status. Raises StoreUnavailable."""
        seconds = deadline_s or self._deadline_s
        timeout = httpx.Timeout(seconds, connect=min(5.0, seconds))
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.stream(method, url, headers=headers, data=form, timeout=timeout) as answer,
            ):
                body = bytearray()
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > ANSWER_MAX_BYTES:
                        raise StoreUnavailable(f"{store} answered {answer.status_code} with too many bytes")
                return Answer(answer.status_code, answer.headers, bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{store} cannot be asked ({type(error).__name__})") from None

    async def close(self) -> None:
        """Give the connections up."""
        await self._http.aclose()
