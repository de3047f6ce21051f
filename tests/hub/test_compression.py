"""Compressed frames: what is offered and answered, what is made once, and what a peer may not make the hub inflate."""

import asyncio
import json
import secrets
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, PayloadTooBig, ProtocolError
from websockets.extensions import permessage_deflate
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from hub.compression import DeflateFactory, Deflater, MessageDeflate
from hub.wire import event_bytes
from shared.protocol.frames import INBOUND_MAX_BYTES, event_frame
from shared.telemetry.metrics import HUB_COMPRESSED_BYTES
from tests.hub.conftest import Fleet, RunningHub, StartHub, token, until

TAIL = b"\x00\x00\xff\xff"


def deflated(payload: bytes, *, last: bool = False) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = deflate.compress(payload)
    return data + (deflate.flush() + b"\x00" if last else deflate.flush(zlib.Z_SYNC_FLUSH).removesuffix(TAIL))


def read(frame: bytes) -> bytes:
    """A frame's text, as the library's client reads it with the parameters that the hub negotiates."""
    client = PerMessageDeflate(True, True, 12, 15, {})
    reader = Frame.parse(_Bytes(frame).read_exact, mask=False, extensions=[client])
    with pytest.raises(StopIteration) as done:
        next(reader)
    parsed: Frame = done.value.value
    assert parsed.opcode is Opcode.TEXT
    assert parsed.fin
    return bytes(parsed.data)


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_exact(self, count: int):  # type: ignore[no-untyped-def]
        yield from ()
        taken, self.data = self.data[:count], self.data[count:]
        return taken


bodies = st.text(alphabet='abc{}"é', min_size=1, max_size=40).map(lambda text: text.encode() * 40)


@given(st.integers(1, 2**53 - 1), bodies)
def test_a_compressed_event_is_the_event_frame(seq: int, body: bytes) -> None:
    frame = Deflater(threshold=1).event(seq, body)
    if frame is not None:
        assert len(frame) < len(event_bytes(seq, body))
        assert read(frame) == event_frame(seq, body)


def counted_compressors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    real = zlib.compressobj

    def counted(level: int, method: int, wbits: int, memory: int) -> "zlib._Compress":
        calls.append(level)
        return real(level, method, wbits, memory)

    monkeypatch.setattr("zlib.compressobj", counted)
    return calls


def test_one_body_is_compressed_once_for_any_number_of_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted_compressors(monkeypatch)
    deflater = Deflater(threshold=512)
    body = b'{"data":"%b"}' % (b"stop " * 400)
    frames = [deflater.event(seq, bytes(bytearray(body))) for seq in range(1, 501)]
    assert len(calls) == 1
    assert [read(frame or b"") for frame in frames[:3]] == [event_frame(seq, body) for seq in (1, 2, 3)]


def test_what_does_not_gain_is_not_compressed_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted_compressors(monkeypatch)
    deflater = Deflater(threshold=512)
    body = secrets.token_bytes(2000)
    assert [deflater.event(seq, body) for seq in (1, 2, 3)] == [None] * 3
    assert len(calls) == 1
    assert deflater.text(body) is None


def test_what_is_held_is_bounded() -> None:
    deflater = Deflater(threshold=512, held_max_bytes=20_000)
    for number in range(100):
        deflater.event(1, b"%d " % number * 500)
        assert deflater._held_bytes <= 20_000
        assert deflater._held_bytes == sum(len(body) + len(made or b"") for body, made in deflater._blocks.items())
    assert deflater.event(1, b"large" * 10_000) is not None
    assert b"large" * 10_000 not in deflater._blocks


def test_other_text_is_compressed_when_it_gains() -> None:
    deflater = Deflater(threshold=512)
    text = json.dumps({"type": "notice", "id": "1", "data": {"text": "closed " * 200}}).encode()
    assert read(deflater.text(text) or b"") == text
    assert deflater.text(text[:500]) is None


