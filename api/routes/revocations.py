"""Revoking tokens, for operators: one by its id, or all that a device was given until now; and the list of both.

Committed first, then told to the bus, so that a hub that heard of it finds it in Postgres. A hub that did not hear
finds it by its sweep.
"""

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.revocations import LIST_REVOCATIONS, REVOKE, Revocation, RevocationBody, RevocationsPage
from api.inputs import device_id_of
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from shared.bus.message import revocation_message
from shared.bus.publisher import Publisher
from shared.protocol.ids import device_id_problem
from shared.store import revocations
from shared.store.errors import TokenIdTaken
from shared.store.pool import Pool
from shared.store.revocations import RevocationRow
from shared.telemetry.metrics import API_REVOCATIONS
from shared.tokens import TOKEN_ID_MAX_LENGTH

__all__ = ["Revocations"]

LIMIT_DEFAULT: Final = 100
REASON_MAX_LENGTH: Final = 200
KEEP_MAX: Final = timedelta(days=3660)
_CURSOR_MAX_LENGTH: Final = 512


class Revocations:
    """`GET | POST /api/v1/revocations`"""

    def __init__(self, pool: Pool, publisher: Publisher, *, page_max: int) -> None:
        self._pool = pool
        self._publisher = publisher
        self._page_max = page_max

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operations = {
            "GET": Operation(self.read, frozenset({"operator"}), description=LIST_REVOCATIONS, shed=Shed.FIRST),
            "POST": Operation(
                self.revoke,
                frozenset({"operator"}),
                body=RevocationBody,
                shed=Shed.NEVER,
                idempotency="optional",
                description=REVOKE,
            ),
        }
        return Resource(guard, "/api/v1/revocations", operations)

    async def revoke(self, call: Call) -> Response:
        """Revoke; when this is answered, no new connection and no request gets in with such a token."""
        body: RevocationBody = call.body
        subject = _checked(body)
        if body.token_id is None:
            answer = await self._revoke_device(subject, body.issued_before)
        else:
            answer = await self._revoke_token(body.token_id, subject, body)
        API_REVOCATIONS.labels("device" if body.token_id is None else "token").inc()
        if body.device_id is not None:
            self._publisher.offer(revocation_message(body.device_id))
        return answer

    async def _revoke_device(self, device_id: str, issued_before: datetime | None) -> Response:
        since = await revocations.revoke_device(self._pool, device_id, issued_before=issued_before)
        if since is None:
            raise Problem("not-found", "there is no such device", field="device_id")
        return typed_answer(Revocation(None, device_id=device_id, issued_before=moment(since)))

    async def _revoke_token(self, token_id: str, subject: str, body: RevocationBody) -> Response:
        try:
            row = await revocations.revoke_token(
                self._pool, token_id, subject=subject, reason=body.reason, expires_at=body.expires_at
            )
        except TokenIdTaken as error:
            raise Problem("invalid-body", str(error), field="token_id") from error
        shown = _shown(RevocationRow(row.token_id, row.subject, row.reason, row.revoked_at, row.expires_at, ""))
        return typed_answer(shown, 201 if row.made else 200)

    async def read(self, call: Call) -> Response:
        """A page, newest first. One row more than asked for tells whether there is a next page."""
        limit = call.query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)
        device_id = call.query.text("device_id")
        if device_id is not None:
            device_id_of(device_id)
        before = _cursor_of(call.query.text("cursor"))
        rows = await revocations.page(self._pool, before=before, subject=device_id, limit=limit + 1)
        shown = rows[:limit]
        following = _cursor(shown[-1]) if len(rows) > limit else None
        return typed_answer(RevocationsPage([_shown(row) for row in shown], following))


def _checked(body: RevocationBody) -> str:
    """Whose token it is. Raises Problem (400) naming the member."""
    if (body.device_id is None) == (body.subject is None):
        raise _wrong("device_id", "give device_id, or for a token that is not a device's subject")
    if body.device_id is not None and (problem := device_id_problem(body.device_id)):
        raise _wrong("device_id", problem)
    if body.subject is not None and not (1 <= len(body.subject) <= 128 and body.subject.isprintable()):
        raise _wrong("subject", "subject must be 1 to 128 printable characters")
    if body.token_id is None:
        if body.device_id is None:
            raise _wrong("token_id", "token_id is needed beside subject")
        if body.expires_at is not None:
            raise _wrong("expires_at", "expires_at is of one token: give token_id, too")
    elif not (1 <= len(body.token_id) <= TOKEN_ID_MAX_LENGTH and body.token_id.isprintable()):
        raise _wrong("token_id", f"token_id must be 1 to {TOKEN_ID_MAX_LENGTH} printable characters: the token's jti")
    elif body.issued_before is not None:
        raise _wrong("issued_before", "issued_before is of all tokens of a device: leave token_id out")
    if not (len(body.reason) <= REASON_MAX_LENGTH and body.reason.isprintable()):
        raise _wrong("reason", f"reason must be at most {REASON_MAX_LENGTH} printable characters")
    for field in ("expires_at", "issued_before"):
        at: datetime | None = getattr(body, field)
        if at is not None and (at.tzinfo is None or not abs(at - datetime.now(UTC)) < KEEP_MAX):
            raise _wrong(field, f"{field} must be a time with its zone, such as 2026-11-22T08:30:00Z, within ten years")
    return body.device_id if body.device_id is not None else body.subject or ""


def _wrong(field: str, detail: str) -> Problem:
    return Problem("invalid-body", detail, field=field)


def _shown(row: RevocationRow) -> Revocation:
    if row.token_id is None:
        return Revocation(None, device_id=row.subject, issued_before=moment(row.revoked_at))
    return Revocation(
        row.token_id,
        subject=row.subject,
        reason=row.reason or "",
        revoked_at=moment(row.revoked_at),
        expires_at=moment(row.expires_at),
    )


def _cursor(row: RevocationRow) -> str:
    raw = json.dumps([moment(row.revoked_at), row.key]).encode()
    return base64.urlsafe_b64encode(raw).decode("ascii")


def _cursor_of(text: str | None) -> tuple[datetime, str] | None:
    if text is None:
        return None
    try:
        if len(text) > _CURSOR_MAX_LENGTH:
            raise ValueError("too long")
        at, key = msgspec.json.decode(
            base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True), type=tuple[datetime, str]
        )
        if at.tzinfo is None or "\x00" in key:
            raise ValueError("not one of ours")
    except (ValueError, binascii.Error, UnicodeEncodeError, msgspec.DecodeError):
        detail = "cursor must be the `next` of the page before, unchanged"
        raise Problem("invalid-parameter", detail, field="cursor") from None
    else:
        return at, key
