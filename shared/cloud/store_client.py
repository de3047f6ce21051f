"""HTTP to the stores of uploads: small questions, small answers, one try each; a person or a loop asks again.

What is wrong on the way becomes StoreUnavailable, which never holds the address that was asked: it is signed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import httpx

from shared.cloud.errors import Misconfigured, StoreUnavailable
from shared.cloud.http import HttpClient, Request
from shared.cloud.retrying import ONCE

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
        self._http = HttpClient(deadline_s=deadline_s, policy=ONCE, connections_max=CONNECTIONS_MAX)

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
        sent = dict(headers or {})
        body = None
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(form).encode()
        request = Request(
            store=store, call="upload", method=method, url=url, headers=sent, body=body, deadline_s=deadline_s
        )
        answer = await self._http.ask(request, answer_max=ANSWER_MAX_BYTES)
        return Answer(answer.status, answer.headers, answer.body)

    async def close(self) -> None:
        """Give the connections up."""
        await self._http.close()
