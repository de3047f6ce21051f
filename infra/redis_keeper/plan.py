"""What to do next so that servers are one whole cluster. Pure: a view in, steps out, the same ones until they are done.

Nothing here fails over: the servers do that themselves within seconds, as long as most masters live. The keeper meets
servers that came with another address, forgets those that will not come back, gives a new one a master to follow (on
another node than that master, if there is one), moves key slots to a shard that was added, and, when a majority of
masters is gone so that nobody can be elected, tells a replica to take over. What is in Redis is hints: a wrong takeover
costs lateness, never an event. A cluster never gets smaller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeAlias

__all__ = ["Follow", "Forget", "Give", "Known", "Meet", "Move", "Server", "Step", "TakeOver", "plan", "ranges"]

KEY_SLOTS: Final = 16_384
SHARD: Final = 3  # a master and two replicas
MOVE_MAX: Final = 256  # key slots in one step, so that a step is over soon


@dataclass(frozen=True, slots=True)
class Known:
    """What one server says of another, or of itself."""

    id: str
    failed: bool
    master_id: str | None
    slots: frozenset[int]


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. `place` is the node it runs on, `offset` how far a replica has read."""

    address: str
    id: str
    place: str
    table: tuple[Known, ...]
    offset: int = 0

    @property
    def own(self) -> Known:
        """What it says of itself."""
        return next(one for one in self.table if one.id == self.id)

    @property
    def knows(self) -> frozenset[str]:
        """The ids of all that it knows."""
        return frozenset(one.id for one in self.table)


@dataclass(frozen=True, slots=True)
class Meet:
    """`at` gets to know the server at an address."""

    at: str
    address: str


@dataclass(frozen=True, slots=True)
class Forget:
    """`at` forgets a server that is gone."""

    at: str
    id: str


@dataclass(frozen=True, slots=True)
class Give:
    """`at` takes key slots that nobody has."""

    at: str
    slots: frozenset[int]


@dataclass(frozen=True, slots=True)
class Follow:
    """`at` becomes a replica."""

    at: str
    master_id: str


@dataclass(frozen=True, slots=True)
class Move:
    """Key slots, with what is in them, go from one master to another."""

    slots: frozenset[int]
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A replica takes its master's place without asking the others."""

    at: str


Step: TypeAlias = Meet | Forget | Give | Follow | Move | TakeOver


def plan(servers: Sequence[Server], *, expected: int, least: int, stuck: frozenset[str] = frozenset()) -> list[Step]:
    """The steps that can be taken now, none when all is as it should be or must be waited for.

    `expected` is how many servers there are by name, `least` how many there must be before a cluster is made of them,
    `stuck` the ids of masters that have been failed for longer than an election takes.
    """
    if not servers:
        return []
    living = {server.id: server for server in servers}
    seed = max(servers, key=lambda one: (sum(len(known.slots) for known in one.table), len(one.knows), one.address))
    # Who lives says best what it has itself; the others may not have heard of it yet.
    table = {known.id: known for known in seed.table} | {server.id: server.own for server in servers}
    complete = len(servers) == expected >= least
    stages = (
        _meet(seed, servers),
        _take_over(table, living, stuck),
        _forget(table, living, servers) if complete else [],
    )
    for steps in stages:
        if steps:
            return steps
    if any(not living.keys() <= server.knows for server in servers):
        return []  # they are still telling each other
    return _share_slots(table, living, complete=complete, expected=expected) or _follow(table, living)


def _meet(seed: Server, servers: Sequence[Server]) -> list[Step]:
    return [Meet(seed.address, server.address) for server in servers if server.id not in seed.knows]


def _take_over(table: dict[str, Known], living: dict[str, Server], stuck: frozenset[str]) -> list[Step]:
    steps: list[Step] = []
    for known in table.values():
        if known.id in stuck and known.failed and known.slots and known.id not in living:
            replicas = [server for server in living.values() if server.own.master_id == known.id]
            if replicas:
                steps.append(TakeOver(max(replicas, key=lambda one: (one.offset, one.address)).address))
    return steps


