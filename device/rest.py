"""The API by HTTP: where to connect, events, acks, state, file addresses.

Every answer is measured, decoded and checked before use, and foreign errors become ours in one place. Only an answer
that is evidently the API's (a problem body) may end the client: a captive portal's 403 page is just no network.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import httpx
import msgspec

from device.actions import EventsPage, PageEvent, ResetSaid
from device.addresses import check_socket_url, file_url
from device.credential import Credential
from device.errors import (
    ConfigurationError,
    FileGone,
    ProtocolRefused,
    Refused,
    Revoked,
    TransportError,
    Unreachable,
)
from device.problems import OUR_WORDS, ProblemBody, problem_detail, problem_type, retry_after_of
from device.quiet import unlogged
from device.results import Answer, Answers, Fault
from device.timing import Timing
from device.tls import default_tls
from shared.protocol.position import InvalidPosition, Position, parse_position

__all__ = ["Assignment", "BatchRefused", "PageTooLarge", "Rest"]

_ANSWER_MAX: Final = 1024 * 1024
_PAGE_MAX: Final = 10 * 1024 * 1024  # the server gathers at most 8 MiB of events into one read
_SYNC_MAX: Final = 4 * 1024 * 1024  # a batch's conflicts bring up to 1 MiB of entities, and more around them
_TARGETS_MAX: Final = 3
T = TypeVar("T")


class PageTooLarge(Unreachable):
    """The page is larger than this client takes; ask for fewer events."""


class BatchRefused(TransportError):
    """The API cannot read this batch of operations, or it is too large for it."""

    def __init__(self, http: int, fault: Fault) -> None:
        super().__init__(f"HTTP {http} {fault.code}: {fault.detail}")
        self.http = http
        self.fault = fault


class _Target(msgspec.Struct):
    url: str
    hub: str = ""


class _ConnectionAnswer(msgspec.Struct):
    url: str
    ticket: str
    hub: str = ""
    alternatives: list[_Target] = []


class _EventAnswer(msgspec.Struct):
    seq: int
    event: msgspec.Raw


class _EventsAnswer(msgspec.Struct):
    position: str
    head: int
    events: list[_EventAnswer]
    more: bool = False


class _AckAnswer(msgspec.Struct):
    position: str | None = None


class Assignment(msgspec.Struct, frozen=True):
    """Where to open the socket, in order of choice, and the ticket that opens it."""

    urls: tuple[str, ...]
    ticket: str


class _Answer(msgspec.Struct):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Rest:
    """One device's view of the API. The address has been checked."""

    def __init__(
        self, api: str, device_id: str, credential: Credential, *, timing: Timing, tls: ssl.SSLContext | None = None
    ) -> None:
        self.api = api
        self._device = f"/api/v1/devices/{device_id}"
        self._credential = credential
        self._timing = timing
        self._client = httpx.AsyncClient(
            verify=tls or default_tls(),
            follow_redirects=False,
            limits=httpx.Limits(max_connections=8, max_keepalive_connections=2, keepalive_expiry=30.0),
            headers={"Accept": "application/json"},
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    async def assignment(self) -> Assignment:
        """Ask where to connect. Raises TransportError, ClientClosed."""
        answer = await self._get(f"{self._device}/connection")
        found = _decoded(answer, _ConnectionAnswer)
        urls: list[str] = []
        for url in [found.url, *(target.url for target in found.alternatives)]:
            try:
                urls.append(check_socket_url(url, api=self.api))
            except ConfigurationError as error:
                raise Unreachable(f"the assigned address cannot be used: {error}") from None
        if not found.ticket.isascii() or not found.ticket.isprintable():
            raise Unreachable("the assigned ticket cannot be used")
        return Assignment(tuple(dict.fromkeys(urls))[:_TARGETS_MAX], found.ticket)

    async def events(self, after: Position | None, *, limit: int, wait_s: float) -> EventsPage | ResetSaid:
        """One page after a position, waiting up to `wait_s` for the first event. Raises TransportError,
        ClientClosed."""
        params: dict[str, str | int] = {"limit": limit, "wait": int(wait_s)}
        if after is not None:
            params["after"] = str(after)
        answer = await self._get(f"{self._device}/events", params, max_bytes=_PAGE_MAX, wait_s=wait_s, also=(410,))
        if answer.status == 410:
            problem = _decoded(answer, ProblemBody)
            if problem.position is None:
                raise Unreachable("a 410 without a position")
            return ResetSaid(_position(problem.position), problem.reason or problem.detail or problem.title)
        page = _decoded(answer, _EventsAnswer)
        try:
            events = [
                PageEvent(entry.seq, msgspec.json.decode(entry.event, type=dict[str, Any]), len(bytes(entry.event)))
                for entry in page.events
            ]
        except msgspec.DecodeError as error:
            raise Unreachable(f"an event that is not an object: {error}") from None
        return EventsPage(_position(page.position), page.head, page.more, events)

    async def ack(self, position: Position) -> Position | None:
        """Move the cursor. Returns where it stands, None when it cannot stand there. Raises TransportError,
        ClientClosed."""
        answer = await self._request(
            "POST", f"{self._device}/acks", content=msgspec.json.encode({"position": str(position)}), also=(409, 422)
        )
        if answer.status in (409, 422):
            return None  # the log is not the one this position is of; the next page says where to go on
        if not answer.body:
            return position
        said = _decoded(answer, _AckAnswer).position
        return position if said is None else _position(said)

    async def sync(self, operations: bytes) -> list[Answer]:
        """Send a batch of operations, given as JSON objects with commas between. Raises BatchRefused, TransportError,
        ClientClosed."""
        answer = await self._request(
            "POST",
            "/api/v1/sync/batch",
            content=b'{"operations":[%b]}' % operations,
            max_bytes=_SYNC_MAX,
            deadline_s=self._timing.sync_s,
            also=(400, 413, 422),
        )
        if answer.status != 200:
            slug = problem_type(answer.body).rpartition(":")[2]
            raise BatchRefused(answer.status, Fault(slug, problem_detail(answer.body)))
        return _decoded(answer, Answers).results

    async def responses(self, params: Mapping[str, str | int]) -> dict[str, Any]:
        """One page of the device's responses: the state to fetch after a reset. Raises TransportError, ClientClosed."""
        answer = await self._get(f"{self._device}/responses", params, max_bytes=_PAGE_MAX)
        return _decoded(answer, dict[str, Any])

    async def file_location(self, url: str) -> str:
        """The short-lived address of a file. Raises FileGone, ForeignOrigin, TransportError, ClientClosed."""
        answer = await self._get(file_url(self.api, url)[len(self.api) :], also=(302, 303, 307, 404, 410))
        if answer.status in (404, 410):
            raise FileGone(problem_detail(answer.body) or None)
        location = answer.headers.get("location")
        if answer.status == 200 or location is None:
            raise Unreachable("the API gave no address for the file")
        return location

    # -- inside

    async def _get(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        max_bytes: int = _ANSWER_MAX,
        wait_s: float = 0.0,
        also: tuple[int, ...] = (),
    ) -> _Answer:
        deadline_s = self._timing.request_s + wait_s
        return await self._request("GET", path, params=params, max_bytes=max_bytes, deadline_s=deadline_s, also=also)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        content: bytes | None = None,
        max_bytes: int = _ANSWER_MAX,
        deadline_s: float | None = None,
        also: tuple[int, ...] = (),
    ) -> _Answer:
        deadline_s = deadline_s or self._timing.request_s
        token = await self._credential.token()
        answer = await self._send(method, path, token, params, content, max_bytes, deadline_s)
        if answer.status == 401 and _is_problem(answer):
            token = await self._credential.renewed(token)
            answer = await self._send(method, path, token, params, content, max_bytes, deadline_s)
        if answer.status in (200, 204) or (answer.status in also and (answer.status < 400 or _is_problem(answer))):
            return answer
        raise _refusal(answer)

    async def _send(  # noqa: PLR0917 - one caller, the two tries of a request
        self,
        method: str,
        path: str,
        token: str,
        params: Mapping[str, str | int] | None,
        content: bytes | None,
        max_bytes: int,
        deadline_s: float,
    ) -> _Answer:
        request = self._client.build_request(
            method,
            self.api + path,
            params=params,
            content=content,
            headers={
                "Authorization": f"Bearer {token}",
                **({} if content is None else {"Content-Type": "application/json"}),
            },
            timeout=httpx.Timeout(deadline_s, connect=self._timing.open_s),
        )
        try:
            with unlogged():
                async with asyncio.timeout(deadline_s):
                    response = await self._client.send(request, stream=True)
                    try:
                        body = bytearray()
                        async for chunk in response.aiter_bytes(65536):
                            body += chunk
                            if len(body) > max_bytes:
                                raise PageTooLarge(f"an answer of more than {max_bytes} bytes")
                    finally:
                        await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ssl.SSLError) as error:
            raise Unreachable(f"{method} {path}: {type(error).__name__}") from error
        return _Answer(response.status_code, response.headers, bytes(body))


def _is_problem(answer: _Answer) -> bool:
    return answer.headers.get("content-type", "").split(";")[0].strip().lower() == "application/problem+json"


def _refusal(answer: _Answer) -> Exception:
    if not _is_problem(answer):
        return Unreachable(f"HTTP {answer.status} from something that is not the API")
    detail = problem_detail(answer.body) or None
    match answer.status:
        case 401:
            # Even the renewed token is refused. Its source may need a moment, so this is not the end.
            return Refused(detail, status=401)
        case 403:
            return Revoked(detail)
        case 400 | 422 if problem_type(answer.body) in OUR_WORDS:
            return ProtocolRefused(detail)
        # Any other 400 is about headers or framing, which something on the way may have changed.
        case status:
            problem = problem_type(answer.body)
            return Refused(detail, status=status, retry_after=retry_after_of(answer.headers), problem=problem)


def _decoded(answer: _Answer, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreachable(f"an answer that is not the API's: {error}") from None


def _position(text: str) -> Position:
    try:
        return parse_position(text)
    except InvalidPosition as error:
        raise Unreachable(f"an answer that is not the API's: {error}") from None
