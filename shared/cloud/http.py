"""HTTP to cloud providers: one client for all of them, in which every wait has an end and every answer a size.

`ask` gives a whole answer, `stream` one whose bytes are read as they come. Both send a request again as retrying.py
has it and then give the last answer, whatever its status: what it means is for the provider's own table. No redirect is
followed, no proxy, netrc or certificate of the environment is heeded. Where no answer came the error never holds the
address: it may be signed. Bodies go out in slices, so that a part on its way is in memory once.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec

from shared import clock
from shared.cloud.errors import Misconfigured, StoreBusy, StoreUnavailable
from shared.cloud.retrying import RetryPolicy, Trouble, http_date, retry_after_s, trouble_of
from shared.telemetry.metrics import CLOUD_REQUESTS, CLOUD_SECONDS

__all__ = ["Answer", "Gate", "HttpClient", "Request", "Streamed"]

T = TypeVar("T")

ANSWER_MAX_BYTES: Final = 16 * 1024 * 1024
ERROR_MAX_BYTES: Final = 256 * 1024
CONNECTIONS_MAX: Final = 64
STALL_S: Final = 30.0
_CONNECT_S: Final = 10.0
_SLICE: Final = 256 * 1024
# The slowest link on which a large body is still waited for.
_BYTES_PER_S: Final = 64 * 1024


class Gate(Protocol):
    """Who decides when a request may go: one for all calls that share a provider's limit."""

    async def admit(self, cost: float) -> None:
        """Wait until a request of this cost may go. Raises RateLimited when that would take too long."""
        ...

    async def heard(self, status: int, headers: Mapping[str, str], retry_after_s: float | None) -> None:
        """What the provider answered: `retry_after_s` with a status that says "too much" pauses everybody."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `store` and `call` are for errors and metrics; few and fixed."""

    store: str
    call: str
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    sign: Callable[[], Awaitable[Mapping[str, str]]] | None = None
    """Asked for more headers before every try: a token or a signature that was good may not be any more."""
    repeatable: bool | None = None
    """Whether it is safe to send twice; by default every method but POST and PATCH is."""
    gate: Gate | None = None
    cost: float = 1.0
    policy: RetryPolicy | None = None
    deadline_s: float | None = None
    """For one try, until the answer is there (or, streamed, begins); a large body gets more."""
    limit_statuses: frozenset[int] = frozenset({429})
    is_limit: Callable[["Answer"], bool] | None = None
    """Where a provider says "too much" in another way than by a status."""

    @property
    def may_repeat(self) -> bool:
        """Whether it is safe to send twice."""
        return self.method not in ("POST", "PATCH") if self.repeatable is None else self.repeatable


@dataclass(frozen=True, slots=True)
class Answer:
    """What came. Of a streamed answer that is a success, `body` is empty."""

    status: int
    headers: httpx.Headers
    body: bytes = field(default=b"", repr=False)
    url: str = field(default="", repr=False)

    @property
    def retry_after_s(self) -> float | None:
        """When to come back, if it says so."""
        return retry_after_s(self.headers.get("retry-after"), now=clock.wall())

    @property
    def server_time(self) -> float | None:
        """The provider's wall clock, from its Date."""
        try:
            return http_date(self.headers.get("date", ""))
        except ValueError:
            return None

    @property
    def location(self) -> str | None:
        """Where it points, absolute; None for what is no address, or one that would go from https to something else."""
        try:
            target = urljoin(self.url, self.headers.get("location", "").strip())
            parts = urlsplit(target)
        except ValueError:
            return None
        allowed = ("https", "http") if self.url.startswith("http://") else ("https",)
        is_address = "location" in self.headers and parts.scheme in allowed and parts.hostname and not parts.username
        return target if is_address else None

    def decoded(self, kind: type[T], *, store: str) -> T:
        """The body as JSON of this type. Raises StoreUnavailable."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StoreUnavailable(f"{store} answered {self.status} with something else: {error}") from None


class Streamed:
    """An answer whose bytes are still to come, when its status is 200 or 206; else it is whole."""

    def __init__(self, answer: Answer, response: httpx.Response | None, store: str) -> None:
        self.answer = answer
        self._response = response
        self._store = store

    def __repr__(self) -> str:
        return f"Streamed({self._store}, {self.answer.status})"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in small pieces. Raises StoreUnavailable when they stop before their announced end."""
        if self._response is None:
            yield self.answer.body
            return
        try:
            async for piece in self._response.aiter_raw(_SLICE):
                yield piece
        except (httpx.HTTPError, OSError) as error:
            raise StoreUnavailable(f"{self._store} broke off an answer ({type(error).__name__})") from None


class _Lost(Exception):
    """No answer came."""

    def __init__(self, trouble: Trouble, error: StoreUnavailable) -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.error = error


@cache
def _tls() -> ssl.SSLContext:
    """Reading the certificates of all authorities takes longer than many a request."""
    return httpx.create_ssl_context(trust_env=False)