def negotiate(offer: str) -> str | None:
    protocol = ServerProtocol(extensions=[DeflateFactory()])
    return protocol.process_extensions(Headers({"Sec-WebSocket-Extensions": offer}))[0]


TAKEN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", TAKEN),
        ("permessage-deflate; client_max_window_bits", TAKEN),
        ("permessage-deflate; client_max_window_bits=9", TAKEN),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", TAKEN),
        ("permessage-deflate; server_max_window_bits=15", TAKEN + "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=12", TAKEN + "; server_max_window_bits=12"),
        ("permessage-deflate; server_max_window_bits=11", None),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", TAKEN),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=09", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate, permessage-deflate", TAKEN),
        ("x-webkit-deflate-frame", None),
    ],
)
def test_an_offer_is_adapted_or_declined(offer: str, answer: str | None) -> None:
    assert negotiate(offer) == answer


def compressed(data: bytes, *, fin: bool = True, opcode: Opcode = Opcode.TEXT, rsv1: bool = True) -> Frame:
    return Frame(opcode, data, fin, rsv1)


def test_a_message_in_parts_is_inflated_as_one() -> None:
    data = deflated(b'{"type":"token","token":"' + b"x" * 3000 + b'"}')
    inbound = MessageDeflate()
    got = bytes(inbound.decode(compressed(data[:7], fin=False), max_size=INBOUND_MAX_BYTES).data)
    got += inbound.decode(compressed(b"", fin=False, opcode=Opcode.CONT, rsv1=False), max_size=INBOUND_MAX_BYTES).data
    # A ping may come in between and is never compressed.
    assert inbound.decode(Frame(Opcode.PING, b"?"), max_size=INBOUND_MAX_BYTES).data == b"?"
    got += inbound.decode(compressed(data[7:], opcode=Opcode.CONT, rsv1=False), max_size=INBOUND_MAX_BYTES).data
    assert got == b'{"type":"token","token":"' + b"x" * 3000 + b'"}'
    plain = Frame(Opcode.TEXT, b"not compressed")
    assert inbound.decode(plain, max_size=INBOUND_MAX_BYTES) is plain


@pytest.mark.parametrize("size", [INBOUND_MAX_BYTES - 1, INBOUND_MAX_BYTES])
def test_what_fits_is_taken_to_the_last_byte(size: int) -> None:
    assert len(MessageDeflate().decode(compressed(deflated(b"a" * size)), max_size=INBOUND_MAX_BYTES).data) == size


@pytest.mark.parametrize("size", [INBOUND_MAX_BYTES + 1, INBOUND_MAX_BYTES + 200, 60_000_000])
def test_a_bomb_is_too_large_after_its_first_bytes(size: int) -> None:
    with pytest.raises(PayloadTooBig):
        MessageDeflate().decode(compressed(deflated(b"a" * size)), max_size=INBOUND_MAX_BYTES)


def test_a_bomb_in_parts_has_no_more_room_in_its_last_part() -> None:
    data = deflated(b"a" * 1_000_000)
    inbound = MessageDeflate()
    inbound.decode(compressed(b"", fin=False), max_size=INBOUND_MAX_BYTES)
    with pytest.raises(PayloadTooBig):
        # The library says 0 when earlier parts have used all the room; zlib takes 0 for "no bound".
        inbound.decode(compressed(data, opcode=Opcode.CONT, rsv1=False), max_size=0)


def test_a_last_block_ends_the_message() -> None:
    assert MessageDeflate().decode(compressed(deflated(b"hello", last=True)), max_size=100).data == b"hello"
    with pytest.raises(ProtocolError):
        MessageDeflate().decode(compressed(deflated(b"hello", last=True) + b"more"), max_size=100)


