"""What a device says when it connects, judged step by step: request → who it is → where it goes on.

Each step takes the value that only the step before can give, so nothing unauthenticated ever reaches a session:
`read_request` gives `Asked`, `admit` makes it `Admitted`, the greeting statement answers it (`refused_by_statement`
reads the answer), `begin` says where pushing starts. All of it is pure.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from uuid import UUID

from hub.refusals import Refusal
from shared.protocol.frames import SUBPROTOCOL, TICKET_PREFIX, Reset
from shared.protocol.ids import device_class_problem, device_id_problem
from shared.protocol.position import InvalidPosition, Position, parse_position
from shared.protocol.resume import GoOn, Implausible, LogLossSuspected, StartOver, acked_position, resume
from shared.store.cursors import Greeted
from shared.tokens import Claims, InvalidToken, KeyRing, Ticket

__all__ = [
    "PATH",
    "Admitted",
    "Asked",
    "Begin",
    "Credential",
    "UnknownKey",
    "admit",
    "begin",
    "is_signed",
    "read_request",
    "refused_by_statement",
    "renew",
    "request_id_of",
]

PATH: Final = "/v1/socket"
ATTEMPT_MAX: Final = 2**53 - 1
PARAMETERS_MAX: Final = 32
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """A well-formed request. `instance` is None for a client that does not say which run it is."""

    device_id: str
    after: Position | None
    instance: str | None
    attempt: int
    hub: str | None


@dataclass(frozen=True, slots=True)
class Credential:
    """What a verified token allows on this connection, and until when (Unix seconds).

    `issued_at`, `token_id` and `token_key_id` are those of the bearer token, for a ticket of the token it was made for:
    by them it is revoked.
    """

    subject: str
    scopes: frozenset[str]
    device_class: str | None
    expires_at: float
    key_id: str
    ticket_id: str | None = None
    ticket_expires_at: float | None = None
    issued_at: float | None = None
    token_id: str | None = None
    token_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose token is good for it. Only the greeting statement can still refuse it."""

    asked: Asked
    credential: Credential


class Begin(NamedTuple):
    """Pushing starts after `position`; `reset` is said first when the device's own position does not go on."""

    position: Position
    reset: Reset | None


def request_id_of(given: str | None, fresh: str) -> str:
    """The request id to answer with: the one given when it is harmless, else `fresh`."""
    return given if given is not None and _REQUEST_ID.fullmatch(given) else fresh


def read_request(target: str, *, method: str, upgrade: str | None, offered: Sequence[str]) -> Asked | Refusal:
    """Check target, upgrade and subprotocols of a request.

    Values stand in the query as they are, device_id without any escape.
    """
    path, _, query = target.partition("?")
    if path != PATH:
        return Refusal("not-found", f"devices connect to {PATH}")
    if method != "GET":
        return Refusal("method-not-allowed", "a WebSocket handshake is a GET")
    if upgrade is None or "websocket" not in upgrade.lower():
        return Refusal("upgrade-required", "send Upgrade: websocket and Connection: Upgrade", reason="no-upgrade")
    if SUBPROTOCOL not in offered:
        return Refusal("upgrade-required", f"offer the subprotocol {SUBPROTOCOL}", reason="no-subprotocol")
    parameters = _parameters(query)
    if isinstance(parameters, Refusal):
        return parameters
    return _asked(parameters)


def _parameters(query: str) -> dict[str, str] | Refusal:
    parameters: dict[str, str] = {}
    if query.count("&") >= PARAMETERS_MAX:
        return _wrong("query", f"has more than {PARAMETERS_MAX} parameters")
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name in parameters:
            return _wrong(name if name in _NAMES else "query", "is there twice; send it once")
        parameters[name] = value
    return parameters


_NAMES: Final = frozenset({"device_id", "after", "instance", "attempt", "hub"})


