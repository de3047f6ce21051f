"""Which hubs there are, when that may be acted on, and which devices then belong elsewhere.

Pure. Ownership is rendezvous hashing over the view, so a hub that joins only takes slots and one that leaves only
gives its own away: what moves is exactly what changed owner. A view counts once it has stood unchanged for two
periods, and is judged against the last one that was acted on (`base`), so that several changes in a row make one move
and not three. An owner is a run, not a name: a hub that was restarted gets back the devices that left when it did.

Example: base {a, b}, view {a, b, c}. Of what `a` holds, the devices of slots that c won move to c and no other; the
view is the base from then on. If c goes while they move, the rest is dropped and nothing was planned in vain.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeVar

from shared.hash_slots import owner, owners

__all__ = [
    "Neighbour",
    "Rebalance",
    "Settling",
    "Verdict",
    "View",
    "away",
    "may_rehome",
    "next_best",
    "too_many_vanished",
]

REHOME_AGAIN_S: Final = 600.0
PERIODS: Final = 2.0

D = TypeVar("D", bound=Hashable)


class Neighbour(NamedTuple):
    """A hub as the others see it. `room` is for how many more devices; `accepts` says whether any may be sent there."""

    name: str
    instance: str
    url: str
    room: int
    draining: bool = False
    leaving: bool = False

    @property
    def accepts(self) -> bool:
        """Nobody is sent to a hub that refuses devices or is full."""
        return not self.draining and not self.leaving and self.room > 0


class View:
    """The hubs among which slots are shared out, by name with their run."""

    __slots__ = ("_owners", "runs")

    def __init__(self, runs: Mapping[str, str]) -> None:
        self.runs = dict(runs)
        self._owners: dict[int, str] = {}

    @classmethod
    def of(cls, neighbours: Iterable[Neighbour]) -> "View":
        """Those that stay. One that refuses devices for a while keeps its slots, so that its devices do not churn."""
        return cls({one.name: one.instance for one in neighbours if not one.leaving})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self.runs == other.runs

    def __hash__(self) -> int:
        return hash(frozenset(self.runs.items()))

    def __repr__(self) -> str:
        return f"View({', '.join(sorted(self.runs)) or 'nobody'})"

    @property
    def names(self) -> list[str]:
        """In order."""
        return sorted(self.runs)

    def owner(self, slot: int) -> str | None:
        """Whose slot it is."""
        found = self._owners.get(slot)
        if found is None:
            found = owner(slot, self.runs)
            if found is not None:
                self._owners[slot] = found
        return found

    def owner_run(self, slot: int) -> tuple[str | None, str | None]:
        """The same with its run: a hub that was restarted is another owner."""
        name = self.owner(slot)
        return name, self.runs.get(name) if name is not None else None

    def changed(self, *, without: Iterable[str] = (), plus: Iterable[str] = ()) -> "View":
        """What it would be."""
        gone = set(without)
        return View({name: run for name, run in self.runs.items() if name not in gone} | dict.fromkeys(plus, "new"))


class Settling:
    """Says when a view has stood unchanged for two periods. Observed once a period or more often."""

    def __init__(self, view: View, *, period_s: float) -> None:
        self._period_s = period_s
        self._since = 0.0
        self._seen_at = float("-inf")
        self.view = view
        self.is_settled = False

    def __repr__(self) -> str:
        return f"Settling({self.view!r}, {'settled' if self.is_settled else 'not settled'})"

    def observe(self, view: View, now: float) -> None:
        """What the hubs table says now."""
        blind = now - self._seen_at > PERIODS * self._period_s
        self._seen_at = now
        if view != self.view:
            self.view, self._since = view, now
        elif blind:
            # Nobody looked for a while: it may have been another one meanwhile.
            self._since = now
        self.is_settled = now - self._since >= PERIODS * self._period_s


class Verdict(Enum):
    """What the newest view asks for."""

    WAIT = "wait"
    DROP = "drop"  # what was being moved is out of date
    PLAN = "plan"
    REST = "rest"  # every device that a change of membership moved is where it belongs


class Rebalance:
    """The view that was last acted on (`base`), and the one being moved for (`goal`).

    The base is at first this hub alone: so one that was started anew sends on what came to it while others were away.
    """

    def __init__(self, base: View) -> None:
        self.base = base
        self.goal: View | None = None
        self.is_held = False

    def __repr__(self) -> str:
        return f"Rebalance(base {self.base!r}, goal {self.goal!r}{', held' if self.is_held else ''})"

    def judge(self, settling: Settling) -> Verdict:
        """After every look at the hubs. PLAN makes the view the goal, until `finished`."""
        view = settling.view
        if self.goal is not None:
            if view == self.goal:
                return Verdict.WAIT
            self.goal = None
            return Verdict.DROP
        if not settling.is_settled:
            return Verdict.WAIT
        self.is_held = view != self.base and too_many_vanished(self.base, view)
        if self.is_held:
            return Verdict.WAIT
        if view == self.base:
            return Verdict.REST
        self.goal = view
        return Verdict.PLAN

    def finished(self) -> None:
        """Whoever had to go was told, or an operator said that it is enough."""
        if self.goal is not None:
            self.base, self.goal = self.goal, None


def too_many_vanished(before: View, after: View) -> bool:
    """More than half gone at once is a fault of something shared, or of this hub's own eyes: nobody moves for that."""
    return 2 * len(before.runs.keys() - after.runs.keys()) > len(before.runs)


def away(devices: Iterable[tuple[D, int]], me: str, before: View, after: View) -> list[D]:
    """Of these devices with their slots: those whose owner changed, and is not this hub."""
    changed: dict[int, bool] = {}
    found = []
    for device, slot in devices:
        if slot not in changed:
            changed[slot] = after.owner(slot) != me and before.owner_run(slot) != after.owner_run(slot)
        if changed[slot]:
            found.append(device)
    return found


def may_rehome(*, named: bool, since_rehomed_s: float | None) -> bool:
    """Whether a device that came to a hub not its own may be sent on: once in ten minutes, and never one that was sent
    here by name.
    """
    return not named and (since_rehomed_s is None or since_rehomed_s > REHOME_AGAIN_S)


def next_best(slot: int, neighbours: Mapping[str, Neighbour], *, me: str) -> Neighbour | None:
    """Where a device goes whose hub leaves: the best hub for its slot that takes devices, or None."""
    names: Sequence[str] = owners(slot, (name for name, one in neighbours.items() if name != me and one.accepts))
    return neighbours[names[0]] if names else None
