"""Desired and confirmed subscriptions, without a server: a model of Redis answers, late or never."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shared.bus.subscriptions import SUBSCRIBE, UNSUBSCRIBE, Command, Held, Subscriptions

A, B = b"fw:{s1}", b"fw:{s2}"


def connected(**options: float) -> Subscriptions:
    subscriptions = Subscriptions(**options)
    subscriptions.on_connected(0.0)
    return subscriptions


def test_one_question_is_asked_however_many_holders_there_are() -> None:
    subscriptions = connected()
    for _ in range(3):
        subscriptions.acquire(A, 0.0)
    assert subscriptions.take_commands() == [Command(SUBSCRIBE, A)]
    assert subscriptions.on_subscribed(A)
    assert subscriptions.is_confirmed(A)
    assert not subscriptions.take_gaps()


def test_what_is_acquired_before_there_is_a_connection_is_asked_for_on_it() -> None:
    subscriptions = Subscriptions()
    subscriptions.acquire(A, 0.0)
    assert subscriptions.take_commands() == []
    subscriptions.on_connected(1.0)
    assert subscriptions.take_commands() == [Command(SUBSCRIBE, A)]


def test_a_lost_connection_is_owed_a_gap_at_the_confirmation_and_not_before() -> None:
    subscriptions = connected()
    subscriptions.acquire(A, 0.0)
    subscriptions.on_subscribed(A)
    subscriptions.on_disconnected()
    assert not subscriptions.is_confirmed(A)
    assert not subscriptions.take_gaps()
    subscriptions.on_connected(2.0)
    assert not subscriptions.take_gaps()
    subscriptions.on_subscribed(A)
    assert subscriptions.take_gaps() == {A}
    assert not subscriptions.take_gaps()


def test_an_unasked_sunsubscribe_is_a_gap_and_asks_again() -> None:
    subscriptions = connected()
    subscriptions.acquire(A, 0.0)
    subscriptions.on_subscribed(A)
    subscriptions.take_commands()
    assert subscriptions.on_unsubscribed(A, 1.0)
    assert not subscriptions.is_confirmed(A)
    assert subscriptions.take_commands() == [Command(SUBSCRIBE, A)]
    subscriptions.on_subscribed(A)
    assert subscriptions.take_gaps() == {A}


def test_a_slot_lingers_and_is_then_let_go() -> None:
    subscriptions = connected(linger_s=30.0)
    subscriptions.acquire(A, 0.0)
    subscriptions.on_subscribed(A)
    subscriptions.take_commands()
    subscriptions.release(A, 10.0)
    subscriptions.on_tick(39.9)
    assert subscriptions.take_commands() == []
    subscriptions.on_tick(40.0)
    assert subscriptions.take_commands() == [Command(UNSUBSCRIBE, A)]
    assert not subscriptions.is_confirmed(A)
    subscriptions.on_tick(80.0)
    assert subscriptions.take_commands() == []


def test_a_device_that_returns_while_its_slot_is_being_let_go_is_not_confirmed_by_the_old_answer() -> None:
    subscriptions = connected(linger_s=1.0)
    subscriptions.acquire(A, 0.0)
    subscriptions.on_subscribed(A)
    subscriptions.release(A, 0.0)
    subscriptions.on_tick(1.0)
    subscriptions.acquire(A, 1.1)
    assert subscriptions.take_commands() == [Command(SUBSCRIBE, A), Command(UNSUBSCRIBE, A), Command(SUBSCRIBE, A)]
    assert not subscriptions.on_unsubscribed(A, 1.2)
    assert not subscriptions.is_confirmed(A)
    assert subscriptions.on_subscribed(A)
    assert subscriptions.is_confirmed(A)


def test_the_answer_to_a_question_that_was_overtaken_confirms_nothing() -> None:
    subscriptions = connected(linger_s=1.0)
    subscriptions.acquire(A, 0.0)
    subscriptions.release(A, 0.0)
    subscriptions.on_tick(1.0)
    assert subscriptions.take_commands() == [Command(SUBSCRIBE, A), Command(UNSUBSCRIBE, A)]
    assert not subscriptions.on_subscribed(A)
    assert not subscriptions.is_confirmed(A), "it is about to end"


def test_a_slot_that_only_lingers_is_not_followed_when_it_moves() -> None:
    subscriptions = connected()
    subscriptions.acquire(A, 0.0)
    subscriptions.on_subscribed(A)
    subscriptions.release(A, 0.0)
    subscriptions.take_commands()
    assert not subscriptions.on_unsubscribed(A, 1.0)
    assert subscriptions.take_commands() == []
    assert "0 wanted" in repr(subscriptions)


def test_an_error_is_about_the_oldest_question_and_is_asked_again_later() -> None:
    subscriptions = connected(retry_s=1.0)
    subscriptions.acquire(A, 0.0)
    subscriptions.acquire(B, 0.0)
    subscriptions.take_commands()
    assert subscriptions.on_refused(0.1) == Command(SUBSCRIBE, A)
    assert subscriptions.on_subscribed(B)
    subscriptions.on_tick(1.0)
    assert subscriptions.take_commands() == []
    subscriptions.on_tick(1.1)
    assert subscriptions.take_commands() == [Command(SUBSCRIBE, A)]


def test_who_gave_up_waiting_is_owed_a_gap() -> None:
    subscriptions = connected()
    subscriptions.acquire(A, 0.0)
    subscriptions.owe(A)
    subscriptions.on_subscribed(A)
    assert subscriptions.take_gaps() == {A}


class AgainstARedis(RuleBasedStateMachine):
    """Any order of devices, answers, migrations and cuts: never confirmed without Redis, never left out for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.subject = Subscriptions(linger_s=5.0, retry_s=1.0)
        self.connected = False
        self.subscribed: set[bytes] = set()  # what the model of Redis has
        self.to_redis: deque[Command] = deque()
        self.to_us: deque[tuple[bytes, bytes]] = deque()
        self.holders = {A: 0, B: 0}
        self.live: set[bytes] = set()  # held and told to be live, by confirmation or gap

    def settle(self) -> None:
        self.to_redis.extend(self.subject.take_commands())
        self.live |= set(self.subject.take_gaps())

    @rule(channel=st.sampled_from([A, B]))
    def a_device_comes(self, channel: bytes) -> None:
        self.subject.acquire(channel, self.now)
        self.holders[channel] += 1
        self.settle()

    @precondition(lambda self: any(self.holders.values()))
    @rule(data=st.data())
    def a_device_goes(self, data: st.DataObject) -> None:
        channel = data.draw(st.sampled_from([c for c, count in self.holders.items() if count]))
        self.subject.release(channel, self.now)
        self.holders[channel] -= 1
        self.settle()

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.subject.on_tick(self.now)
        self.settle()

    @precondition(lambda self: not self.connected)
    @rule()
    def connects(self) -> None:
        self.connected = True
        self.subject.on_connected(self.now)
        self.settle()

    @precondition(lambda self: self.connected)
    @rule()
    def is_cut(self) -> None:
        self.connected = False
        for queue in (self.to_redis, self.to_us, self.subscribed):
            queue.clear()
        self.subject.on_disconnected()
        self.settle()

    @precondition(lambda self: self.to_redis)
    @rule(refuse=st.booleans())
    def redis_reads_one_command(self, refuse: bool) -> None:
        verb, channel = self.to_redis.popleft()
        if verb == UNSUBSCRIBE:
            self.subscribed.discard(channel)
            self.to_us.append((UNSUBSCRIBE, channel))
        elif refuse:
            self.to_us.append((b"error", channel))
        else:
            self.subscribed.add(channel)
            self.to_us.append((SUBSCRIBE, channel))

    @precondition(lambda self: self.subscribed)
    @rule(data=st.data())
    def a_slot_moves_away(self, data: st.DataObject) -> None:
        channel = data.draw(st.sampled_from(sorted(self.subscribed)))
        self.subscribed.discard(channel)
        self.to_us.append((UNSUBSCRIBE, channel))

    @rule(channel=st.sampled_from([A, B]))
    def the_map_says_elsewhere_and_here_again(self, channel: bytes) -> None:
        held = self.subject.take_out(channel, self.now)
        assert (held.holders if held else 0) == self.holders[channel]
        if held is not None:
            self.subject.adopt(channel, held, self.now)
        self.settle()

    @precondition(lambda self: self.to_us)
    @rule()
    def we_read_one_answer(self) -> None:
        kind, channel = self.to_us.popleft()
        if kind == SUBSCRIBE:
            self.subject.on_subscribed(channel)
        elif kind == UNSUBSCRIBE:
            self.subject.on_unsubscribed(channel, self.now)
        else:
            self.subject.on_refused(self.now)
        self.settle()

    @invariant()
    def nothing_is_confirmed_that_redis_does_not_have(self) -> None:
        for channel in (A, B):
            moving = any(other == channel for kind, other in self.to_us if kind == UNSUBSCRIBE)
            if self.subject.is_confirmed(channel) and not moving:
                assert channel in self.subscribed

    def teardown(self) -> None:
        """However it went: with a Redis that answers, what is held is confirmed in the end, and nothing else stays."""
        if not self.connected:
            self.connects()
        for _ in range(8):
            self.now += 6.0
            self.subject.on_tick(self.now)
            self.settle()
            while self.to_redis or self.to_us:
                if self.to_redis:
                    self.redis_reads_one_command(refuse=False)
                else:
                    self.we_read_one_answer()
        for channel, count in self.holders.items():
            assert self.subject.is_confirmed(channel) == (channel in self.subscribed) == bool(count), (channel, count)


