"""Hubs: what a move or a drain would do, doing it, and what may be done with moves under way."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from api.description import Answer, Description
from api.descriptions.common import HubName

__all__ = [
    "CARRY_OUT",
    "MOVES",
    "PLAN",
    "CarriedOut",
    "CarryOutBody",
    "HubMove",
    "HubPlan",
    "MovesBody",
    "PlanBody",
]


class PlanBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`move`: devices go to the hubs they belong to, from one hub or from all, or only those that belong to `to`.

    `drain`: all devices of `hub` go to the others, and the hub leaves.
    """

    action: Literal["move", "drain"]
    hub: HubName | None = None
    to: HubName | None = None


class CarryOutBody(PlanBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was planned, with what the plan said that confirms it."""

    confirm: Annotated[str, Meta(min_length=1, max_length=512)]


class HubMove(Struct, frozen=True):
    """So many devices would go from one hub to the other; `refused` says why that one takes none now."""

    from_hub: str = field(name="from")
    to: str | None
    devices: int
    refused: str | None


class HubPlan(Struct, frozen=True):
    """What would happen; nothing has. `confirm` carries it out while the hubs stay as they are, for two minutes.

    Without `confirm` it cannot be done, for the reasons in `problems`.
    """

    action: Literal["move", "drain"]
    hub: str | None
    to: str | None
    devices: int
    stay: int
    moves: list[HubMove]
    warnings: list[str]
    problems: list[str]
    confirm: str | None


class CarriedOut(Struct, frozen=True):
    """What was begun: so many devices are to go."""

    devices: int
    hubs: list[str]


class MovesBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`pause`: nobody more is told. `resume`: go on. `abort`: the rest stays where it is."""

    do: Literal["pause", "resume", "abort"]


PLAN: Final = Description(
    id="planHubs",
    summary="What a move or a drain would do",
    about="A dry run: hubs count their devices, and nothing is done.",
    answers={200: Answer("The plan.", HubPlan)},
    problems=("not-found", "unprocessable"),
    body_example={"action": "move"},
)
CARRY_OUT: Final = Description(
    id="carryOutPlan",
    summary="Do what was planned",
    answers={200: Answer("It has begun.", CarriedOut)},
    problems=("not-found", "unprocessable", "wrong-state"),
    body_example={"action": "move", "confirm": "what-the-plan-said"},
)
MOVES: Final = Description(
    id="steerMoves",
    summary="Pause, resume or stop the moves of a hub",
    answers={200: Answer("It was told so.", CarriedOut)},
    problems=("not-found", "wrong-state"),
    body_example={"do": "pause"},
)
