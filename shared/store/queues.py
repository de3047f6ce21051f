"""How the queues stand, for people: what waits and runs in each, and how fast jobs come and end.

Both reads are bounded whatever the queues hold, so that somebody may look every second while they are long. Rates come
from the history that is written anyway, newest rows first; nothing counts for the sake of being shown.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from shared.store.pool import Pool
from shared.store.queries import statements

__all__ = ["CHANGES_MAX", "COUNTED_MAX", "WINDOW_S", "QueueState", "states"]

_SQL = statements("queues")

COUNTED_MAX: Final = 20_000
"""Most jobs of a queue that are counted: of those that wait, that wait for their time, that run."""
CHANGES_MAX: Final = 5000
WINDOW_S: Final = 10.0


@dataclass(slots=True)
class QueueState:
    """One queue. `per_s` has how many jobs a second came into each state lately."""

    queue: str
    waiting: int = 0
    delayed: int = 0
    running: int = 0
    oldest_s: float = 0.0
    per_s: dict[str, float] = field(default_factory=dict)


async def states(pool: Pool) -> list[QueueState]:
    """Every queue that holds something or had something lately, by name."""
    found: dict[str, QueueState] = {}
    for row in await pool.fetch(_SQL["state"], COUNTED_MAX):
        found[row["queue"]] = QueueState(*row)
    rates: dict[str, dict[str, float]] = defaultdict(dict)
    for row in await pool.fetch(_SQL["changes"], CHANGES_MAX, WINDOW_S):
        rates[row["queue"]][row["status"]] = round(row["changes"] / max(row["span_s"], 0.001), 1)
    for queue, per_s in rates.items():
        found.setdefault(queue, QueueState(queue)).per_s = per_s
    return [found[queue] for queue in sorted(found)]
