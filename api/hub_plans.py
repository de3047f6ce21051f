"""A plan for hubs from what each of them counted [pure]: what would go where, what speaks against it, and the text that
confirms it.

What confirms a plan is signed, short-lived, and good for the same question and the same runs of the same hubs only: so
nobody carries out what nobody has looked at, nor what was looked at when the fleet was another.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from api.descriptions.hubs import HubMove, HubPlan, PlanBody
from api.pagination import InvalidCursor, SignedCursors
from shared.store.hubs import HubRow

__all__ = ["CONFIRM_S", "NotConfirmed", "confirmation", "made", "planned"]

CONFIRM_S: Final = 120
_NAME: Final = "plan for hubs"


class NotConfirmed(ValueError):
    """The plan is not one that was made for this, or is too old; the message says which."""


def made(
    body: PlanBody, hubs: Sequence[HubRow], counts: Mapping[str, Mapping[str, Any]], troubles: Sequence[str]
) -> HubPlan:
    """`counts` are the answers of those hubs that were asked, `troubles` why others did not answer."""
    moves = [
        HubMove(name, target or None, count, answer["refused"].get(target))
        for name, answer in sorted(counts.items())
        for target, count in sorted(answer["move"].items())
        if body.action == "drain" or body.to in (None, target)
    ]
    devices = sum(move.devices for move in moves)
    everybody = sum(sum(answer["move"].values()) + answer["stay"] for answer in counts.values())
    return HubPlan(
        action=body.action,
        hub=body.hub,
        to=body.to,
        devices=devices,
        stay=everybody - devices,
        moves=moves,
        warnings=_warnings(body, hubs, moves),
        problems=list(troubles),
        confirm=None,
    )


def _warnings(body: PlanBody, hubs: Sequence[HubRow], moves: Sequence[HubMove]) -> list[str]:
    said = []
    wanted: dict[str, int] = {}
    for move in moves:
        if move.to is not None:
            wanted[move.to] = wanted.get(move.to, 0) + move.devices
    for hub in hubs:
        room = hub.capacity - hub.connections
        if wanted.get(hub.name, 0) > room:
            said.append(
                f"{hub.name} has room for {max(0, room)} of {wanted[hub.name]} devices: the rest waits or stays"
            )
    if body.action == "drain":
        if all(hub.name == body.hub or hub.draining for hub in hubs):
            said.append("no other hub takes devices: they go by REST until one does")
        said.append("the hub ends when its devices have gone; what keeps hubs running starts it again")
    return said


def confirmation(cursors: SignedCursors, body: PlanBody, hubs: Sequence[HubRow], now: datetime, devices: int) -> str:
    """What confirms the plan that was made for this question at this moment."""
    return cursors.sign(_NAME, _about(body, hubs), (now + timedelta(seconds=CONFIRM_S), devices))


def planned(cursors: SignedCursors, body: PlanBody, confirm: str, hubs: Sequence[HubRow], now: datetime) -> int:
    """How many devices the plan spoke of. Raises NotConfirmed."""
    try:
        until, devices = cursors.read(confirm, _NAME, _about(body, hubs), (datetime, int))
    except InvalidCursor:
        raise NotConfirmed("the hubs have changed since, or this is another plan: look at a new one") from None
    if now > until:
        raise NotConfirmed("the plan is too old: look at a new one")
    return devices


def _about(body: PlanBody, hubs: Sequence[HubRow]) -> dict[str, str]:
    runs = {f"hub {hub.name}": f"{hub.instance} {hub.draining} {hub.leaving}" for hub in hubs}
    return {"action": body.action, "of": body.hub or "", "to": body.to or "", **runs}
