"""Calls to Graph: the token, the budget of the tenant, one retry after a token was refused, errors by the table.

An address that Graph gives out (a next page, a session, content) is used as it is, but only where it may lead: pages to
Graph itself, for they are asked with the token; the others anywhere by https, and never with the token.
"""

import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from shared.cloud.errors import NotFound, StoreUnavailable
from shared.cloud.graph import wire
from shared.cloud.graph.auth import AppTokens
from shared.cloud.graph.errors import error_of
from shared.cloud.http import Answer, Gate, HttpClient, Request, Streamed
from shared.cloud.retrying import RetryPolicy

__all__ = ["GraphClient"]

T = TypeVar("T")

_JSON: Final = "application/json"
_LIMITS: Final = frozenset({429})


class GraphClient:
    """Graph at `url` (without a path). `store` is the name in errors and metrics."""

    def __init__(
        self,
        http: HttpClient,
        tokens: AppTokens,
        *,
        url: str,
        store: str,
        gate: Gate | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._base = url.rstrip("/")
        self._gate = gate
        self._policy = policy
        self.store = store

    def __repr__(self) -> str:
        return f"GraphClient({self.store}, {self._tokens!r})"

    async def call(
        self,
        call: str,
        method: str,
        where: str,
        *,
        what: str = "",
        body: Mapping[str, Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        cost: float = 1.0,
        ok: Collection[int] = (200,),
        repeatable: bool | None = None,
    ) -> Answer:
        """An answer that is a success. `where` is a path below /v1.0, or an address that Graph gave out.

        `what` is for the error: the path, mostly.
        """
        url = self._own(where)
        sent = dict(headers or {})
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if content is not None:
            sent.setdefault("Content-Type", _JSON)
        for last in (False, True):
            shown: list[str] = []

            async def sign(shown: list[str] = shown) -> Mapping[str, str]:
                said = await self._tokens.headers()
                shown[:] = [said["Authorization"]]
                return said

            request = Request(
                store=self.store,
                call=call,
                method=method,
                url=url,
                headers=sent,
                body=content,
                sign=sign,
                repeatable=repeatable,
                gate=self._gate,
                cost=cost,
                policy=self._policy,
                limit_statuses=_LIMITS,
            )
            answer = await self._http.ask(request)
            if answer.status == 401 and not last:
                # It was not done, so it may be sent again, whatever it is.
                self._tokens.forget(shown[0] if shown else None)
                continue
            if answer.status in ok:
                return answer
            raise error_of(answer, self.store, what or call)
        raise AssertionError("the second try ends in one way or the other")

    async def read(self, call: str, where: str, kind: type[T], *, what: str = "", cost: float = 1.0) -> T:
        """What is said there. Raises NotFound."""
        return (await self.call(call, "GET", where, what=what, cost=cost)).decoded(kind, store=self.store)

    async def item(self, where: str, *, what: str = "") -> wire.DriveItem | None:
        """The item there, or None."""
        try:
            return await self.read("item", where, wire.DriveItem, what=what)
        except NotFound:
            return None

    # Addresses that are a permission by themselves: no token goes there

    async def ask_open(
        self,
        call: str,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        cost: float = 1.0,
        repeatable: bool = True,
    ) -> Answer:
        """The answer, whatever its status."""
        return await self._http.ask(
            self._open_request(call, method, url, body=body, headers=headers, cost=cost, repeatable=repeatable)
        )

    @asynccontextmanager
    async def stream_open(self, url: str | None, *, headers: Mapping[str, str]) -> AsyncIterator[Streamed]:
        """Content, as it comes."""
        async with self._http.stream(self._open_request("download", "GET", url, headers=headers)) as streamed:
            yield streamed

    def _open_request(
        self,
        call: str,
        method: str,
        url: str | None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        cost: float = 1.0,
        repeatable: bool = True,
    ) -> Request:
        return Request(
            store=self.store,
            call=call,
            method=method,
            url=self.trusted(url),
            headers=dict(headers or {}),
            body=body,
            repeatable=repeatable,
            gate=self._gate,
            cost=cost,
            policy=self._policy,
        )

    def trusted(self, url: str | None) -> str:
        """An address that Graph gave out for content. Raises StoreUnavailable when it is none, or not by https."""
        try:
            parts = urlsplit(url or "")
        except ValueError:
            parts = urlsplit("")
        schemes = ("https", "http") if self._base.startswith("http://") else ("https",)
        if not url or parts.scheme not in schemes or not parts.hostname or parts.username or parts.password:
            raise StoreUnavailable(f"{self.store}: gave out an address that cannot be used")
        return url

    def _own(self, where: str) -> str:
        if where.startswith("/"):
            return f"{self._base}/v1.0{where}"
        if not where.startswith(f"{self._base}/"):
            raise StoreUnavailable(f"{self.store}: gave out an address of somebody else, where its token must not go")
        return where