@given(st.lists(st.tuples(st.binary(max_size=60), st.booleans(), st.booleans()), max_size=4))
def test_damaged_messages_only_ever_end_as_protocol_errors(parts: list[tuple[bytes, bool, bool]]) -> None:
    inbound = MessageDeflate()
    try:
        for number, (data, fin, rsv1) in enumerate(parts):
            opcode = Opcode.CONT if number else Opcode.TEXT
            assert len(inbound.decode(compressed(data, fin=fin, opcode=opcode, rsv1=rsv1), max_size=500).data) <= 500
    except (ProtocolError, PayloadTooBig):
        pass


# With a hub


async def compressing(hub: RunningHub, fleet: Fleet, device_id: str, **arguments: int) -> ClientConnection:
    socket = await connect(
        f"{hub.url}?device_id={device_id}",
        subprotocols=[Subprotocol("fleetwire.v1")],
        additional_headers={"Authorization": f"Bearer {token(device_id)}"},
        extensions=[ClientPerMessageDeflateFactory(**arguments)],  # type: ignore[arg-type]
        compression=None,
        ping_interval=None,
        max_size=2**20,
        proxy=None,
    )
    fleet.sockets.append(socket)
    welcome = json.loads(await socket.recv())
    assert welcome["type"] == "welcome"
    return socket


async def test_a_device_that_offers_it_gets_large_events_compressed_and_small_ones_plain(
    start_hub: StartHub, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_compressed = []
    real = PerMessageDeflate.decode

    def decode(self: PerMessageDeflate, frame: Frame, *, max_size: int | None = None) -> Frame:
        if frame.opcode is Opcode.TEXT:
            was_compressed.append(frame.rsv1)
        return real(self, frame, max_size=max_size)

    monkeypatch.setattr(permessage_deflate.PerMessageDeflate, "decode", decode)
    hub = await start_hub()
    device_id = await fleet.new_device()
    socket = await compressing(hub, fleet, device_id, server_max_window_bits=15)
    await fleet.record(device_id, 2, size=3000)
    await fleet.record(device_id, 1, size=10)
    await fleet.record(device_id, 1, size=20_000)
    async with asyncio.timeout(10):
        frames = [json.loads(await socket.recv()) for _ in range(4)]
    assert [(frame["seq"], frame["event"]["data"]["n"]) for frame in frames] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert was_compressed == [False, True, True, False, True]
    before, after = (HUB_COMPRESSED_BYTES.labels(side)._value for side in ("in", "out"))
    await until(lambda: before.get() >= 26_000)
    assert 0 < after.get() < before.get() / 5
    # Large enough to be worth the client's while, too: an ack in a compressed frame.
    await socket.send(json.dumps({"type": "ack", "seq": 4, "note": "." * 600}))
    await fleet.until_acked(device_id, 4)


async def test_a_hub_told_not_to_compress_does_not(start_hub: StartHub, fleet: Fleet) -> None:
    hub = await start_hub(FLEETWIRE_HUB_COMPRESSION="off")
    device_id = await fleet.new_device()
    socket = await compressing(hub, fleet, device_id)
    assert not socket.protocol.extensions
    await fleet.record(device_id, 1, size=3000)
    async with asyncio.timeout(10):
        assert json.loads(await socket.recv())["seq"] == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b'{"type":"token","token":"' + b"a" * 50_000_000 + b'"}', 1009),
        (b'{"type":"sync","ref":"r","operations":' + b"[" * 1000 + b"]" * 1000 + b"}", 4302),
    ],
    ids=["bomb", "depth"],
)
async def test_the_bounds_of_a_frame_hold_for_what_it_inflates_to(
    start_hub: StartHub, fleet: Fleet, message: bytes, code: int
) -> None:
    hub = await start_hub()
    socket = await compressing(hub, fleet, await fleet.new_device())
    frame = bytearray(Frame(Opcode.TEXT, deflated(message)).serialize(mask=True))
    frame[0] |= 0x40
    socket.transport.write(bytes(frame))
    with pytest.raises(ConnectionClosed):
        async with asyncio.timeout(10):
            await socket.recv()
    assert socket.close_code == code
