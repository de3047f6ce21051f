"""Names in Redis: each slot has its own channel, and a slot's channels share a cluster's hash tag."""

from shared.bus.names import canary_channel, job_stream, lease_lock, slot_channel, slot_of_channel
from shared.hash_slots import SLOTS


def test_every_slot_has_a_channel_of_its_own_and_back() -> None:
    assert [slot_of_channel(slot_channel(slot)) for slot in range(SLOTS)] == list(range(SLOTS))
    assert slot_channel(17) == b"fw:{s17}"


def test_a_canary_channel_is_on_the_node_of_its_slot_and_is_no_slot() -> None:
    assert canary_channel("hub-1", 3) == b"fw:{s3}:canary:hub-1"
    assert slot_of_channel(canary_channel("hub-1", 3)) is None


def test_streams_and_locks_have_the_names_that_tools_look_for() -> None:
    assert job_stream("requests") == "fw:jobs:requests"
    assert lease_lock("local/17") == "fw:lease:local/17"
