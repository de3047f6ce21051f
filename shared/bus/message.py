"""What travels on a slot's channel: a small fixed header and, for an event, the bytes it was recorded with.

One byte of version (high four bits) and kind (low four), one of device-id length, epoch (u32) and seq (u64)
big-endian, the id, the body. An unknown version or kind is not an error of the sender: hubs of two releases share a
bus, so it is counted and dropped.
"""

from struct import Struct
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import Final, NamedTuple
from uuid import UUID

from shared.hash_slots import slot_of

__all__ = [
    "CANARY",
    "CONNECTION",
    "EVENT",
    "EVENT_TAG",
    "FEED",
    "HEADER_BYTES",
    "MESSAGE_MAX_BYTES",
    "NOTICE",
    "REVOCATION",
    "TEMPLATE",
    "InvalidMessage",
    "Message",
    "connection_body",
    "connection_message",
    "decode",
    "feed_id_of",
    "feed_message",
    "notice_body",
    "notice_message",
    "revocation_message",
    "template_id_of",
    "template_message",
    "unpack_header",
]
# Room is left for kind 5 (moved).

EVENT: Final = 1  # epoch and seq of the event; body is the encoded CloudEvent
CONNECTION: Final = (
    2  # a newer connection of the device: epoch 0, seq is its conn_term; body is instance, NUL, hub name
)
CANARY: Final = 3  # a hub's message to itself: seq is its number; body is the sender's run
NOTICE: Final = 4  # for many devices, so no device id; body is the class it is for or nothing, NUL, the encoded frame
TEMPLATE: Final = 7  # a template has a newer version: no device id, epoch 0, seq is the version; body is the id
FEED: Final = (
    8  # something changed at a cloud provider: no device id, epoch 0, seq names the hint; body is the feed's id
)
REVOCATION: Final = 6  # tokens of the device were revoked: epoch and seq 0, no body; which ones, Postgres knows

HEADER_BYTES: Final = 14
MESSAGE_MAX_BYTES: Final = HEADER_BYTES + 64 + 256 * 1024

_VERSION: Final = 1
_HEADER: Final = Struct(">BBIQ")
_pack: Final = _HEADER.pack
# The first byte of an event; a reader takes events apart where it reads them: (tag, length of the id, epoch, seq).
EVENT_TAG: Final = _VERSION << 4 | EVENT
unpack_header: Final = _HEADER.unpack_from
_KINDS: Final = {_VERSION << 4 | kind: kind for kind in (EVENT, CONNECTION, CANARY, NOTICE, REVOCATION, TEMPLATE, FEED)}


class InvalidMessage(ValueError):
    """Bytes that are not a message of this version."""


class Message(NamedTuple):
    """One message about one device."""

    kind: int
    device_id: str
    epoch: int
    seq: int
    body: bytes

    @property
    def slot(self) -> int:
        """The slot whose channel it goes to."""
        return slot_of(self.device_id)

    def encode(self) -> bytes:
        """Header, id and body as bytes."""
        device_id = self.device_id.encode("ascii")
        return _pack(_VERSION << 4 | self.kind, len(device_id), self.epoch, self.seq) + device_id + self.body


def decode(payload: bytes) -> tuple[int, str, int, int, bytes]:
    """(kind, device_id, epoch, seq, body), a plain tuple since it is made for every message. Raises InvalidMessage."""
    try:
        tag, id_length, epoch, seq = unpack_header(payload)
        end = HEADER_BYTES + id_length
        # An event without a body was cut short: the frame made of it would be no JSON.
        if len(payload) > end or (len(payload) == end and tag != EVENT_TAG):
            return _KINDS[tag], payload[HEADER_BYTES:end].decode("ascii"), epoch, seq, payload[end:]
    except UnicodeDecodeError:
        raise InvalidMessage("message has a device id that is not ASCII") from None
    except (KeyError, StructError):
        pass
    raise InvalidMessage("message is of another version or cut short")


def connection_message(device_id: str, conn_term: int, instance: str, hub: str) -> Message:
    """Tells the hub that holds an older connection of the device that `instance` now has one at `hub`."""
    return Message(CONNECTION, device_id, 0, conn_term, b"%b\x00%b" % (instance.encode(), hub.encode()))


def revocation_message(device_id: str) -> Message:
    """Tells the hub that holds the device to ask at once whether its credential still is good.

    It names no token, lest a message that anybody on the bus can make could shut a device out for good.
    """
    return Message(REVOCATION, device_id, 0, 0, b"")


def connection_body(body: bytes) -> tuple[str, str]:
    """(instance, hub name) of a CONNECTION message. Raises InvalidMessage."""
    try:
        instance, nul, hub = body.decode().partition("\x00")
    except UnicodeDecodeError:
        raise InvalidMessage("connection message is not UTF-8") from None
    if not nul:
        raise InvalidMessage("connection message names no hub")
    return instance, hub


def notice_message(device_class: str | None, frame: bytes) -> Message:
    """Tells every hub to hand `frame` to its devices, or to those of one class."""
    return Message(NOTICE, "", 0, 0, b"%b\x00%b" % ((device_class or "").encode(), frame))


def notice_body(body: bytes) -> tuple[str | None, bytes]:
    """(class or None for all, frame) of a NOTICE message. Raises InvalidMessage."""
    device_class, nul, frame = body.partition(b"\x00")
    if not nul or not frame.startswith(b'{"type":"notice",') or not device_class.isascii():
        raise InvalidMessage("notice message is malformed")
    return device_class.decode("ascii") or None, frame


def template_message(template_id: UUID, version: int) -> Message:
    """Tells every API process that a template has this version now. What is in it, Postgres knows."""
    return Message(TEMPLATE, "", 0, version, template_id.bytes)


def template_id_of(body: bytes) -> UUID | None:
    """Which template a TEMPLATE message is about; None for bytes that are no id."""
    return UUID(bytes=body) if len(body) == 16 else None


def feed_message(feed_id: str, hint: int = 0) -> Message:
    """Tells every watcher that there may be changes in a feed. What they are, the provider knows.

    `hint` is the moment of the hint that was recorded, in microseconds: who heard it need not read it again.
    """
    return Message(FEED, "", 0, hint, feed_id.encode())


def feed_id_of(body: bytes) -> str | None:
    """Which feed a FEED message is about; None for bytes that are no id."""
    try:
        return body.decode() if 0 < len(body) <= 512 else None
    except UnicodeDecodeError:
        return None
