"""Slots and owners: stable, even, and moved only when they must."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.hash_slots import PARTITIONS, SLOTS, owner, owners, partition_of, slot_of

names = st.lists(st.text("abcdefgh0123456789-", min_size=1, max_size=12), min_size=1, max_size=8, unique=True)


def test_the_vectors_of_the_protocol_document_hold() -> None:
    assert [slot_of(device) for device in ("truck-7", "warehouse-1", "office-1", "a")] == [27, 293, 2, 559]
    assert owner(0, ["hub-1", "hub-2", "hub-3"]) == "hub-2"


@given(names, st.text("xyz", min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_hub_that_joins_only_takes_slots_for_itself(hubs: list[str], newcomer: str) -> None:
    for slot in range(SLOTS):
        before, after = owner(slot, hubs), owner(slot, [*hubs, newcomer])
        assert after in (before, newcomer)


@given(names)
@settings(max_examples=30, deadline=None)
def test_a_hub_that_leaves_gives_each_slot_to_the_next_in_line(hubs: list[str]) -> None:
    for slot in range(0, SLOTS, 7):
        line = owners(slot, hubs)
        assert sorted(line) == sorted(hubs)
        assert line[0] == owner(slot, hubs)
        if len(hubs) > 1:
            assert owner(slot, [hub for hub in hubs if hub != line[0]]) == line[1]


@given(names)
@settings(max_examples=20, deadline=None)
def test_the_order_in_which_hubs_are_named_does_not_matter(hubs: list[str]) -> None:
    assert all(owner(slot, hubs) == owner(slot, hubs[::-1]) for slot in range(0, SLOTS, 13))


def test_a_fifth_hub_takes_a_fifth() -> None:
    moved = []
    for fleet in range(40):
        four = [f"fleet{fleet}-hub{n}" for n in range(4)]
        five = [*four, f"fleet{fleet}-hub4"]
        moved.append(sum(owner(slot, four) != owner(slot, five) for slot in range(SLOTS)) / SLOTS)
    assert max(moved) <= 0.25
    assert abs(sum(moved) / len(moved) - 0.2) <= 0.005


def test_nobody_owns_a_slot_when_there_is_no_hub() -> None:
    assert owner(3, []) is None


def test_partitions_are_all_used() -> None:
    assert {partition_of(f"d{n}") for n in range(2000)} == set(range(PARTITIONS))
