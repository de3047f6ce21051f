"""One event as each server's own publisher puts it on Redis: which channel, which bytes. Pure.

The bytes are made here and not by the peers' libraries, so that publishing costs the same for everybody and next to
nothing; that each server delivers them shows that they are right.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Final

import msgspec

from shared.bus import names
from shared.bus.message import EVENT, Message, notice_message
from shared.hash_slots import slot_of

__all__ = ["PUBLISHERS", "Publication", "notice"]

EVENT_NAME: Final = "event"
EVERYBODY: Final = "everybody"

Publication = tuple[bytes, bytes, bytes]
"""Command, channel, payload."""


@cache
def _channel(device: str) -> bytes:
    return names.slot_channel(slot_of(device))


def fleetwire(device: str | None, seq: int, event: str) -> Publication:
    """A message on the device's slot. There is none for all: each device has a log of its own."""
    if device is None:
        raise ValueError("events are published to a device")
    return b"SPUBLISH", _channel(device), Message(EVENT, device, 1, seq, event.encode()).encode()


def notice(seq: int, data: str) -> Publication:
    """One message for all devices, without a number in their logs."""
    frame = f'{{"type":"notice","id":"bench-{seq}","data":{data}}}'
    return b"SPUBLISH", names.notice_channel(), notice_message(None, frame.encode()).encode()


def python_socketio(device: str | None, seq: int, event: str) -> Publication:
    """What `AsyncRedisManager(write_only=True).emit` publishes."""
    head = f'{{"method":"emit","event":"{EVENT_NAME}","data":[{event}],"binary":false,"namespace":"/","room":'
    tail = f'{json.dumps(device)},"skip_sid":null,"callback":null,"host_id":"bench"}}'
    return b"PUBLISH", b"socketio", (head + tail).encode()


def socketio_node(device: str | None, seq: int, event: str) -> Publication:
    """What the adapter of another server publishes."""
    packet = {"type": 2, "data": [EVENT_NAME, json.loads(event)], "nsp": "/"}
    rooms = [] if device is None else [device]
    channel = "socket.io#/#" if device is None else f"socket.io#/#{device}#"
    options = {"rooms": rooms, "except": [], "flags": {}}
    return b"PUBLISH", channel.encode(), msgspec.msgpack.encode(["bench", packet, options])


def django_channels(device: str | None, seq: int, event: str) -> Publication:
    """What the pub/sub layer's `group_send` publishes."""
    group = EVERYBODY if device is None else device
    message = {"type": "device.event", "data": json.loads(event)}
    return b"PUBLISH", f"asgi__group__{group}".encode(), msgspec.msgpack.encode(message)


PUBLISHERS: Final[dict[str, Callable[[str | None, int, str], Publication]]] = {
    "fleetwire": fleetwire,
    "python-socketio": python_socketio,
    "socket.io": socketio_node,
    "channels": django_channels,
}