def _wrong(field: str, detail: str) -> Refusal:
    return Refusal("invalid-parameter", f"{field} {detail}", reason=field, field=field)


def _asked(parameters: dict[str, str]) -> Asked | Refusal:
    device_id = parameters.get("device_id", "")
    if "%" in device_id or "+" in device_id:
        return _wrong("device_id", "must not be percent-encoded: it holds only a-z 0-9 . _ -")
    if problem := device_id_problem(device_id):
        return Refusal("invalid-parameter", problem, reason="device_id", field="device_id")
    after: Position | None = None
    if "after" in parameters:
        try:
            # Some clients escape the colon, which is harmless here.
            after = parse_position(parameters["after"].replace("%3A", ":", 1).replace("%3a", ":", 1))
        except InvalidPosition as error:
            return Refusal("invalid-parameter", f"after: {error}", reason="after", field="after")
    instance: str | None = None
    if "instance" in parameters:
        instance = _uuid(parameters["instance"])
        if instance is None:
            return _wrong("instance", "must be a UUID of 36 characters, the same for one run of the client")
    attempt = 0
    if "attempt" in parameters:
        text = parameters["attempt"]
        if not (1 <= len(text) <= 16 and text.isascii() and text.isdigit() and int(text) <= ATTEMPT_MAX):
            return _wrong("attempt", "must be a decimal number that rises with each try")
        if instance is None:
            return _wrong("attempt", "needs instance beside it")
        attempt = int(text)
    hub = parameters.get("hub")
    if hub is not None and _HUB_NAME.fullmatch(hub) is None:
        return _wrong("hub", "must be a hub's name as the assignment gave it")
    return Asked(device_id, after, instance, attempt, hub)


def _uuid(text: str) -> str | None:
    if len(text) != 36:
        return None
    try:
        return str(UUID(text))
    except ValueError:
        return None


def admit(
    asked: Asked,
    *,
    authorization: Sequence[str],
    offered: Sequence[str],
    tokens: KeyRing,
    tickets: KeyRing,
    now: float,
) -> Admitted | Refusal:
    """Check the token: `Authorization: Bearer` with a ticket or a device token, else a `ticket.` subprotocol."""
    try:
        credential = _credential(authorization, offered, tokens, tickets, now)
    except InvalidToken as error:
        return Refusal("unauthorized", str(error), reason=error.reason)
    if isinstance(credential, Refusal):
        return credential
    if "device" not in credential.scopes:
        return Refusal("forbidden", "the token needs the scope device", reason="scope")
    if credential.subject != asked.device_id:
        return Refusal("forbidden", "device_id must be the token's own subject", reason="subject", field="device_id")
    return Admitted(asked, credential)


def _credential(
    authorization: Sequence[str], offered: Sequence[str], tokens: KeyRing, tickets: KeyRing, now: float
) -> Credential | Refusal:
    from_subprotocol = [name for name in offered if name.startswith(TICKET_PREFIX)]
    if len(authorization) > 1 or len(from_subprotocol) > 1 or (authorization and from_subprotocol):
        return Refusal(
            "invalid-request", "send one token, in Authorization or as one ticket subprotocol", reason="tokens"
        )
    if from_subprotocol:
        return of_ticket(tickets.verify_ticket(from_subprotocol[0].removeprefix(TICKET_PREFIX), now=now))
    if not authorization:
        raise InvalidToken("missing", "no token was given: send Authorization: Bearer, or a ticket as a subprotocol")
    scheme, _, token = authorization[0].strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise InvalidToken("malformed", "Authorization must be Bearer and a token")
    return _verified(token, tokens, tickets, now)


def _verified(token: str, tokens: KeyRing, tickets: KeyRing, now: float) -> Credential:
    try:
        return of_ticket(tickets.verify_ticket(token, now=now))
    except InvalidToken as error:
        if error.reason not in ("unknown_key", "wrong_audience"):
            raise
    claims = tokens.verify(token, now=now)
    if claims.device_class is not None and (problem := device_class_problem(claims.device_class)):
        raise InvalidToken("bad_claims", problem)
    return of_claims(claims)


