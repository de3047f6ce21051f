"""What a Locust run looks like over its time: how many devices there are, and what is done to them.

| shape | devices | what happens |
|---|---|---|
| steady | all, from the beginning | nothing |
| ramp | a tenth, up to all, down to a tenth | they come and go |
| storm | all | halfway every link is cut in the same instant |
| drain | all | after a third of the time one hub is drained, and starts again |
| soak | all | one link in a hundred is cut every few seconds; memory, descriptors and tasks must stay flat |
"""
# mypy: allow-untyped-calls
# Locust has no types.

from enum import StrEnum
from typing import Final

from locust import LoadTestShape

__all__ = ["FleetShape", "Shape", "users_at"]

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


class FleetShape(LoadTestShape):  # type: ignore[misc]
    """A shape over `seconds`, for Locust, which asks once a second."""

    abstract = True  # chosen by our option and not by being the one class in the file
    use_common_options = True

    def __init__(self, shape: Shape, *, most: int, spawn_rate: float, seconds: float) -> None:
        super().__init__()
        self._shape = shape
        self._most = most
        self._spawn_rate = spawn_rate
        self._seconds = seconds

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be now and how fast they come; None at the end."""
        part = self.get_run_time() / self._seconds
        if part >= 1:
            return None
        return users_at(self._shape, self._most, part), self._spawn_rate
