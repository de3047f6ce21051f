"""`Idempotency-Key`: a request that is sent again has its effect once and is given the same answer, for 24 hours.

The key is claimed for the caller before the request is handled, and the answer stored after it. What is not an answer
for good (5xx, 429 and the like) is not stored, and neither is one above 1 MiB: the key is free again. A handler that is
cut off in between leaves its claim to run out; so where doing it twice would matter, a handler stores the answer in the
transaction of the effect (`Once.seal`) or names what it makes by `Once.uuid`, which is the same when it is tried again.

An answer that is good for a while only, such as a signed address, is not kept: it is made anew (`renewed`), by a
handler that finds what it made the first time.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final, Literal
from uuid import UUID

import orjson
import structlog
from starlette.responses import Response

from api.inputs import Headers
from api.problems import Problem, problem_response
from shared.store import request_keys
from shared.store.errors import StoreError
from shared.store.pool import Connection, Pool
from shared.store.request_keys import Claim, Stored
from shared.sync.engine import KeysSpent, check_keys
from shared.telemetry.metrics import API_KEYED_REQUESTS

__all__ = ["Idempotency", "Once", "RequestKeys", "fingerprint_of", "key_of", "keys_spent"]

Idempotency = Literal["required", "optional", "renewed"]

KEY_MAX_LENGTH: Final = 255
STORED_MAX_BYTES: Final = 1024 * 1024
# Beyond the time that a request may take, so that its key is not left before it is over.
LOCK_MARGIN_S: Final = 5.0

# A string of RFC 8941, or the bare characters that such keys are mostly sent as.
_KEY: Final = re.compile(
    rf'"([\x20\x21\x23-\x5b\x5d-\x7e]{{1,{KEY_MAX_LENGTH}}})"|([\x21\x23-\x5b\x5d-\x7e]{{1,{KEY_MAX_LENGTH}}})',
    re.ASCII,
)
# Answers that say nothing about the request itself.
_PASSING: Final = frozenset({401, 403, 408, 425, 429})
_FIRST_PROBLEM: Final = 400
# What the layers around make anew for each answer.
_PER_ANSWER: Final = frozenset({b"content-length", b"connection", b"date", b"server", b"x-request-id"})

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Once:
    """What a handler knows of its request's key."""

    claim: Claim
    is_sealed: bool = False

    def uuid(self, purpose: str) -> UUID:
        """An id for something that this request makes: the same each time it is tried, another for each key."""
        claim = self.claim
        name = orjson.dumps([purpose, claim.principal, claim.key, claim.created_at.isoformat()])
        milliseconds = int(claim.created_at.timestamp() * 1000)
        bits = milliseconds << 80 | int.from_bytes(sha256(name).digest()[:10], "big")
        bits = bits & ~(0xF << 76) | 0x7 << 76
        return UUID(int=bits & ~(0x3 << 62) | 0x2 << 62)

    async def seal(self, connection: Connection, response: Response) -> None:
        """Store the answer in the transaction of the effect, as its last statement.

        Raises Problem (409) when another has taken the request over meanwhile: then there must be no effect.
        """
        stored = _stored(response)
        assert stored is not None, "only an answer for good, of a size that is kept, is sealed"
        if not await request_keys.answer_within(connection, self.claim, stored):
            raise Problem("in-progress", "the request took so long that it was taken over; ask again")
        self.is_sealed = True