def of_ticket(ticket: Ticket) -> Credential:
    """What a socket ticket allows: to be the device, once, for the session it names. Raises InvalidToken."""
    if ticket.device_class is not None and (problem := device_class_problem(ticket.device_class)):
        raise InvalidToken("bad_claims", problem)
    return Credential(
        subject=ticket.subject,
        scopes=frozenset({"device"}),
        device_class=ticket.device_class,
        expires_at=ticket.session_expires_at,
        key_id=ticket.key_id,
        ticket_id=ticket.token_id,
        ticket_expires_at=ticket.admission_expires_at,
        issued_at=ticket.issued_at,
        token_id=ticket.parent,
        token_key_id=ticket.parent_key_id,
    )


def of_claims(claims: Claims) -> Credential:
    """What a bearer token allows."""
    return Credential(
        subject=claims.subject,
        scopes=claims.scopes,
        device_class=claims.device_class,
        expires_at=claims.expires_at,
        key_id=claims.key_id,
        issued_at=claims.issued_at,
        token_id=claims.token_id,
    )


def is_signed(credential: Credential, *, tokens: KeyRing, tickets: KeyRing) -> bool:
    """Whether the keys that signed it are still accepted: its own, and for a ticket that of its token."""
    if credential.ticket_id is None:
        return credential.key_id in tokens.key_ids
    if credential.key_id not in tickets.key_ids:
        return False
    return credential.token_key_id is None or credential.token_key_id in tokens.key_ids


class UnknownKey(str):
    """A refusal because nobody here knows the key that the token names; it may have been published since."""

    __slots__ = ()


def renew(current: Credential, token: str, *, tokens: KeyRing, tickets: KeyRing, now: float) -> Credential | str:
    """The credential that a `token` frame brings, or why it is refused: another subject, a wider scope, not valid.

    A ticket renews as well, since a device that came with one does not show its token to hubs. It is not claimed: it
    opens nothing here, and only its own device could send it.
    """
    try:
        renewed = _verified(token, tokens, tickets, now)
    except InvalidToken as error:
        return UnknownKey(error) if error.reason == "unknown_key" else str(error)
    if renewed.subject != current.subject:
        return "the token is another device's"
    if "device" not in renewed.scopes:
        return "the token needs the scope device"
    if not renewed.scopes <= current.scopes:
        return "the token's scope is wider than the connection's"
    return renewed


def refused_by_statement(greeted: Greeted) -> Refusal | None:
    """What the greeting statement has against the device; None when it admitted it."""
    match greeted.verdict:
        case "ok":
            return None
        case "ticket_used":
            return Refusal("ticket-used", "a ticket opens one socket; ask for the assignment again")
        case "older_attempt":
            return Refusal("older-attempt", "a newer attempt of this instance was here")
        case "unknown_device":
            return Refusal("unavailable", "the device could not be made; try again", reason="device")
        case "revoked":
            return Refusal("unauthorized", "the token was revoked", reason="revoked")


def begin(
    after: Position | None, *, epoch: int, floor: int, head: int, acked: int, log_loss: bool = False
) -> Begin | LogLossSuspected | Implausible:
    """Where pushing starts. `log_loss` says that the epoch was just raised because of this device's position."""
    named = acked_position(epoch=epoch, floor=floor, head=head, acked=acked) if after is None else after
    if after is None and acked < floor:
        # It named no position, but what follows its acked one is gone: that has to be said.
        return Begin(named, Reset(str(named), "retention"))
    match resume(named, epoch=epoch, floor=floor, head=head, acked=acked):
        case GoOn(seq):
            return Begin(Position(epoch, seq), None)
        case StartOver(position, reason):
            return Begin(position, Reset(str(position), "log_loss" if log_loss else reason))
        case other:
            return other
