"""The frames of `fleetwire.v1`: text, one JSON object each, told apart by `type`.

Types are the schema: decoding and checking are one step. What a device sends wrongly comes in two grades. `FrameError`
is answered by an `error` frame and the socket stays; `ProtocolViolation` (not JSON, duplicate keys, too deep) closes
it with 4302, since nothing after it can be trusted to mean what it says.
"""

from typing import Any, Final

import msgspec
import orjson

from shared.protocol import strict_json
from shared.protocol.field_errors import convert
from shared.protocol.position import SEQ_MAX

__all__ = [
    "INBOUND_MAX_BYTES",
    "INBOUND_MAX_DEPTH",
    "SUBPROTOCOL",
    "TICKET_PREFIX",
    "Ack",
    "DeviceFrame",
    "ErrorFrame",
    "Event",
    "FrameError",
    "HubFrame",
    "Moved",
    "Notice",
    "ProtocolViolation",
    "Reset",
    "Sync",
    "SyncResult",
    "Token",
    "TokenOk",
    "Welcome",
    "decode_device_frame",
    "decode_hub_frame",
    "encode_frame",
    "event_frame",
    "notice_frame",
]

SUBPROTOCOL: Final = "fleetwire.v1"
TICKET_PREFIX: Final = "ticket."
INBOUND_MAX_BYTES: Final = 64 * 1024
INBOUND_MAX_DEPTH: Final = 16
REF_MAX_LENGTH: Final = 128


class Ack(msgspec.Struct, frozen=True, tag="ack"):
    """Device: everything up to `seq` of this connection's epoch is done with."""

    seq: int


class Token(msgspec.Struct, frozen=True, tag="token"):
    """Device: a newer credential for this connection."""

    token: str


class Sync(msgspec.Struct, frozen=True, tag="sync"):
    """Device: a batch of operations, answered by `sync_result` with the same `ref`."""

    ref: str
    operations: list[dict[str, Any]]


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """Hub, first frame: events with seq above that of `position` follow."""

    session: str
    hub: str
    position: str
    acked: int
    head: int
    heartbeat_s: float
    window: int
    ack_every: int
    ack_ms: int
    jitter_s: float


class Reset(msgspec.Struct, frozen=True, tag="reset"):
    """Hub, right after welcome: events between the device's position and this one are gone. Fetch state by REST."""

    position: str
    reason: str


class Event(msgspec.Struct, frozen=True, tag="event"):
    """Hub: event number `seq` of the device's log; `event` is the CloudEvent as it was recorded."""

    seq: int
    event: dict[str, Any]


class Notice(msgspec.Struct, frozen=True, tag="notice"):
    """Hub: something ephemeral, at most once, without a number."""

    id: str
    data: dict[str, Any]


class Moved(msgspec.Struct, frozen=True, tag="moved"):
    """Hub: connect to `url` after `after_ms`; this connection goes on until the new one is welcomed."""

    url: str
    after_ms: int
    reason: str


class SyncResult(msgspec.Struct, frozen=True, tag="sync_result"):
    """Hub: results of a `sync`, in the order of its operations."""

    ref: str
    results: list[dict[str, Any]]


class TokenOk(msgspec.Struct, frozen=True, tag="token_ok"):
    """Hub: the renewed credential holds until `expires_at` (RFC 3339)."""

    expires_at: str


class ErrorFrame(msgspec.Struct, frozen=True, omit_defaults=True, tag="error"):
    """Hub: one frame was refused; the connection stays."""

    code: str
    detail: str
    ref: str | None = None


DeviceFrame = Ack | Token | Sync
HubFrame = Welcome | Reset | Event | Notice | Moved | SyncResult | TokenOk | ErrorFrame


class FrameError(ValueError):
    """A frame that is JSON but not one we take: answered by `error`, the socket stays."""

    def __init__(self, code: str, detail: str, ref: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.ref = ref


class ProtocolViolation(ValueError):
    """A frame after which the socket is closed with 4302."""


_DEVICE_TYPES: Final = ("ack", "sync", "token")
_hub_frames: Final = msgspec.json.Decoder(HubFrame)
_encoder: Final = msgspec.json.Encoder()


def decode_device_frame(text: str | bytes) -> DeviceFrame:
    """One frame from a device, UTF-8 already checked. Raises FrameError, ProtocolViolation."""
    try:
        value = strict_json.decode(text, max_depth=INBOUND_MAX_DEPTH)
    except strict_json.NotStrictJson as error:
        raise ProtocolViolation(f"frame {error}") from None
    if not isinstance(value, dict):
        raise ProtocolViolation("frame is not a JSON object")
    ref = value.get("ref")
    ref = ref if isinstance(ref, str) and _is_ref(ref) else None
    if value.get("type") not in _DEVICE_TYPES:
        raise FrameError("unknown_type", f"type must be one of {', '.join(_DEVICE_TYPES)}", ref)
    try:
        frame: DeviceFrame = convert(value, DeviceFrame)
    except msgspec.ValidationError as error:
        raise FrameError("wrong_field", str(error), ref) from None
    if isinstance(frame, Ack) and not 0 <= frame.seq <= SEQ_MAX:
        raise FrameError("wrong_field", f"seq must be from 0 to {SEQ_MAX}")
    if isinstance(frame, Sync) and not _is_ref(frame.ref):
        raise FrameError("wrong_field", f"ref must be 1 to {REF_MAX_LENGTH} printable characters")
    return frame


def _is_ref(ref: str) -> bool:
    """A ref goes back as it came. A lone surrogate, which JSON can spell, has no UTF-8, so it could not."""
    return 1 <= len(ref) <= REF_MAX_LENGTH and ref.isprintable()


def decode_hub_frame(text: str | bytes) -> HubFrame | None:
    """One frame from a hub; None for a type this client does not know. Raises FrameError when it makes no sense."""
    try:
        frame: HubFrame = _hub_frames.decode(text)
    except msgspec.ValidationError as error:
        if "Invalid value" in str(error) and "`$.type`" in str(error):
            return None
        raise FrameError("wrong_field", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError("not_json", str(error)) from None
    return frame


def encode_frame(frame: HubFrame | DeviceFrame) -> bytes:
    """A frame as UTF-8 JSON. Events go by `event_frame`, which does not parse them."""
    return _encoder.encode(frame)


def event_frame(seq: int, body: bytes) -> bytes:
    """An `event` frame around an event that is already encoded: a prefix, the recorded bytes, a brace."""
    return b'{"type":"event","seq":%d,"event":%b}' % (seq, body)


def notice_frame(notice_id: str, data: bytes) -> bytes:
    """A `notice` frame around data that is already encoded."""
    return b'{"type":"notice","id":%b,"data":%b}' % (orjson.dumps(notice_id), data)
