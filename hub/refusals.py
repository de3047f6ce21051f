"""Every way a handshake can be refused: an HTTP answer with a problem body (RFC 9457), from one table.

A device that is refused tells its operator `detail`, and its SDK acts on the status: 503 and 429 come back later,
elsewhere if the assignment says so; 401 gets a new token; the rest waits for a person. Nothing here holds what the
client sent beyond the name of a field.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["REFUSALS", "Refusal"]


class _Kind(NamedTuple):
    status: int
    title: str
    retry_after_s: tuple[int, int] | None = None  # a Retry-After is drawn from this range


REFUSALS: Final[Mapping[str, _Kind]] = {
    "invalid-request": _Kind(400, "The handshake is malformed"),
    "invalid-parameter": _Kind(400, "A query parameter is wrong"),
    "unauthorized": _Kind(401, "A valid token is needed"),
    "ticket-used": _Kind(401, "The ticket was used before"),
    "forbidden": _Kind(403, "The token does not allow this"),
    "not-found": _Kind(404, "There is nothing here"),
    "method-not-allowed": _Kind(405, "The method is not supported here"),
    "older-attempt": _Kind(409, "A newer attempt of this client was here"),
    "upgrade-required": _Kind(426, "This address speaks fleetwire.v1 over WebSocket"),
    "address-limited": _Kind(429, "Too many connections from this address", (5, 15)),
    "flapping": _Kind(429, "This device connects too often", (30, 60)),
    "too-many-handshakes": _Kind(429, "This device has too many handshakes under way", (1, 5)),
    "not-ready": _Kind(503, "The hub is not ready", (1, 5)),
    "draining": _Kind(503, "The hub is draining", (1, 3)),
    "crowded": _Kind(503, "Too many devices come at once", (1, 5)),
    "full": _Kind(503, "The hub is full", (2, 8)),
    "unavailable": _Kind(503, "Not available now", (1, 5)),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused handshake. `reason` refines the slug for counters; it is one of few fixed words.

    `retry_after_s` is the range Retry-After is drawn from, where the table's is not the right one.
    """

    slug: str
    detail: str
    reason: str = ""
    field: str | None = None
    retry_after_s: tuple[int, int] | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return REFUSALS[self.slug].status

    @property
    def label(self) -> str:
        """What counters call it."""
        return self.reason or self.slug

    def headers(self, *, luck: float) -> dict[str, str]:
        """Headers that belong to the refusal. `luck` from 0 to 1 spreads those who were sent away over the range."""
        kind = REFUSALS[self.slug]
        headers = {"Content-Type": "application/problem+json"}
        retry_after_s = self.retry_after_s or kind.retry_after_s
        if retry_after_s is not None:
            low, high = retry_after_s
            headers["Retry-After"] = str(low + min(int(luck * (high - low + 1)), high - low))
        if kind.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if kind.status == 426:
            headers["Upgrade"] = "websocket"
        if kind.status == 405:
            headers["Allow"] = "GET"
        return headers

    def body(self, request_id: str) -> bytes:
        """The problem as JSON."""
        kind = REFUSALS[self.slug]
        problem = {
            "type": f"urn:fleetwire:problem:{self.slug}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.field is not None:
            problem["field"] = self.field
        return json.dumps(problem, separators=(",", ":")).encode()
