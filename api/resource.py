"""One path of the API and what may be done with it.

Everything that must hold before a handler runs is done here, in one order for all: method, token, scope, whose
device, body type, size, time. So a handler sees only a checked `Call`, and none can forget a check.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

import structlog
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from api import bodies
from api.auth import authenticate, refused, require, require_own
from api.client_class import client_of
from api.description import Description, undescribed
from api.idempotency import Idempotency, Once, RequestKeys, fingerprint_of, key_of
from api.inputs import Headers, Query, bearer_token, check_json_content, device_id_of, is_gzipped
from api.problems import Problem
from api.rate_limiter import RateLimiter
from api.read_after import read_after, stamp, stamp_problem
from api.revocation_check import RevocationCheck
from api.session_check import SessionCheck
from api.shedding import Shed, Shedding
from shared.clock import wall
from shared.key_url import KeyUrl
from shared.store.read_token import ReadToken
from shared.store.replicas import Replicas
from shared.tokens import Claims, KeyRing, Scope

__all__ = ["Call", "Guard", "Operation", "Resource", "Trace", "headers_of"]

T = TypeVar("T")

NOBODY: Final = Claims(subject="", scopes=frozenset(), device_class=None, expires_at=0.0, key_id="")


@dataclass(slots=True)
class Trace:
    """What is known of a request while it is handled, for its log line and its metrics."""

    request_id: str
    address: str = ""  # that the connection came from
    route: str = "unmatched"
    device_id: str | None = None
    subject: str | None = None
    client: str = "nobody"
    waited: bool = False
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)  # header fields of whatever answer it gets


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was checked. `body` is the converted body of operations that have one.

    An operation that waited asks `still_allowed()` before it gives anything out; it raises Problem (401).
    `once` is there when the request came with a key under which it is done once.
    """

    trace: Trace
    claims: Claims
    path: Mapping[str, str]
    query: Query
    body: Any
    receive: Receive = field(repr=False)
    still_allowed: Callable[[], Awaitable[None]] = field(repr=False)
    headers: Headers = field(repr=False)
    once: Once | None = None

    @property
    def device_id(self) -> str:
        """The device in the path, legal and the caller's own unless another scope lets it in."""
        return self.path["device_id"]

    @property
    def read_after(self) -> ReadToken | None:
        """What a read of lists must not be older than: for `Replicas.after`. Raises Problem (400)."""
        return read_after(self.headers)

    @property
    def is_by_device(self) -> bool:
        """Whether the device in the path itself is asking."""
        return self.claims.allows("device") and self.claims.subject == self.path["device_id"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a path. No scopes: open to all. `body` is the type of its JSON body.

    `description` is what the published document says of it; it is made in `api/descriptions`.

    `decode` is for bodies that are converted elsewhere: the handler then gets the bytes; with `any_content` also those
    that do not say that they are JSON, and none at all. With `idempotency` a request that comes with an
    Idempotency-Key is handled once; `required` refuses one without, `renewed` makes the answer anew each time. `cost`
    is what it takes from the caller's rate; 0: nothing. `shed` says when it is sent away while the database is too
    slow.
    """

    handle: Callable[[Call], Awaitable[Response]]
    scopes: frozenset[Scope] = frozenset()
    body: type | None = None
    decode: bool = True
    any_content: bool = False
    body_max_bytes: int = 4096
    body_deadline_s: float = 10.0
    deadline_s: float = 10.0
    idempotency: Idempotency | None = None
    cost: float = 1.0
    shed: Shed = Shed.LATER
    description: Description = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Guard:
    """What all resources check with."""

    keys: KeyRing
    budget: bodies.BodyBudget
    revocations: RevocationCheck
    request_keys: RequestKeys
    limiter: RateLimiter
    key_url: KeyUrl
    shedding: Shedding
    classes: Collection[str] = ()  # of devices, that metrics tell apart
    replicas: Replicas | None = None
    sessions: SessionCheck | None = None


class Resource:
    """An ASGI application for one path template."""

    def __init__(self, guard: Guard, template: str, operations: Mapping[str, Operation]) -> None:
        self._guard = guard
        self.template = template
        self.path_names = tuple(re.findall(r"{(\w+)}", template))
        for method, operation in operations.items():
            if missing := undescribed(operation.description, frozenset(self.path_names)):
                raise TypeError(f"{method} {template} is not described whole: {missing} (api/description.py)")
        self.operations = dict(operations)
        if "GET" in operations:
            self.operations["HEAD"] = operations["GET"]

    def route(self) -> Route:
        """The resource as an entry of the route table."""
        return Route(self.template, self)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        trace: Trace = scope["fleetwire.trace"]
        trace.route = self.template
        operation = self.operations.get(scope["method"])
        if operation is None:
            allowed = ", ".join(sorted(self.operations))
            raise Problem("method-not-allowed", f"use one of {allowed}", headers={"Allow": allowed})
        try:
            response = await self._answer(operation, scope, receive, trace)
        except Problem as problem:
            await stamp_problem(self._guard.replicas, scope["method"], problem)
            raise
        await stamp(self._guard.replicas, scope["method"], response)
        await response(scope, receive, send)

    async def _answer(self, operation: Operation, scope: AsgiScope, receive: Receive, trace: Trace) -> Response:
        headers = headers_of(scope)
        path: dict[str, str] = scope.get("path_params", {})
        claims = await self._admitted(operation, scope["method"], headers, path, trace)

        async def still_allowed() -> None:
            await self._check_revocation(claims)

        if operation.scopes:
            self._guard.shedding.check(operation.shed)
            trace.fields += await self._guard.limiter.spend(claims, operation.cost)
            await _within(operation, still_allowed())
        query = Query(scope["query_string"], operation.description.query_names)
        if operation.body is None:
            call = Call(trace, claims, path, query, None, receive, still_allowed, headers)
            return await _within(operation, self._handle(operation, call, scope, b""))
        is_gzip = is_gzipped(headers) if operation.any_content else check_json_content(headers)
        limit = operation.body_max_bytes
        # What a compressed body says of its length is not what it takes.
        with self._guard.budget.reserve(limit if is_gzip else bodies.expected_length(headers, limit=limit)):
            raw = await bodies.read_body(
                receive, headers, limit=limit, deadline_s=operation.body_deadline_s, is_gzip=is_gzip
            )
            body = bodies.convert_body(bodies.decode_body(raw), operation.body) if operation.decode else raw
            call = Call(trace, claims, path, query, body, receive, still_allowed, headers)
            return await _within(operation, self._handle(operation, call, scope, raw))

    async def _handle(self, operation: Operation, call: Call, scope: AsgiScope, raw: bytes) -> Response:
        if operation.idempotency is None:
            return await operation.handle(call)
        key = key_of(call.headers, operation.idempotency)
        if key is None:
            return await operation.handle(call)
        condition = b",".join(call.headers.get(b"if-match", []))
        path = str(scope["path"]).encode()
        return await self._guard.request_keys.once(
            call.claims.principal,
            key,
            fingerprint_of(scope["method"].encode(), path, scope["query_string"], condition, raw),
            lambda once: operation.handle(replace(call, once=once)),
            deadline_s=operation.deadline_s,
            request_id=call.trace.request_id,
            renewed=operation.idempotency == "renewed",
        )

    async def _admitted(
        self, operation: Operation, method: str, headers: Headers, path: Mapping[str, str], trace: Trace
    ) -> Claims:
        try:
            return self._admit(operation, method, headers, path, trace)
        except Problem as problem:
            # The key may have been published since the set was fetched.
            if problem.members.get("reason") != "unknown_key" or not await self._guard.key_url.look():
                raise
        return self._admit(operation, method, headers, path, trace)

    def _admit(
        self, operation: Operation, method: str, headers: Headers, path: Mapping[str, str], trace: Trace
    ) -> Claims:
        if not operation.scopes:
            return NOBODY
        sessions = self._guard.sessions
        if sessions is not None and b"authorization" not in headers and sessions.is_there(headers):
            claims = sessions.claims(method, headers, wall())
        else:
            claims = authenticate(self._guard.keys, bearer_token(headers.get(b"authorization", [])), now=wall())
        trace.subject, trace.client = claims.subject, client_of(claims, self._guard.classes)
        require(claims, operation.scopes)
        if "device_id" in path:
            trace.device_id = device_id_of(path["device_id"])
            structlog.contextvars.bind_contextvars(device_id=trace.device_id)
            require_own(claims, trace.device_id, operation.scopes)
        return claims

    async def _check_revocation(self, claims: Claims) -> None:
        if await self._guard.revocations.is_revoked(claims):
            raise refused("revoked", "the token was revoked")


async def _within(operation: Operation, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(operation.deadline_s):
            return await work
    except TimeoutError:
        raise Problem("unavailable", f"no answer within {operation.deadline_s:g} s") from None


def headers_of(scope: AsgiScope) -> Headers:
    """Header values by lower-case name, in order; the HTTP layer has bounded them."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name, []).append(value)
    return found
