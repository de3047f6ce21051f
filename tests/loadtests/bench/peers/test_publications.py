"""What goes to Redis in each server's own words."""

import json

import msgspec
import pytest

from loadtests.bench.peers.publications import PUBLISHERS, fleetwire
from shared.bus.message import EVENT as EVENT_KIND
from shared.bus.message import Message, decode
from shared.bus.names import slot_channel
from shared.hash_slots import slot_of

EVENT = '{"id":"d-1-7","data":{"sent_ns":12345,"filler":"xxx"}}'


def test_ours_goes_to_the_slot_of_its_device() -> None:
    command, channel, payload = fleetwire("d-1", 7, EVENT)
    assert (command, channel) == (b"SPUBLISH", slot_channel(slot_of("d-1")))
    assert decode(payload) == Message(EVENT_KIND, "d-1", 1, 7, EVENT.encode())


def test_ours_has_no_message_for_all() -> None:
    with pytest.raises(ValueError, match="to a device"):
        fleetwire(None, 1, EVENT)


def test_python_socketio_is_told_the_room_in_json() -> None:
    command, channel, payload = PUBLISHERS["python-socketio"]("d-1", 7, EVENT)
    message = json.loads(payload)
    assert (command, channel) == (b"PUBLISH", b"socketio")
    assert (message["method"], message["room"], message["data"]) == ("emit", "d-1", [json.loads(EVENT)])
    assert json.loads(PUBLISHERS["python-socketio"](None, 7, EVENT)[2])["room"] is None


def test_socket_io_is_told_the_room_by_the_channel_and_in_the_message() -> None:
    command, channel, payload = PUBLISHERS["socket.io"]("d-1", 7, EVENT)
    _, packet, options = msgspec.msgpack.decode(payload)
    assert (command, channel) == (b"PUBLISH", b"socket.io#/#d-1#")
    assert packet == {"type": 2, "data": ["event", json.loads(EVENT)], "nsp": "/"}
    assert options["rooms"] == ["d-1"]
    assert PUBLISHERS["socket.io"](None, 7, EVENT)[1] == b"socket.io#/#"


def test_channels_is_told_the_group_by_the_channel() -> None:
    command, channel, payload = PUBLISHERS["channels"]("d-1", 7, EVENT)
    assert (command, channel) == (b"PUBLISH", b"asgi__group__d-1")
    assert msgspec.msgpack.decode(payload) == {"type": "device.event", "data": json.loads(EVENT)}
    assert PUBLISHERS["channels"](None, 7, EVENT)[1] == b"asgi__group__everybody"
