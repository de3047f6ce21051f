"""The judgement of the bus on a clock that the test owns."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from shared.bus.canary_judge import Action, BusState, CanaryJudge, Probe, Reconnect, Send, worst


class World:
    """A judge that ticks every 100 ms, and a bus that returns canaries as `echo` says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.judge = CanaryJudge()
        self.judge.on_connection(is_up=True)
        self.echo: Callable[[int], float | None] = lambda number: 0.001
        self.redis_answers = True
        self.returns: list[tuple[float, int]] = []
        self.actions: list[tuple[float, Action]] = []
        self.states: list[tuple[float, BusState]] = []

    def run(self, seconds: float, *, tick_s: float = 0.1) -> None:
        """Let `seconds` pass."""
        end = round(self.now + seconds, 6)
        while self.now < end:
            for action in self.judge.on_tick(self.now):
                self._do(action)
            self._note()
            for at, number in [item for item in self.returns if item[0] < self.now + tick_s]:
                self.returns.remove((at, number))
                self.judge.on_returned(number, at)
                self._note(at)
            self.now = round(self.now + tick_s, 6)

    def _do(self, action: Action) -> None:
        self.actions.append((self.now, action))
        if isinstance(action, Send):
            delay = self.echo(action.number)
            if delay is not None:
                self.returns.append((self.now + delay, action.number))
        elif isinstance(action, Probe):
            self.judge.on_probed(self.redis_answers)

    def _note(self, at: float | None = None) -> None:
        if not self.states or self.states[-1][1] is not self.judge.state:
            self.states.append((self.now if at is None else at, self.judge.state))

    def believes(self, state: BusState) -> bool:
        return self.judge.state is state

    def seen(self) -> list[BusState]:
        return [state for _, state in self.states]


def healthy() -> World:
    world = World()
    world.run(2.0)
    assert world.believes(BusState.OK)
    world.states.clear()
    world.actions.clear()
    return world


def test_nothing_is_believed_before_the_first_canary_came_back() -> None:
    world = World()
    assert world.believes(BusState.DOUBT)
    world.run(0.1)
    assert world.believes(BusState.OK)


def test_a_bus_that_delivers_is_never_doubted() -> None:
    world = healthy()
    world.run(60.0)
    assert world.seen() == [BusState.OK]
    assert sum(isinstance(action, Send) for _, action in world.actions) == 150


def test_a_lost_connection_is_doubted_at_once_and_until_a_canary_came_back_over_the_next() -> None:
    world = healthy()
    world.echo = lambda number: None
    world.judge.on_connection(is_up=False)
    assert world.believes(BusState.DOUBT)
    world.judge.on_connection(is_up=True)
    assert world.believes(BusState.DOUBT)
    world.echo = lambda number: 0.001
    world.run(0.5)
    assert world.believes(BusState.OK)


def test_a_canary_sent_before_the_reconnection_proves_nothing() -> None:
    world = healthy()
    world.echo = lambda number: 0.3
    world.run(0.1)
    world.judge.on_connection(is_up=False)
    world.judge.on_connection(is_up=True)
    for _, number in world.returns:
        world.judge.on_returned(number, world.now)
    assert world.believes(BusState.DOUBT)


def test_one_late_canary_is_a_doubt() -> None:
    world = healthy()
    silent_from = world.now
    world.echo = lambda number: None
    world.run(0.7)
    assert world.seen() == [BusState.OK, BusState.DOUBT]
    assert world.states[1][0] - silent_from <= 0.8


def test_two_late_while_redis_answers_nobody_is_degraded_in_time_and_not_a_reason_to_reconnect() -> None:
    world = healthy()
    silent_from = world.now
    world.echo = lambda number: None
    world.redis_answers = False
    world.run(10.0)
    assert world.seen() == [BusState.OK, BusState.DOUBT, BusState.DEGRADED]
    assert world.states[2][0] - silent_from <= 1.3
    assert not any(isinstance(action, Reconnect) for _, action in world.actions)
    assert 20 <= sum(isinstance(action, Probe) for _, action in world.actions) <= 25, "asked once an interval"


def test_two_late_while_redis_answers_is_deaf_in_time_and_reconnects_until_it_hears() -> None:
    world = healthy()
    silent_from = world.now
    world.echo = lambda number: None
    world.run(10.0)
    assert world.seen() == [BusState.OK, BusState.DOUBT, BusState.DEAF]
    assert world.states[2][0] - silent_from <= 1.3
    reconnects = [at for at, action in world.actions if isinstance(action, Reconnect)]
    assert 4 <= len(reconnects) <= 6
    world.echo = lambda number: 0.001
    world.run(1.0)
    assert world.believes(BusState.OK)