AgainstARedis.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAgainstARedis = AgainstARedis.TestCase


def test_a_channel_that_moves_to_another_node_is_subscribed_there_and_owes_a_gap() -> None:
    here, there = connected(), connected()
    here.acquire(A, 0.0)
    here.acquire(A, 0.0)
    here.on_subscribed(A)
    here.take_commands()
    held = here.take_out(A, 1.0)
    assert held == Held(2, owed=True)
    assert here.take_commands() == [Command(UNSUBSCRIBE, A)]
    assert not here.on_unsubscribed(A, 1.0)
    assert "0 wanted" in repr(here)
    assert held is not None
    there.adopt(A, held, 1.0)
    assert there.take_commands() == [Command(SUBSCRIBE, A)]
    assert there.on_subscribed(A)
    assert there.take_gaps() == {A}


def test_a_channel_that_was_never_live_moves_without_owing_anything() -> None:
    here, there = Subscriptions(), connected()
    here.acquire(A, 0.0)
    held = here.take_out(A, 1.0)
    assert held == Held(1, owed=False)
    assert "0 wanted" in repr(here)
    there.adopt(A, held, 1.0)
    there.take_commands()
    assert there.on_subscribed(A)
    assert there.take_gaps() == set()


def test_a_channel_that_only_lingers_does_not_move() -> None:
    here = connected()
    here.acquire(A, 0.0)
    here.on_subscribed(A)
    here.release(A, 0.0)
    assert here.take_out(A, 1.0) is None
    assert here.take_out(B, 1.0) is None


def test_a_channel_that_leaves_and_comes_back_before_any_answer_is_live_again() -> None:
    here = connected()
    here.acquire(A, 0.0)
    here.on_subscribed(A)
    held = here.take_out(A, 1.0)
    assert held is not None
    here.adopt(A, held, 1.0)
    here.take_commands()
    assert not here.on_unsubscribed(A, 1.0)
    assert here.on_subscribed(A)
    assert here.is_confirmed(A)
    assert here.take_gaps() == {A}


def test_letting_go_is_over_when_the_node_that_lost_the_channel_refuses_it() -> None:
    here = connected()
    here.acquire(A, 0.0)
    here.on_subscribed(A)
    here.take_out(A, 1.0)
    assert here.on_refused(1.0) == Command(UNSUBSCRIBE, A)
    assert "0 wanted" in repr(here)
