"""Seats are neither lost nor given twice, and the newest connection is the one that is found."""

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.registry import Registry, Waiting


@dataclass(eq=False)
class One:
    device_id: str
    conn_term: int

    def on_event(self, epoch: int, seq: int, body: bytes) -> None: ...


def test_a_replacement_needs_no_seat_and_a_newcomer_does() -> None:
    registry: Registry[One] = Registry(1)
    assert registry.has_room("a")
    waiting = registry.begin("a")
    assert not registry.has_room("b")
    registry.add(One("a", 1))
    registry.leave(waiting)
    assert registry.has_room("a")
    assert not registry.has_room("b")
    assert not registry.begin("a").takes_seat


def test_an_older_connection_that_goes_leaves_the_newer_one_in_place() -> None:
    registry: Registry[One] = Registry(2)
    old, new = One("a", 1), One("a", 2)
    assert registry.add(old) is None
    assert registry.add(new) is old
    registry.remove(old)
    assert registry.get("a") is new
    registry.remove(new)
    assert registry.get("a") is None


def test_a_replacement_whose_old_connection_goes_takes_the_seat_that_is_left() -> None:
    registry: Registry[One] = Registry(1)
    old = One("a", 1)
    registry.add(old)
    waiting = registry.begin("a")
    registry.remove(old)
    assert not registry.has_room("b"), "a is on its way back"
    registry.add(One("a", 2))
    registry.leave(waiting)
    assert len(registry) == 1
    assert not registry.has_room("b")


def test_what_the_bus_says_during_a_handshake_is_remembered() -> None:
    registry: Registry[One] = Registry(2)
    waiting = registry.begin("a")
    for one in registry.waiting("a"):
        one.on_event(1, 9)
        one.on_event(1, 7)
        one.on_connection(3)
    assert (waiting.heard, waiting.conn_term) == ((1, 9), 3)
    registry.leave(waiting)
    assert list(registry.waiting("a")) == []


def test_events_go_straight_to_a_connection_only_while_no_handshake_of_its_device_is_to_be_told() -> None:
    registry: Registry[One] = Registry(2)
    old, new = One("a", 1), One("a", 2)
    registry.add(old)
    assert registry.takers == {b"a": old.on_event}
    first, second = registry.begin("a"), registry.begin("a")
    assert registry.takers == {}
    registry.leave(first)
    assert registry.takers == {}
    registry.add(new)
    registry.remove(old)
    registry.leave(second)
    assert registry.takers == {b"a": new.on_event}
    registry.remove(new)
    assert registry.takers == {}


class Seats(RuleBasedStateMachine):
    """Handshakes begin, end and are welcomed in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.registry: Registry[One] = Registry(3)
        self.handshakes: list[Waiting] = []
        self.here: list[One] = []

    @rule(device=st.sampled_from("abcde"))
    def begin(self, device: str) -> None:
        if self.registry.has_room(device) and not self.registry.is_crowded(device):
            self.handshakes.append(self.registry.begin(device))

    @precondition(lambda self: self.handshakes)
    @rule(number=st.integers(0, 20), welcome=st.booleans())
    def end(self, number: int, welcome: bool) -> None:
        waiting = self.handshakes.pop(number % len(self.handshakes))
        if welcome:
            one = One(waiting.device_id, len(self.here))
            self.registry.add(one)
            self.here.append(one)
        self.registry.leave(waiting)

    @precondition(lambda self: self.here)
    @rule(number=st.integers(0, 20))
    def go(self, number: int) -> None:
        self.registry.remove(self.here.pop(number % len(self.here)))

    @invariant()
    def seats_add_up(self) -> None:
        waiting_devices = {one.device_id for one in self.handshakes}
        assert self.registry._seats == sum(one.takes_seat for one in self.handshakes)
        assert 0 <= self.registry._seats <= len(waiting_devices)

    @invariant()
    def events_go_to_the_newest_connection_if_it_alone_is_to_be_told(self) -> None:
        registry = self.registry
        assert registry.takers == {
            device.encode(): one.on_event
            for device, one in registry.by_device.items()
            if device not in registry.handshakes
        }


Seats.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSeats = Seats.TestCase
