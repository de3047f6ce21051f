"""What is done next, in a model of servers that do as they are told."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.redis_keeper.plan import (
    Follow,
    Forget,
    Give,
    Known,
    Meet,
    Move,
    Server,
    Step,
    TakeOver,
    plan,
    ranges,
)

KEY_SLOTS = 512  # fewer than there are, so that sets of them are small


@pytest.fixture(autouse=True, scope="module")
def _few_key_slots() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.redis_keeper.plan.KEY_SLOTS", KEY_SLOTS)
        yield


@dataclass
class Pod:
    """One server of the model, and what it thinks of all."""

    address: str
    place: str
    id: str
    alive: bool = True
    knows: set[str] = field(default_factory=set)


class World:
    """Servers whose gossip is over at once."""

    def __init__(self, count: int, places: int = 3) -> None:
        self.pods: list[Pod] = []
        self.slots: dict[str, set[int]] = {}
        self.master: dict[str, str | None] = {}
        self.failed: set[str] = set()
        self._born = 0
        for _ in range(count):
            self.add(places)

    def add(self, places: int = 3) -> None:
        number = len(self.pods)
        self.pods.append(Pod(f"10.0.0.{number}:6379", f"node-{number % places}", ""))
        self.restart_empty(number)

    def restart_empty(self, number: int) -> None:
        """Back with nothing: a server under another id."""
        pod = self.pods[number]
        if pod.id:
            self.failed.add(pod.id)
        self._born += 1
        pod.id = f"id-{self._born}"
        pod.alive, pod.knows = True, {pod.id}
        self.slots[pod.id], self.master[pod.id] = set(), None

    def die(self, number: int) -> None:
        self.pods[number].alive = False
        self.failed.add(self.pods[number].id)

    def elect(self) -> None:
        """What the servers do themselves: a replica of a failed master gets its slots, if most masters live."""
        owners = [one for one, slots in self.slots.items() if slots]
        if sum(one not in self.failed for one in owners) * 2 <= len(owners):
            return
        for one in owners:
            if one in self.failed:
                self._replace(one)

    def _replace(self, old: str) -> None:
        new = next((pod.id for pod in self.pods if pod.alive and self.master[pod.id] == old), None)
        if new is not None:
            self.slots[new], self.slots[old], self.master[new] = self.slots[old], set(), None
            for pod in self.pods:
                if pod.alive and self.master[pod.id] == old:
                    self.master[pod.id] = new

    def view(self) -> list[Server]:
        def known(one: str) -> Known:
            return Known(one, one in self.failed, self.master[one], frozenset(self.slots[one]))

        return [
            Server(pod.address, pod.id, pod.place, tuple(known(one) for one in sorted(pod.knows)))
            for pod in self.pods
            if pod.alive
        ]

    def take(self, step: Step) -> None:
        at = {pod.address: pod for pod in self.pods}
        match step:
            case Meet(one, other):
                together = at[one].knows | at[other].knows
                for pod in self.pods:
                    if pod.id in together and pod.alive:
                        pod.knows = set(together)
            case Forget(one, gone):
                at[one].knows.discard(gone)
                if all(gone not in pod.knows for pod in self.pods if pod.alive):
                    self.slots[gone] = set()
            case Give(one, slots):
                self.slots[at[one].id] |= slots
            case Follow(one, master):
                assert not self.slots[at[one].id], "would lose what it has"
                self.master[at[one].id] = master
            case Move(slots, source, target):
                assert slots <= self.slots[at[source].id]
                self.slots[at[source].id] -= slots
                self.slots[at[target].id] |= slots
            case TakeOver(one):
                self._replace(str(self.master[at[one].id]))

    def settle(self, *, stuck: bool = False, least: int = 9, rounds: int = 200) -> int:
        """Let the keeper work; how many looks it took."""
        for n in range(rounds):
            waiting = frozenset(self.failed) if stuck else frozenset()
            steps = plan(self.view(), expected=len(self.pods), least=least, stuck=waiting)
            if not steps:
                return n
            for step in steps:
                self.take(step)
        raise AssertionError("it never ends")

    def shape(self) -> list[tuple[int, int]]:
        """For each master how many slots and how many living replicas it has."""
        return sorted(
            (len(slots), sum(pod.alive and self.master[pod.id] == one for pod in self.pods))
            for one, slots in self.slots.items()
            if slots
        )


def test_nine_servers_become_three_masters_with_two_replicas_each_on_other_nodes() -> None:
    world = World(9)
    world.settle()
    assert [replicas for _, replicas in world.shape()] == [2, 2, 2]
    assert sum(slots for slots, _ in world.shape()) == KEY_SLOTS
    for pod in world.pods:
        if world.slots[pod.id]:
            places = {other.place for other in world.pods if world.master[other.id] == pod.id} | {pod.place}
            assert len(places) == 3


def test_nothing_is_made_while_one_is_missing_that_may_have_everything() -> None:
    world = World(9)
    world.pods[3].alive = False
    for step in plan(world.view(), expected=9, least=9):
        assert isinstance(step, Meet)
        world.take(step)
    assert plan(world.view(), expected=9, least=9) == []
    # Fewer addresses than there must be are a set that is still coming up.
    small = World(6)
    for step in plan(small.view(), expected=6, least=9):
        small.take(step)
    assert plan(small.view(), expected=6, least=9) == []


def test_a_server_that_comes_back_with_nothing_replaces_itself() -> None:
    for number in range(9):
        world = World(9)
        world.settle()
        world.die(number)
        world.elect()
        assert plan(world.view(), expected=9, least=9) == []
        world.restart_empty(number)
        world.settle()
        assert [replicas for _, replicas in world.shape()] == [2, 2, 2]
        assert not any(world.failed & pod.knows for pod in world.pods), "the old one is forgotten by all"


def test_replicas_of_a_master_that_was_lost_are_left_to_be_elected() -> None:
    world = World(9)
    world.settle()
    number = next(n for n, pod in enumerate(world.pods) if world.slots[pod.id])
    old = world.pods[number].id
    world.restart_empty(number)
    heirs = {pod.address for pod in world.pods if world.master[pod.id] == old}
    for _ in range(5):
        for step in plan(world.view(), expected=9, least=9):
            assert not (isinstance(step, Follow) and step.at in heirs)
            world.take(step)
    world.elect()
    world.settle()
    assert [replicas for _, replicas in world.shape()] == [2, 2, 2]


def test_when_most_masters_are_gone_replicas_take_over_and_only_after_a_while() -> None:
    world = World(9)
    world.settle()
    masters = [n for n, pod in enumerate(world.pods) if world.slots[pod.id]]
    for number in masters[:2]:
        world.die(number)
    world.elect()
    assert len([one for one in world.slots.values() if one]) == 3
    assert not any(isinstance(step, TakeOver) for step in plan(world.view(), expected=9, least=9))
    world.settle(stuck=True)
    assert sum(len(world.slots[pod.id]) for pod in world.pods if pod.alive) == KEY_SLOTS


def test_a_shard_that_was_lost_whole_is_given_to_those_that_are_left() -> None:
    world = World(9)
    world.settle()
    master = next(pod for pod in world.pods if world.slots[pod.id])
    shard = [n for n, pod in enumerate(world.pods) if pod is master or world.master[pod.id] == master.id]
    for number in shard:
        world.die(number)
    world.elect()
    for number in shard:
        world.restart_empty(number)
    world.settle()
    assert sum(slots for slots, _ in world.shape()) == KEY_SLOTS
    assert [replicas for _, replicas in world.shape()] == [2, 2, 2]


def test_a_shard_that_is_added_gets_its_share_and_its_replicas() -> None:
    world = World(9)
    world.settle()
    for _ in range(3):
        world.add()
    world.settle()
    shape = world.shape()
    assert [replicas for _, replicas in shape] == [2, 2, 2, 2]
    assert shape[-1][0] - shape[0][0] <= KEY_SLOTS // 100
    # Fewer addresses do not make it smaller.
    assert plan(world.view(), expected=9, least=9) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["die", "back", "empty", "elect", "look"]), st.integers(0, 8)), max_size=30))
def test_whatever_happens_no_step_takes_what_somebody_has_and_it_ends_whole(happenings: list[tuple[str, int]]) -> None:
    world = World(9)
    world.settle()
    for what, number in happenings:
        pod = world.pods[number]
        if what == "die":
            world.die(number)
        elif what == "back" and not pod.alive:
            pod.alive = True
            world.failed.discard(pod.id)
        elif what == "empty" and not pod.alive:
            world.restart_empty(number)
        elif what == "elect":
            world.elect()
        else:
            for step in plan(world.view(), expected=9, least=9):
                world.take(step)
    for number, pod in enumerate(world.pods):
        if not pod.alive:
            world.restart_empty(number)
    world.elect()
    world.settle(stuck=True)
    world.elect()
    world.settle(stuck=True)
    assert sum(len(slots) for one, slots in world.slots.items() if one not in world.failed) == KEY_SLOTS


@given(st.sets(st.integers(0, 60)))
def test_ranges_say_the_same_numbers(numbers: set[int]) -> None:
    assert {n for first, last in ranges(numbers) for n in range(first, last + 1)} == numbers
