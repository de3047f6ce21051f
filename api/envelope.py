"""Around every request: its id, its log line, its metrics, and a problem for whatever went wrong.

This is the only place where exceptions become answers. Metrics carry the path's template, never the path: a scanner
must not be able to make time series. While the process leaves, every answer asks the client to take its next request
elsewhere.
"""

import asyncio
import uuid
from collections.abc import Callable
from random import Random
from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from api.bodies import ClientGone
from api.cors import Cors
from api.inputs import sane_request_id
from api.peer import Departure, peer_of
from api.problems import Problem, problem_response
from api.resource import Trace, headers_of
from api.security_headers import SECURITY_HEADERS
from shared.clock import monotonic
from shared.request_target import in_origin_form
from shared.store.errors import NotMigrated, StoreError
from shared.telemetry.metrics import API_REQUEST_SECONDS, API_REQUESTS

__all__ = ["Envelope"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GONE: Final = 499  # in logs and metrics only: nobody was there to answer
# What says nothing when it goes well: it is counted, and each event brings several of them.
_QUIET_ROUTES: Final = frozenset(
    {
        "/",
        "/health",
        "/ready",
        "/dashboard/{digest}/{name}",
        "/api/v1/files/{file_id}",
        "/api/v1/devices/{device_id}/connection",
    }
)
_SLOW_S: Final = 1.0
_FAILURES: Final = ("500", "503")
_COUNTED: Final[set[tuple[str, str, str]]] = set()  # as few as there are routes, methods and kinds of clients
_BY_STATUS: Final = {404: "not-found", 405: "method-not-allowed"}

_log = structlog.get_logger(__name__)


class Envelope:
    """The outermost ASGI application of the API."""

    def __init__(
        self, router: Router, *, in_flight_max: int, parked: Callable[[], int], rand: Random, cors: Cors | None = None
    ) -> None:
        """`parked` says how many of the requests in flight only wait and take part in no bound but their own."""
        self._router = router
        self._cors = cors or Cors(frozenset())
        self._in_flight_max = in_flight_max
        self._parked = parked
        self._rand = rand
        self.in_flight = 0
        self.leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = headers_of(scope)
        client = scope.get("client") or ("",)
        trace = Trace(sane_request_id(headers.get(b"x-request-id", [])) or uuid.uuid4().hex, str(client[0]))
        trace.fields += self._cors.fields(headers)
        exchange = _Exchange(send, trace, leaving=lambda: self.leaving)
        began = monotonic()
        self.in_flight += 1
        with (
            structlog.contextvars.bound_contextvars(request_id=trace.request_id),
            Departure(peer_of(scope)) as departure,
        ):
            try:
                await self._handle(scope, receive, exchange, trace)
            except asyncio.CancelledError:
                if departure.is_cause:
                    exchange.status = _GONE
                elif self.leaving and not exchange.started:
                    # Out of time at the end: the client is told where others would only find the connection closed.
                    problem = Problem("unavailable", "the server is leaving", close=True)
                    await problem_response(problem, trace.request_id, self._rand)(scope, receive, exchange.send)
                else:
                    raise
                departure.forgive()
            finally:
                self.in_flight -= 1
                _account(scope["method"], trace, exchange, monotonic() - began)
                structlog.contextvars.unbind_contextvars("device_id")

    async def _handle(self, scope: Scope, receive: Receive, exchange: "_Exchange", trace: Trace) -> None:
        try:
            if self.in_flight - self._parked() > self._in_flight_max:
                raise Problem("unavailable", "too many requests are being handled", close=True)
            preflight = self._cors.preflight(scope["method"], headers_of(scope))
            if preflight is not None:
                trace.route = "preflight"
                await preflight(scope, receive, exchange.send)
                return
            await self._router(_routed(scope, self._router, trace), receive, exchange.send)
            return
        except (ClientGone, ClientDisconnect):
            exchange.status = _GONE
            return
        except Exception as error:
            if exchange.started:
                # Half an answer is out: the HTTP layer must cut the connection, lest it be taken for a whole one.
                raise
            problem = _problem_of(error)
        await problem_response(problem, trace.request_id, self._rand)(scope, receive, exchange.send)


def _problem_of(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case HTTPException():
            slug = _BY_STATUS.get(error.status_code, "invalid-request")
            return Problem(slug, "no such path" if slug == "not-found" else error.detail, headers=error.headers)
        case NotMigrated():
            _log.error("database is not migrated", detail=str(error))
            return Problem("unavailable", "the database is not ready")
        case StoreError():
            _log.warning("store unavailable", detail=str(error))
            return Problem("unavailable", "the database cannot be reached now")
        case _:
            _log.error("request failed", exc_info=error)
            return Problem("internal-error", "the failure was logged under this request id")


def _routed(scope: Scope, router: Router, trace: Trace) -> Scope:
    """The scope as the routes see it: one trailing slash is no difference, a percent sign in a path is refused.

    No path of ours needs encoding, and an id that is written in two ways would be hashed, logged and compared as two.
    """
    raw_path, _ = in_origin_form(scope["raw_path"])
    path: str = scope["path"] if raw_path == scope["raw_path"] else raw_path.decode("ascii")
    if b"%" in raw_path:
        raise Problem("invalid-request", "percent-encoding in the path is refused: no path here needs it")
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    return {**scope, "path": path, "raw_path": raw_path, "app": router, "fleetwire.trace": trace}


class _Exchange:
    """Sends one answer and remembers what it was."""

    def __init__(self, send: Send, trace: Trace, *, leaving: Callable[[], bool]) -> None:
        self._send = send
        self._trace = trace
        self._leaving = leaving
        self.started = False
        self.status = 0
        self.sent_bytes = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            given += [pair for pair in SECURITY_HEADERS if pair[0] not in names]
            given += [pair for pair in self._trace.fields if pair[0] not in names or pair[0] == b"vary"]
            given.append((b"x-request-id", self._trace.request_id.encode("ascii")))
            if self._leaving() and b"connection" not in names:
                given.append((b"connection", b"close"))
            message = {**message, "headers": given}
        else:
            self.sent_bytes += len(message.get("body", b""))
        await self._send(message)


def _account(method: str, trace: Trace, exchange: _Exchange, seconds: float) -> None:
    method = method if method in _METHODS else "other"
    # No status: the handler was cancelled, or failed with half an answer sent.
    status = exchange.status or _GONE
    counted = (trace.route, method, trace.client)
    if counted not in _COUNTED:
        # The first failures would else not be seen to rise: their series would be born with them.
        _COUNTED.add(counted)
        for failure in _FAILURES:
            API_REQUESTS.labels(trace.route, method, failure, trace.client)
    API_REQUESTS.labels(trace.route, method, str(status), trace.client).inc()
    if not trace.waited:
        API_REQUEST_SECONDS.labels(trace.route, method, trace.client).observe(seconds)
    about = {"device_id": trace.device_id} if trace.device_id else {}
    if trace.subject and trace.subject != trace.device_id:
        about["subject"] = trace.subject
    probe = trace.route in ("/health", "/ready")
    log = _log.debug if probe or (trace.route in _QUIET_ROUTES and status < 400 and seconds < _SLOW_S) else _log.info
    log(
        "request",
        method=method,
        route=trace.route,
        status=status,
        duration_ms=round(seconds * 1000, 1),
        bytes=exchange.sent_bytes,
        **about,
    )