class HttpClient:
    """One for all providers of a process. `deadline_s` is for one try of one request, connecting included."""

    def __init__(
        self,
        *,
        deadline_s: float = 30.0,
        stall_s: float = STALL_S,
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008 - a frozen value
        connections_max: int = CONNECTIONS_MAX,
        rand: Random | None = None,
        time: Callable[[], float] = clock.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._deadline_s = deadline_s
        self._stall_s = stall_s
        self._policy = policy
        self._rand = rand or Random()  # noqa: S311 - jitter
        self._time = time
        self._sleep = sleep
        limits = httpx.Limits(max_connections=connections_max, max_keepalive_connections=16, keepalive_expiry=20)
        # Answers are read as they come, so none may come compressed.
        headers = {"Accept-Encoding": "identity", "User-Agent": "fleetwire"}
        self._http = httpx.AsyncClient(
            verify=_tls(), limits=limits, headers=headers, trust_env=False, follow_redirects=False
        )

    async def ask(self, request: Request, *, answer_max: int = ANSWER_MAX_BYTES) -> Answer:
        """The last answer, whole. Raises StoreUnavailable when none came, and what the gate raises."""

        async def once() -> Answer:
            async with asyncio.timeout(self._seconds(request)):
                response = await self._send(request)
                try:
                    return await _whole(request, response, answer_max)
                finally:
                    await response.aclose()

        return await self._tried(request, once, lambda answer: answer)

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncIterator[Streamed]:
        """The last answer. A success is sent again only until it begins: who reads on knows what was read."""

        opened: list[httpx.Response] = []

        async def once() -> Streamed:
            async with asyncio.timeout(self._seconds(request)):
                response = await self._send(request)
                opened.append(response)
                if response.status_code in (200, 206):
                    answer = Answer(response.status_code, response.headers, b"", request.url)
                    return Streamed(answer, response, request.store)
                whole = await _whole(request, response, ERROR_MAX_BYTES)
                await response.aclose()
                return Streamed(whole, None, request.store)

        try:
            yield await self._tried(request, once, lambda streamed: streamed.answer)
        finally:
            for response in opened:
                await response.aclose()

    async def close(self) -> None:
        """Give the connections up."""
        await self._http.aclose()

    async def _tried(self, request: Request, once: Callable[[], Awaitable[T]], answer_of: Callable[[T], Answer]) -> T:
        policy = request.policy or self._policy
        began = self._time()
        made = 0
        while True:
            if request.gate is not None:
                await request.gate.admit(request.cost)
            came: T | None = None
            lost: StoreUnavailable | None = None
            wanted_s: float | None = None
            sent_at = self._time()
            try:
                came = await _translated(request, once)
                answer = answer_of(came)
                trouble = _trouble(request, answer)
                wanted_s = answer.retry_after_s if trouble is not None else None
                outcome = trouble.value if trouble else "ok" if answer.status < 400 else "denied"
                if request.gate is not None:
                    status = 429 if trouble is Trouble.REFUSED else answer.status
                    await request.gate.heard(status, answer.headers, wanted_s)
            except _Lost as none:
                trouble, lost, outcome = none.trouble, none.error, none.trouble.value
            CLOUD_REQUESTS.labels(request.store, request.call, outcome).inc()
            CLOUD_SECONDS.labels(request.store, request.call).observe(self._time() - sent_at)
            made += 1
            wait_s = trouble and policy.wait_s(
                trouble,
                made=made,
                spent_s=self._time() - began,
                rand=self._rand,
                repeatable=request.may_repeat,
                retry_after_s=wanted_s,
            )
            if wait_s is None:
                if lost is not None:
                    raise lost
                assert came is not None
                return came
            await self._sleep(wait_s)

    async def _send(self, request: Request) -> httpx.Response:
        headers = dict(request.headers)
        if request.sign is not None:
            headers |= await request.sign()
        seconds = request.deadline_s or self._deadline_s
        connect_s = min(_CONNECT_S, seconds)
        # The deadline of a whole answer is the caller's; what is read here is one piece of it.
        read_s = max(seconds, self._stall_s)
        timeout = httpx.Timeout(self._stall_s, connect=connect_s, pool=seconds, read=read_s)
        content: bytes | AsyncIterator[bytes] | None = request.body
        if request.body is not None and len(request.body) > _SLICE:
            headers["Content-Length"] = str(len(request.body))
            content = _sliced(request.body)
        made = self._http.build_request(request.method, request.url, headers=headers, content=content, timeout=timeout)
        return await self._http.send(made, stream=True)

    def _seconds(self, request: Request) -> float:
        return (request.deadline_s or self._deadline_s) + len(request.body or b"") / _BYTES_PER_S


def _trouble(request: Request, answer: Answer) -> Trouble | None:
    if answer.status in request.limit_statuses or (request.is_limit is not None and request.is_limit(answer)):
        return Trouble.REFUSED
    return trouble_of(answer.status)


async def _translated(request: Request, once: Callable[[], Awaitable[T]]) -> T:
    """What went wrong on the way, in one table."""
    what = f"{request.store} did not answer ({request.call}: "
    try:
        return await once()
    except httpx.PoolTimeout:
        raise _Lost(Trouble.UNSENT, StoreBusy(f"{what}no connection came free)")) from None
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise _Lost(Trouble.UNSENT, StoreUnavailable(f"{what}{_named(error)})")) from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
        raise Misconfigured(f"{request.store}: its address cannot be asked ({_named(error)})") from None
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        raise _Lost(Trouble.BROKEN, StoreUnavailable(f"{what}{_named(error)})")) from None


def _named(error: Exception) -> str:
    return type(error).__name__


async def _whole(request: Request, response: httpx.Response, most: int) -> Answer:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > most:
            raise StoreUnavailable(f"{request.store} answered {response.status_code} with too many bytes")
    return Answer(response.status_code, response.headers, bytes(body), request.url)


async def _sliced(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _SLICE):
        yield body[start : start + _SLICE]