def _forget(table: dict[str, Known], living: dict[str, Server], servers: Sequence[Server]) -> list[Step]:
    """Only when every server that should be there is: then whoever has failed came back as somebody else."""
    followed = {server.own.master_id for server in servers}
    gone = [
        known.id for known in table.values() if known.failed and known.id not in living and known.id not in followed
    ]
    return [Forget(server.address, one) for one in gone for server in servers if one in server.knows]


def _share_slots(table: dict[str, Known], living: dict[str, Server], *, complete: bool, expected: int) -> list[Step]:
    owners = [server for server in living.values() if table[server.id].slots]
    owned = frozenset(slot for known in table.values() for slot in known.slots)
    free = frozenset(range(KEY_SLOTS)) - owned
    spare = [server for server in living.values() if table[server.id].master_id is None and not table[server.id].slots]
    if not owned:
        if not complete:
            return []  # whoever is missing may have all of them
        masters = _spread(spare, expected // SHARD)
        share = -(-KEY_SLOTS // len(masters))
        return [
            Give(master.address, frozenset(range(n * share, min((n + 1) * share, KEY_SLOTS))))
            for n, master in enumerate(masters)
        ]
    if free:
        takers = owners or spare
        return (
            [Give(min(takers, key=lambda one: (len(table[one.id].slots), one.address)).address, free)] if takers else []
        )
    if not complete or any(known.failed for known in table.values()):
        return []
    missing = expected // SHARD - len(owners)
    targets = owners + (_spread(spare, missing) if missing > 0 else [])
    return _move(table, targets)


def _move(table: dict[str, Known], targets: Sequence[Server]) -> list[Step]:
    """From the fullest to the emptiest, until they differ by less than a hundredth of all."""
    by_size = sorted(targets, key=lambda one: (len(table[one.id].slots), one.address))
    emptiest, fullest = by_size[0], by_size[-1]
    few, many = len(table[emptiest.id].slots), len(table[fullest.id].slots)
    if many - few <= KEY_SLOTS // 100:
        return []
    count = min(MOVE_MAX, (many - few) // 2)
    slots = frozenset(sorted(table[fullest.id].slots)[-count:])
    return [Move(slots, fullest.address, emptiest.address)]


def _follow(table: dict[str, Known], living: dict[str, Server]) -> list[Step]:
    """Where none of the same shard is on its node, as long as that shard has not got its share of replicas."""
    masters = [server for server in living.values() if table[server.id].slots]
    replicas = {master.id: [one for one in living.values() if one.own.master_id == master.id] for master in masters}
    owners = {known.id for known in table.values() if known.slots}
    if not owners <= living.keys():
        return []  # its replicas are about to elect another, who then has one fewer
    idle = [one for one in living.values() if one.id not in owners and one.own.master_id not in owners]
    share = -(-(len(living) - len(masters)) // len(masters)) if masters else 0
    steps: list[Step] = []
    for server in sorted(idle, key=lambda one: (one.place, one.address)):

        def fit(master: Server, server: Server = server) -> tuple[bool, int, int, str]:
            beside = [master, *replicas[master.id]]
            count = len(replicas[master.id])
            return count >= share, sum(one.place == server.place for one in beside), count, master.address

        if masters:
            chosen = min(masters, key=fit)
            replicas[chosen.id].append(server)
            steps.append(Follow(server.address, chosen.id))
    return steps


def _spread(servers: Iterable[Server], count: int) -> list[Server]:
    """So many of them, on as many places as there are."""
    left = sorted(servers, key=lambda one: (one.place, one.address))
    chosen: list[Server] = []
    while left and len(chosen) < count:
        used = [one.place for one in chosen]
        best = min(left, key=lambda one: (used.count(one.place), one.place, one.address))
        left.remove(best)
        chosen.append(best)
    return chosen


def ranges(slots: Iterable[int]) -> list[tuple[int, int]]:
    """Runs of numbers, each by its first and last."""
    runs = []
    for _, run in groupby(enumerate(sorted(slots)), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        runs.append((numbers[0], numbers[-1]))
    return runs
