"""Revoking tokens."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from api.description import Answer, Description
from api.descriptions.common import DeviceId, Moment, Printable
from api.descriptions.parameters import DEVICE_ID, PAGE

__all__ = ["LIST_REVOCATIONS", "REVOKE", "Revocation", "RevocationBody", "RevocationsPage"]


class RevocationBody(Struct, frozen=True, forbid_unknown_fields=True):
    """All tokens of a device, or the one with this `jti`. `subject` names who is no device."""

    device_id: DeviceId | None = None
    subject: Printable | None = None
    token_id: Printable | None = None
    expires_at: datetime | None = None
    issued_before: datetime | None = None
    reason: Annotated[str, Meta(extra_json_schema={"maxLength": 200})] = "revoked by an operator"


class Revocation(Struct, frozen=True):
    """What was revoked: one token of `subject`, or all of `device_id` that were issued before a time."""

    token_id: str | None
    device_id: DeviceId | UnsetType = UNSET
    issued_before: Moment | UnsetType = UNSET
    subject: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    revoked_at: Moment | UnsetType = UNSET
    expires_at: Moment | UnsetType | None = UNSET


class RevocationsPage(Struct, frozen=True):
    """Revocations, newest first. `next` is the `cursor` of the following page."""

    revocations: list[Revocation]
    next: str | None


REVOKE: Final = Description(
    id="revoke",
    summary="Revoke a token, or all of a device",
    about="When this is answered, no new connection and no request gets in with such a token.",
    answers={200: Answer("Revoked.", Revocation), 201: Answer("Revoked, for the first time.", Revocation)},
    problems=("not-found",),
    body_example={"device_id": "truck-7", "token_id": "a3b1", "reason": "the truck was sold"},
)
LIST_REVOCATIONS: Final = Description(
    id="listRevocations",
    summary="What was revoked",
    query=(DEVICE_ID, *PAGE),
    answers={200: Answer("A page, newest first.", RevocationsPage)},
)