def test_a_hub_that_hears_nothing_once_redis_serves_others_again_is_deaf_after_a_fair_try() -> None:
    world = healthy()
    world.echo = lambda number: None
    world.redis_answers = False
    world.run(2.0)
    assert world.believes(BusState.DEGRADED)
    world.redis_answers = True
    world.run(1.0)
    assert world.believes(BusState.DOUBT)
    world.run(1.5)
    assert world.believes(BusState.DEAF)


def test_a_hub_that_needs_a_moment_to_come_back_to_a_redis_that_is_back_is_not_called_deaf() -> None:
    world = healthy()
    world.echo = lambda number: None
    world.redis_answers = False
    world.run(3.0)
    world.redis_answers = True
    world.run(0.7)
    world.echo = lambda number: 0.001
    world.run(1.5)
    assert world.believes(BusState.OK)
    assert world.seen() == [BusState.OK, BusState.DOUBT, BusState.DEGRADED, BusState.DOUBT, BusState.OK]


WELL, DOWN, DEAF = "well", "down", "deaf"


@given(st.lists(st.tuples(st.sampled_from([WELL, DOWN, DEAF]), st.integers(1, 40)), min_size=1, max_size=8))
def test_whatever_came_before_the_judgement_fits_what_lasts(parts: list[tuple[str, int]]) -> None:
    world = World()
    for what, tenths in parts:
        world.echo = (lambda number: 0.001) if what == WELL else (lambda number: None)
        world.redis_answers = what != DOWN
        world.run(tenths / 10)
        if tenths >= 25:
            expected = {WELL: BusState.OK, DOWN: BusState.DEGRADED, DEAF: BusState.DEAF}[what]
            assert world.believes(expected), (what, world.judge)


@given(st.lists(st.tuples(st.integers(15, 60), st.integers(0, 7), st.integers(5, 30)), min_size=1, max_size=5))
def test_outages_that_hit_everybody_never_make_a_hub_deaf(outages: list[tuple[int, int, int]]) -> None:
    world = healthy()
    for down, reconnecting, well in outages:
        world.echo = lambda number: None
        world.redis_answers = False
        world.run(down / 10)
        world.redis_answers = True
        world.run(reconnecting / 10)
        world.echo = lambda number: 0.001
        world.run(well / 10)
    assert BusState.DEAF not in world.seen()


def test_a_bus_that_is_only_slow_is_doubted_and_never_deaf() -> None:
    world = healthy()
    world.echo = lambda number: 0.7
    world.run(20.0)
    assert set(world.seen()) == {BusState.OK, BusState.DOUBT}
    assert world.believes(BusState.DOUBT)


def test_time_in_which_this_process_did_not_run_is_held_against_nobody() -> None:
    world = healthy()
    world.echo = lambda number: 0.3
    world.run(0.5)
    assert world.returns, "a canary is under way"
    for at, number in world.returns:
        world.returns = [(at + 40.0, number)]  # it waits in the socket while we are stopped
    world.now += 40.0
    world.run(5.0)
    assert world.seen() == [BusState.OK]


def test_a_lazy_loop_is_not_taken_for_a_late_bus() -> None:
    world = healthy()
    world.echo = lambda number: 0.35
    world.run(30.0, tick_s=0.3)
    assert world.seen() == [BusState.OK]


def test_what_is_outstanding_is_bounded_however_long_the_silence() -> None:
    world = healthy()
    world.echo = lambda number: None
    world.run(600.0)
    assert "64 outstanding" in repr(world.judge)


def test_a_number_that_was_not_sent_says_nothing() -> None:
    world = healthy()
    assert world.judge.on_returned(10_000, world.now) is None
    assert world.believes(BusState.OK)


def test_a_bus_is_what_its_worst_node_is() -> None:
    states = list(BusState)
    for one in states:
        assert worst([one]) is one
        assert worst([BusState.OK, one]) is one
    assert worst([BusState.DEGRADED, BusState.DOUBT, BusState.DEAF]) is BusState.DEAF
    assert worst([BusState.DOUBT, BusState.DEGRADED]) is BusState.DEGRADED
    assert worst([]) is BusState.DOUBT
