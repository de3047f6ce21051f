"""What a Locust run looks like over its time: how many devices there are, and what is done to them.

| shape | devices | what happens |
|---|---|---|
| steady | all, from the beginning | nothing |
| ramp | a tenth, up to all, down to a tenth | they come and go |
| storm | all | halfway every link is cut in the same instant |
| drain | all | after a third of the time one hub is drained, and starts again |
| soak | all | one link in a hundred is cut every few seconds; memory, descriptors and tasks must stay flat |
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from shared.settings import SettingsError

__all__ = ["Shape", "asked_processes", "users_at"]

LOW_PART: Final = 0.1
UP_UNTIL: Final = 0.4
DOWN_FROM: Final = 0.6
STEPS: Final = 20  # of a way up or down; a step down waits for its devices to go


class Shape(StrEnum):
    """The names."""

    STEADY = "steady"
    RAMP = "ramp"
    STORM = "storm"
    DRAIN = "drain"
    SOAK = "soak"


def users_at(shape: Shape, most: int, part: float) -> int:
    """How many devices there are when this part of the time, 0 to 1, is over."""
    if shape is not Shape.RAMP:
        return most
    low = max(1, round(most * LOW_PART))
    height = 1.0
    if part < UP_UNTIL:
        height = part / UP_UNTIL
    elif part > DOWN_FROM:
        height = (1.0 - part) / (1.0 - DOWN_FROM)
    return low + round((most - low) * round(height * STEPS) / STEPS)


def asked_processes(shape: Shape, ops: Mapping[str, int] | None) -> dict[str, int]:
    """Operations ports by name of the processes that the shape is about. Raises SettingsError."""
    if shape not in (Shape.DRAIN, Shape.SOAK):
        return {}
    if not ops:
        raise SettingsError([f"--shape {shape} asks the operations ports of a Fleetwire that runs on this machine"])
    hubs = {name: port for name, port in ops.items() if name.startswith("hub-")}
    if shape is Shape.DRAIN and len(hubs) < 2:
        raise SettingsError(["--shape drain needs two hubs: the devices of the one go to the other"])
    return hubs if shape is Shape.DRAIN else dict(ops)
