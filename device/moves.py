"""Where a hub has asked this device to go, and when: the newest wish counts, and none is followed in a circle. Pure.

A wish is the wish of one socket: when that is gone or another one is live, it is over, and whoever comes back asks the
API. Two hubs that send a device to and fro are obeyed at a bounded pace. A place that does not answer yet, such as a
hub that is just starting, is tried a few times more while the old socket lives.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Move", "Moves"]


_TRIES_MAX: Final = 4  # with the pauses between them about as long as a hub waits for its wish


class Move(NamedTuple):
    """Open a second socket there; `link` is the socket that asked."""

    link: int
    url: str
    due: float
    tries: int = 0


@dataclass(slots=True)
class Moves:
    """`pace_s`: how long after one move the next one may follow; `after_max_s`: a longer delay is cut to this."""

    pace_s: float
    after_max_s: float
    _planned: Move | None = None
    _not_before: float = float("-inf")

    def plan(self, link: int, url: str, after_s: float, now: float) -> None:
        """A hub asks. It takes the place of what was planned."""
        due = now + min(max(0.0, after_s), self.after_max_s)
        self._planned = Move(link, url, max(due, self._not_before))

    @property
    def due(self) -> float | None:
        """When to go, if there is a plan."""
        return None if self._planned is None else self._planned.due

    def take(self, newest: int | None, now: float) -> Move | None:
        """The move to make now; None when the socket that asked is not the newest live one any more."""
        move, self._planned = self._planned, None
        if move is None or move.link != newest:
            return None
        self._not_before = now + self.pace_s
        return move._replace(tries=move.tries + 1)

    def failed(self, move: Move, now: float, wait_s: float) -> None:
        """It came to nothing. Tried again after `wait_s` and longer each time, unless it was tried often or another
        wish has come meanwhile."""
        if self._planned is None and move.tries < _TRIES_MAX:
            self._planned = move._replace(due=now + wait_s * 2.0 ** (move.tries - 1))
