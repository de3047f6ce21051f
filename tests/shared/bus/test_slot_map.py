"""The map of a cluster: where a key lies, and what nodes say of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus.names import canary_channel, slot_channel
from shared.bus.slot_map import KEY_SLOTS, Address, InvalidMap, Moved, SlotMap, key_slot, parse_moved

A, B, C = Address("10.0.0.1", 7000), Address("10.0.0.2", 7000), Address("10.0.0.3", 7001)


def test_key_slots_are_those_of_the_server() -> None:
    # The first is the check value of CRC16/XMODEM; the others are what CLUSTER KEYSLOT answers.
    assert key_slot(b"123456789") == 0x31C3
    assert key_slot(b"foo") == 12182
    assert key_slot(b"fw:{s0}") == 11097
    assert key_slot(b"") == 0


def test_only_a_hash_tag_that_is_not_empty_counts() -> None:
    assert key_slot(b"{user}.a") == key_slot(b"{user}.b") == key_slot(b"user")
    assert key_slot(b"a{}b") != key_slot(b"")
    assert key_slot(b"{a}{b}") == key_slot(b"a")
    assert key_slot(b"{a") != key_slot(b"a")


@given(st.integers(0, 1023), st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20))
def test_a_slots_canary_lies_where_the_slot_lies(slot: int, hub: str) -> None:
    assert key_slot(canary_channel(hub, slot)) == key_slot(slot_channel(slot))


def test_one_redis_has_everything() -> None:
    slots = SlotMap.single(A)
    assert {slots.owner(slot) for slot in range(KEY_SLOTS)} == {A}
    assert slots.owners == slots.nodes == {A}


def test_a_map_is_read_from_what_a_node_says() -> None:
    reply = [
        [0, 99, [b"10.0.0.1", 7000, b"id", {}], [b"10.0.0.3", 7001, b"id", {}]],
        [200, 299, [b"10.0.0.2", 7000, b"id"]],
    ]
    slots = SlotMap.from_cluster_slots(reply, C)
    assert (slots.owner(0), slots.owner(99), slots.owner(100), slots.owner(250)) == (A, A, None, B)
    assert slots.owners == {A, B}
    assert slots.nodes == {A, B, C}
    assert slots == SlotMap.from_cluster_slots(reply, C)


@pytest.mark.parametrize("host", [b"", None, b"?"])
def test_a_node_that_does_not_know_its_address_is_where_it_was_asked(host: bytes | None) -> None:
    slots = SlotMap.from_cluster_slots([[0, KEY_SLOTS - 1, [host, 7001, b"id"]]], C)
    assert slots.owners == {C}


@pytest.mark.parametrize(
    "reply",
    [None, 7, b"OK", [7], [[0, 1]], [[0, KEY_SLOTS, [b"h", 1]]], [[5, 4, [b"h", 1]]], [[0, 1, [b"h", 0]]],
     [[0, 1, [b"h", b"x"]]], [[0, 1, []]], [["a", "b", [b"h", 1]]]],
)  # fmt: skip
def test_an_answer_that_is_no_map_is_refused(reply: object) -> None:
    with pytest.raises(InvalidMap):
        SlotMap.from_cluster_slots(reply, A)


@given(st.dictionaries(st.integers(0, KEY_SLOTS - 1), st.sampled_from([A, B, C]), max_size=20))
def test_slots_that_moved_are_elsewhere_and_all_others_where_they_were(moved: dict[int, Address]) -> None:
    before = SlotMap.single(A)
    after = before.with_moved(moved)
    for slot in {*moved, *range(0, KEY_SLOTS, 997)}:
        assert after.owner(slot) == moved.get(slot, A)
    assert before == SlotMap.single(A)


def test_moved_is_told_from_every_other_error() -> None:
    assert parse_moved("MOVED 3999 127.0.0.1:6381", A) == Moved(3999, Address("127.0.0.1", 6381))
    assert parse_moved("MOVED 3999 :6381", A) == Moved(3999, Address("10.0.0.1", 6381))
    assert parse_moved("MOVED 3999 fd00::7:6381", A) == Moved(3999, Address("fd00::7", 6381))


@given(st.one_of(st.text(), st.from_regex(r"MOVED [^ ]{0,6} [^ ]{0,8}")))
def test_no_error_text_is_misread_or_raises(text: str) -> None:
    moved = parse_moved(text, A)
    assert moved is None or (0 <= moved.key_slot < KEY_SLOTS and 0 < moved.address.port < 65536)


@pytest.mark.parametrize(
    "text",
    ["ERR no", "MOVED", "MOVED x h:1", "MOVED 1 h", "MOVED 1 h:x", "MOVED 16384 h:1", "MOVED 1 h:0", "ASK 1 h:1"],
)
def test_what_is_no_move_is_none(text: str) -> None:
    assert parse_moved(text, A) is None
