from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.store.turns import EMPTY_MAX, LIFTED_EVERY, Turns


@given(st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 19))
def test_every_priority_in_use_comes_first_for_its_share_of_the_jobs(rooms: list[int], in_use: int) -> None:
    """Whatever the claims are like, and though each is filled from the priority that comes first."""
    turns = Turns()
    first: Counter[int] = Counter()
    for room in rooms:
        turn = turns.turn(room)
        first[turn % in_use] += room
        turns.claimed(room, turn=turn, unseen=False, rivals=False)
    whole, largest = sum(rooms), max(rooms)
    for place in range(in_use):
        # One job in eight is lifted; a round of all priorities may be under way, in claims of any size.
        assert first[place] * in_use * LIFTED_EVERY >= whole / largest - 2 * in_use * LIFTED_EVERY
    assert first[0] >= whole * (LIFTED_EVERY - 2) / LIFTED_EVERY - largest


def test_jobs_of_one_priority_are_claimed_from_the_top_but_one_in_eight() -> None:
    turns = Turns()
    seen = []
    for _ in range(16):
        seen.append(turns.turn(1))
        turns.claimed(1, turn=seen[-1], unseen=False, rivals=False)
    assert seen == [0] * 7 + [1] + [0] * 7 + [2]


def test_a_walk_goes_on_where_the_last_one_of_its_priority_ended() -> None:
    turns = Turns()
    turns.walked(0, "truck-3")
    turns.walked(-5, "truck-9")
    turns.walked(None, None)
    turns.walked(0, "truck-4")
    assert turns.stands == ([0, -5], ["truck-4", "truck-9"])


def test_walks_that_find_nothing_do_not_go_on_for_ever() -> None:
    turns = Turns()
    looks = 0
    turns.claimed(1, turn=0, unseen=True, rivals=False)
    while turns.more:
        turns.claimed(0, turn=0, unseen=True, rivals=False)
        looks += 1
    assert looks == EMPTY_MAX
    turns.claimed(0, turn=0, unseen=False, rivals=True)
    assert (turns.rivals, turns.more) == (True, False)
