"""The judge of moves: what a change of the hubs explains, and what it does not."""

from hypothesis import given
from hypothesis import strategies as st

from loadtests.move_judge import Told, misplaced, names, peak_rate, unexplained
from shared.hash_slots import owner, slot_of

DEVICES = [f"truck-{number}" for number in range(300)]


def home(device_id: str, hubs: int) -> str:
    found = owner(slot_of(device_id), names(hubs))
    assert found is not None
    return found


def moves(first: int, then: int, at_s: float = 0.0) -> list[Told]:
    """Exactly what a change asks for."""
    return [
        Told(at_s, device, home(device, first), home(device, then), "rebalance")
        for device in DEVICES
        if home(device, first) != home(device, then)
    ]


def test_moves_to_new_owners_are_explained_in_the_order_of_the_changes() -> None:
    up, down = moves(1, 2, 1.0) + moves(2, 3, 2.0), moves(3, 2, 3.0) + moves(2, 1, 4.0)
    assert up
    assert down
    assert unexplained(up + down, [1, 2, 3, 2, 1]) == []
    assert unexplained(down, [1, 2, 3]) != []  # the hubs never went


def test_a_change_of_two_hubs_at_once_explains_one_move() -> None:
    assert unexplained(moves(1, 3), [1, 2, 3]) == []


def test_a_move_of_a_device_whose_owner_did_not_change_is_found() -> None:
    staying = next(device for device in DEVICES if home(device, 1) == home(device, 2))
    wrong = Told(0.0, staying, "hub-1", "hub-2", "rebalance")
    assert unexplained([*moves(1, 2), wrong], [1, 2]) == [wrong]


def test_a_second_move_for_the_same_change_is_found() -> None:
    first, *_ = moves(1, 2)
    again = Told(5.0, first.device_id, first.from_hub, first.to_hub, "rehome")
    assert unexplained([first, again], [1, 2]) == [again]


def test_a_newcomer_is_sent_home_once_when_its_hub_was_full_and_never_back() -> None:
    staying = next(device for device in DEVICES if home(device, 1) == home(device, 2))
    going = next(device for device in DEVICES if home(device, 1) != home(device, 2))
    newcomer = Told(0.0, staying, "hub-2", "hub-1", "rehome")
    assert unexplained([newcomer], [1, 2]) == []
    assert unexplained([newcomer, newcomer], [1, 2]) == [newcomer]
    drained, back = Told(0.0, going, "hub-2", "hub-1", "drain"), Told(1.0, going, "hub-1", "hub-2", "rehome")
    assert unexplained([drained, back], [1, 2, 1]) == [back]


def test_a_device_on_a_hub_that_is_not_its_own_is_found() -> None:
    where = {device: home(device, 3) for device in DEVICES}
    assert misplaced(where, 3) == []
    assert len(misplaced(where, 2)) == len(moves(3, 2))


@given(st.lists(st.floats(0, 60), max_size=80), st.floats(0.5, 10))
def test_the_peak_is_what_a_slow_count_says(times: list[float], seconds: float) -> None:
    told = [Told(at_s, f"truck-{number}", "hub-1", "hub-2", "drain") for number, at_s in enumerate(times)]
    slow = max((sum(end - seconds < at_s <= end for at_s in times) for end in times), default=0)
    assert peak_rate(told, seconds=seconds) == ({"hub-1": slow / seconds} if times else {})


def test_the_moment_of_a_move_counts_and_each_hub_for_itself() -> None:
    told = [Told(0.0, f"d-{n}", hub, "hub-3", "rebalance", float(n)) for hub in ("hub-1", "hub-2") for n in range(10)]
    assert peak_rate(told, seconds=2.0) == {"hub-1": 1.0, "hub-2": 1.0}
