"""Looking for the highest rate that is held: which rate to try next. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Try", "best", "next_rate"]

CLOSE_ENOUGH: Final = 1.1  # the lowest rate that failed is at most so many times the highest that was held
TRIES_MAX: Final = 14


class Try(NamedTuple):
    """A rate that was tried, and whether it was held."""

    rate: int
    held: bool


def next_rate(tries: Sequence[Try], *, first: int, highest: int) -> int | None:
    """Double until it fails, then halve the distance; None when it is known well enough."""
    if not tries:
        return first
    if len(tries) >= TRIES_MAX:
        return None
    held = best(tries)
    failed = min((one.rate for one in tries if not one.held), default=None)
    if failed is None:
        return min(held * 2, highest) if held < highest else None
    if held == 0:
        return failed // 2 if failed > 100 else None
    if failed <= held * CLOSE_ENOUGH:
        return None
    return (held + failed) // 2


def best(tries: Sequence[Try]) -> int:
    """The highest rate held below all that failed, 0 when there is none.

    A rate held above one that failed was luck.
    """
    failed = min((one.rate for one in tries if not one.held), default=None)
    return max((one.rate for one in tries if one.held and (failed is None or one.rate < failed)), default=0)
