"""What is in flight is counted right, however the network cuts the bytes."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hub.compression import Deflater
from hub.wire import event_bytes
from loadtests.in_flight import InFlight
from shared.protocol.frames import Ack

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def event(seq: int, size: int) -> bytes:
    payload = b'{"type":"event","seq":%d,"event":{"data":"%b"}}' % (seq, b"x" * size)
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def ack(seq: int) -> bytes:
    return Frame(Opcode.TEXT, json.dumps({"type": "ack", "seq": Ack(seq).seq}).encode()).serialize(mask=True)


def feed(into: object, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        into(data[start : start + size])  # type: ignore[operator]


SIZES = st.one_of(st.integers(0, 300), st.just(66_000))


@settings(max_examples=40, deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=5), st.integers(40, 3000))
def test_frames_count_until_their_ack(sizes: list[int], piece: int) -> None:
    frames = [event(seq, size) for seq, size in enumerate(sizes, 1)]
    flight = InFlight()
    feed(flight.to_server, b"GET /v1/socket HTTP/1.1\r\n\r\n", piece)
    feed(flight.from_server, HEAD + Frame(Opcode.TEXT, b'{"type":"welcome"}').serialize(mask=False), piece)
    feed(flight.from_server, b"".join(frames), piece)
    whole = sum(map(len, frames))
    assert (flight.now, flight.peak, flight.peak_events) == (whole, whole, len(frames))
    feed(flight.to_server, ack(1) + Frame(Opcode.PONG, b"").serialize(mask=True), piece)
    assert flight.now == whole - len(frames[0])
    feed(flight.to_server, ack(len(frames)), piece)
    assert (flight.now, flight.peak, flight.sent) == (0, whole, whole)


def test_a_refusal_brings_no_frames() -> None:
    flight = InFlight()
    flight.from_server(b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + event(1, 10))
    assert flight.peak == 0


def test_a_compressed_frame_counts_as_what_it_was_before() -> None:
    flight = InFlight()
    body = b'{"data":"%b"}' % (b"x" * 5000)
    deflated = Deflater(threshold=512).event(7, body)
    assert deflated is not None
    flight.from_server(HEAD[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n" + deflated)
    assert flight.peak == len(event_bytes(7, body)) > 10 * len(deflated)
    flight.to_server(b"GET /v1/socket HTTP/1.1\r\n\r\n" + ack(7))
    assert flight.now == 0
