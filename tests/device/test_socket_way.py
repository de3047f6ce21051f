"""Whether a batch goes over the socket: within its rate, and not where it has just failed."""

from device.socket_way import FRAME_MAX_BYTES, SocketWay
from shared.protocol.frames import INBOUND_MAX_BYTES, Sync, encode_frame


def test_what_is_larger_than_a_frame_never_goes_there() -> None:
    way = SocketWay(0.0)
    assert way.ready_at(FRAME_MAX_BYTES + 1) is None
    assert way.ready_at(FRAME_MAX_BYTES) == 0.0
    assert len(encode_frame(Sync("s" * 128, []))) + FRAME_MAX_BYTES <= INBOUND_MAX_BYTES


def test_bytes_are_spent_and_come_back_at_half_of_a_hubs_rate() -> None:
    way = SocketWay(100.0)
    way.spend(64 * 1024, 100.0)
    assert way.ready_at(32 * 1024) == 100.0
    assert way.ready_at(64 * 1024 - 256) == 100.0 + (32 * 1024 - 256) / (32 * 1024)
    way.spend(0, 101.0)
    assert way.ready_at(64 * 1024 - 256) == 101.0
    way.spend(0, 1000.0)
    way.spend(60 * 1024, 1000.0)
    assert way.ready_at(36 * 1024) == 1000.0, "no more is saved up than a burst"
    assert way.ready_at(36 * 1024 + 32) == 1000.0 + 1 / 1024


def test_after_trouble_it_is_left_alone_for_a_while() -> None:
    way = SocketWay(0.0)
    way.bar(30.0)
    way.bar(20.0)
    assert way.ready_at(10) == 30.0