class RequestKeys:
    """`once()` handles a request under its key."""

    def __init__(self, pool: Pool, *, keys_per_day: int, rand: Random) -> None:
        self._pool = pool
        self._rand = rand
        self._keys_per_day = keys_per_day

    async def once(
        self,
        principal: str,
        key: str,
        fingerprint: bytes,
        handle: Callable[[Once], Awaitable[Response]],
        *,
        deadline_s: float,
        request_id: str,
        renewed: bool = False,
    ) -> Response:
        """The answer of `handle`, or the one that it gave before; `renewed`: that is not kept, but given anew."""
        lock_s = deadline_s + LOCK_MARGIN_S
        claim = await request_keys.claim(self._pool, principal, key, fingerprint, lock_s=lock_s)
        if claim is None:
            standing = await request_keys.get(self._pool, principal, key)
            if standing is not None and not standing.is_old and standing.fingerprint != fingerprint:
                API_KEYED_REQUESTS.labels("reused").inc()
                raise Problem("idempotency-key-reused", "another request was sent with this key; give each its own")
            if standing is not None and standing.stored is not None and not standing.is_old:
                API_KEYED_REQUESTS.labels("replayed").inc()
                if not renewed or standing.stored.status >= _FIRST_PROBLEM:
                    return _replayed(standing.stored)
                first = Claim(principal, key, standing.created_at, standing.created_at)
                return _marked(await handle(Once(first, is_sealed=True)))
            if standing is not None and standing.is_free:
                claim = await request_keys.take_over(self._pool, principal, key, fingerprint, lock_s=lock_s)
            if claim is None:
                API_KEYED_REQUESTS.labels("in_progress").inc()
                raise Problem("in-progress", "a request with this key is being handled; ask again")
        elif claim.used > self._keys_per_day and claim.now is not None:
            await request_keys.give_up(self._pool, claim)
            try:
                check_keys(claim.used, self._keys_per_day, claim.now)
            except KeysSpent as error:
                raise keys_spent(error) from None
        API_KEYED_REQUESTS.labels("handled").inc()
        return await self._handle(Once(claim), handle, request_id, renewed=renewed)

    async def _handle(
        self, once: Once, handle: Callable[[Once], Awaitable[Response]], request_id: str, *, renewed: bool
    ) -> Response:
        try:
            response = await handle(once)
        except Problem as problem:
            if not once.is_sealed:
                await self._keep(once, problem_response(problem, request_id, self._rand))
            raise
        except Exception:
            if not once.is_sealed:
                await self._give_up(once)
            raise
        # A cancelled request has had its effect or not; nobody knows, so its claim runs out by itself.
        if not once.is_sealed:
            await self._keep(once, Response(status_code=response.status_code) if renewed else response)
        return response

    async def _keep(self, once: Once, response: Response) -> None:
        stored = _stored(response)
        if stored is None:
            await self._give_up(once)
        elif not await request_keys.answer(self._pool, once.claim, stored):
            _log.warning("a request was taken over before its answer was stored")

    async def _give_up(self, once: Once) -> None:
        try:
            await request_keys.give_up(self._pool, once.claim)
        except StoreError as error:
            _log.warning("a key stays claimed until its time is over", detail=str(error))


def key_of(headers: Headers, wanted: Idempotency) -> str | None:
    """The key that came with a request: a structured-field string, or the same without its quotes.

    Raises Problem (400).
    """
    values: Sequence[bytes] = headers.get(b"idempotency-key", [])
    if not values:
        if wanted == "required":
            raise _wrong("this needs an Idempotency-Key, for example a fresh UUID; send the same when you repeat it")
        return None
    if len(values) > 1:
        raise _wrong("Idempotency-Key is given more than once")
    found = _KEY.fullmatch(values[0].decode("latin-1"))
    if found is None:
        raise _wrong(f'Idempotency-Key must be 1 to {KEY_MAX_LENGTH} printable ASCII characters without " and \\')
    return found[1] or found[2]


def fingerprint_of(*parts: bytes) -> bytes:
    """What decides whether a key that comes again brings the same request (32 bytes, SHA-256)."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def keys_spent(error: KeysSpent) -> Problem:
    """The Problem (429) for a principal whose day is used up."""
    return Problem("keys-spent", str(error), headers={"Retry-After": str(error.retry_after_s)}, limit=error.limit)


def _wrong(detail: str) -> Problem:
    return Problem("invalid-request", detail, field="Idempotency-Key")


def _stored(response: Response) -> Stored | None:
    """The answer as it is kept, or None when it is not one for good or too large."""
    status = response.status_code
    body = getattr(response, "body", None)
    if status >= 500 or status in _PASSING or body is None or len(body) > STORED_MAX_BYTES:
        return None
    headers = [
        [name.decode("latin-1"), value.decode("latin-1")]
        for name, value in response.raw_headers
        if name not in _PER_ANSWER
    ]
    return Stored(status, orjson.dumps(headers).decode(), bytes(body))


def _replayed(stored: Stored) -> Response:
    response = Response(stored.body, stored.status)
    for name, value in orjson.loads(stored.headers):
        response.headers.append(name, value)
    return _marked(response)


def _marked(response: Response) -> Response:
    response.headers["Idempotency-Replayed"] = "true"
    return response
