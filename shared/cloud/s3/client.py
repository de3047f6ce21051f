"""Requests to one bucket, signed anew for every try; answers that are none as errors.py has them.

Bodies are bytes in memory, so every one goes with its sha256 in the signature: S3 refuses other bytes. A request whose
condition met another one under way (409) did nothing and is sent again a few times here.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

from shared.backoff import full_jitter
from shared.clock import wall
from shared.cloud.errors import StoreUnavailable
from shared.cloud.http import Answer, Gate, HttpClient, Request, Streamed
from shared.cloud.s3.bucket import Bucket
from shared.cloud.s3.errors import LIMIT_STATUSES, error_of, is_conflict
from shared.cloud.s3.wire import fault_of
from shared.cloud.sigv4 import EMPTY_SHA256, Credentials, addressed, encoded_path, presigned, signed_headers

__all__ = ["S3Client"]

ANSWER_MAX_BYTES: Final = 8 * 1024 * 1024
_CONFLICTS_MAX: Final = 6
_LARGE: Final = 256 * 1024


class S3Client:
    """One bucket with one key. `store` names it in errors and metrics."""

    def __init__(
        self,
        bucket: Bucket,
        credentials: Credentials,
        http: HttpClient,
        *,
        store: str = "s3",
        gate: Gate | None = None,
        rand: Random | None = None,
        now: Callable[[], float] = wall,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.bucket = bucket
        self.store = store
        self.key_id = credentials.key_id
        self._credentials = credentials
        self._http = http
        self._gate = gate
        self._rand = rand or Random()  # noqa: S311 - jitter
        self._now = now
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"S3Client({self.store}, {self.bucket.url})"

    async def ask(
        self,
        call: str,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        repeatable: bool = True,
        deadline_s: float | None = None,
    ) -> Answer:
        """The last answer, whatever its status, but for conflicts that passed. Raises StoreUnavailable."""
        sha256 = await _sha256(body)
        request = self._request(
            call,
            method,
            addressed(self._url(key), query or {}),
            headers=headers,
            body=body,
            sha256=sha256,
            repeatable=repeatable,
            deadline_s=deadline_s,
        )
        for conflicts in range(_CONFLICTS_MAX):
            answer = await self._http.ask(request, answer_max=ANSWER_MAX_BYTES)
            if answer.status != 409 or not is_conflict(409, fault_of(answer.body)) or conflicts == _CONFLICTS_MAX - 1:
                return answer
            await self._sleep(full_jitter(conflicts, self._rand, base=0.05, cap=1.0))
        raise AssertionError("the last try returns")

    @asynccontextmanager
    async def stream(
        self, call: str, key: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Streamed]:
        """A GET whose bytes are read as they come."""
        request = self._request(call, "GET", addressed(self._url(key), query or {}), headers=headers)
        async with self._http.stream(request) as streamed:
            yield streamed

    def error(self, answer: Answer, call: str, path: str = "") -> Exception:
        """What an answer that was none means."""
        return error_of(
            answer.status,
            fault_of(answer.body),
            store=self.store,
            call=call,
            path=path,
            retry_after_s=answer.retry_after_s,
        )

    def strange(self, call: str, problem: object) -> StoreUnavailable:
        """An answer that came as a success and cannot be read."""
        return StoreUnavailable(f"{self.store} answered {call} with something else: {problem}")

    def signed_url(
        self,
        method: str,
        key: str,
        *,
        lifetime_s: float,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """An address that admits this one request for a while, with exactly these headers."""
        return presigned(
            self._credentials,
            method=method,
            url=self._url(key),
            region=self.bucket.region,
            at=self._at(),
            lifetime_s=max(1, int(lifetime_s)),
            query=query,
            headers=headers,
        )

    def _request(
        self,
        call: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None,
        body: bytes | None = None,
        sha256: str = EMPTY_SHA256,
        repeatable: bool = True,
        deadline_s: float | None = None,
    ) -> Request:

        async def sign() -> dict[str, str]:
            # In every try: a signature is good for minutes only.
            return signed_headers(
                self._credentials,
                method=method,
                url=url,
                region=self.bucket.region,
                at=self._at(),
                headers=headers,
                payload_sha256=sha256,
            )

        return Request(
            store=self.store,
            call=call,
            method=method,
            url=url,
            body=body,
            sign=sign,
            repeatable=repeatable,
            gate=self._gate,
            deadline_s=deadline_s,
            limit_statuses=LIMIT_STATUSES,
        )

    def _url(self, key: str) -> str:
        return self.bucket.url + encoded_path(key)

    def _at(self) -> datetime:
        return datetime.fromtimestamp(int(self._now()), UTC)


async def _sha256(body: bytes | None) -> str:
    if not body:
        return EMPTY_SHA256
    if len(body) < _LARGE:
        return hashlib.sha256(body).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
