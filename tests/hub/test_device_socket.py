"""The shortcut past the library's parser changes nothing: any cut of the same bytes brings the same messages."""

import asyncio
import json
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.uri import parse_uri

from hub.census import Census
from hub.device_socket import DeviceSocket, SocketLimits
from hub.flusher import Flusher
from shared.protocol.close_codes import CloseCode


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.closing = False
        self.high = 0

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.data += data

    def write_eof(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None


class Owner:
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.messages: list[int | bytes] = []

    def on_ack(self, seq: int) -> None:
        self.messages.append(seq)

    def on_text(self, text: bytes) -> None:
        self.messages.append(text)

    def on_much(self) -> None: ...
    def on_closing(self) -> None: ...
    def on_lost(self, socket: DeviceSocket) -> None: ...


def opened() -> tuple[DeviceSocket, Owner, Transport]:
    owner, transport, asked = Owner(), Transport(), []
    socket = DeviceSocket(
        owner,
        Flusher(asyncio.get_running_loop()),
        on_request=lambda one, request: asked.append(request),
        limits=SocketLimits(5.0, 1.0, 10**6),
        census=Census(10),
    )
    socket.connection_made(cast("asyncio.BaseTransport", transport))
    client = ClientProtocol(parse_uri("ws://hub/v1/socket"), subprotocols=cast("Any", ["fleetwire.v1"]))
    client.send_request(client.connect())
    socket.data_received(b"".join(client.data_to_send()))
    (request,) = asked
    assert isinstance(request, Request)
    socket.accept(socket.judge_upgrade(request), b"\x81\x00")
    socket.flush()
    assert transport.data.startswith(b"HTTP/1.1 101 ")
    assert transport.data.endswith(b"\x81\x00")
    transport.data.clear()
    return socket, owner, transport


def masked(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin=fin).serialize(mask=True)


ACK = st.integers(0, 10**6).map(lambda seq: ([masked(Opcode.TEXT, b'{"type":"ack","seq":%d}' % seq)], seq))
TEXT = st.integers(0, 300).map(
    lambda size: ([masked(Opcode.TEXT, b"x" * size)], cast("int | bytes", b"x" * size)),
)
PARTS = st.lists(st.binary(max_size=5).map(lambda part: part.hex().encode()), min_size=2, max_size=4).map(
    lambda parts: (
        [
            masked(Opcode.TEXT if n == 0 else Opcode.CONT, part, fin=n == len(parts) - 1) + masked(Opcode.PING, b"p")
            for n, part in enumerate(parts)
        ],
        b"".join(parts),
    ),
)
PONG = st.just(([masked(Opcode.PONG, b"")], None))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ACK | TEXT | PARTS | PONG, max_size=12), st.lists(st.integers(0, 5000), max_size=12))
async def test_any_cut_of_the_same_bytes_brings_the_same_messages(
    sent: list[tuple[list[bytes], int | bytes | None]], cuts: list[int]
) -> None:
    socket, owner, _ = opened()
    data = b"".join(part for frames, _ in sent for part in frames)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        socket.data_received(data[start:end])
    assert owner.messages == [message for _, message in sent if message is not None]


async def test_a_pong_that_comes_whole_or_in_pieces_tells_the_round_trip_and_disturbs_no_message() -> None:
    for cuts in ([], [1], [2], [5]):
        socket, owner, transport = opened()
        socket.ping()
        socket.flush()
        assert bytes(transport.data) == Frame(Opcode.PING, b"").serialize(mask=False)
        pong = masked(Opcode.PONG, b"")
        for start, end in pairwise([0, *cuts, len(pong)]):
            assert not socket.rtt_s
            socket.data_received(pong[start:end])
        assert socket.rtt_s > 0
        socket.data_received(masked(Opcode.TEXT, b'{"type":"ack","seq":7}'))
        assert owner.messages == [7]
        assert socket.heard_frames == 2


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8))
async def test_arbitrary_bytes_never_raise(chunks: list[bytes]) -> None:
    socket, _, transport = opened()
    for chunk in chunks:
        if transport.closing:
            break
        socket.data_received(chunk)
    socket.connection_lost(None)
    assert not socket.is_open


async def test_nothing_is_written_behind_the_answer_to_a_close() -> None:
    socket, owner, transport = opened()

    class Answering(Owner):
        def on_text(self, text: bytes) -> None:
            super().on_text(text)
            socket.answer(b"\x81\x02no")

    socket.owner = owner = Answering()
    # Past the shortcut: a message in parts, then the close.
    parts = masked(Opcode.TEXT, b"wh", fin=False) + masked(Opcode.CONT, b"at")
    socket.data_received(parts + masked(Opcode.CLOSE, b"\x03\xe8"))
    socket.flush()
    assert owner.messages == [b"what"]
    assert bytes(transport.data) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x05hello", 1002),  # not masked
        (b"\xc1\x80\x00\x00\x00\x00", 1002),  # a reserved bit
        (b"\x83\x80\x00\x00\x00\x00", 1002),  # a reserved opcode
        (b"\x80\x80\x00\x00\x00\x00", 1002),  # continues nothing
        (b"\x89\xfe\x01\x00" + b"\x00" * 260, 1002),  # a long ping
        (b"\x81\xff\x00\x00\x00\x00\x7f\xff\xff\xff", 1009),  # 2 GB
        (masked(Opcode.BINARY, b"x"), 4302),
        (masked(Opcode.TEXT, b"\xff"), 1007),
        (masked(Opcode.TEXT, b"\xff" * 300), 1007),
        (masked(Opcode.TEXT, b"\xe2", fin=False) + masked(Opcode.CONT, b"\x28"), 1007),
    ],
    # Masks are random and a test's name must not be: those who share the tests out among processes go by it.
    ids=[
        "not masked",
        "reserved bit",
        "reserved opcode",
        "continues nothing",
        "long ping",
        "2 GB",
        "binary",
        "not UTF-8",
        "long, not UTF-8",
        "not UTF-8 across parts",
    ],
)
async def test_what_breaks_the_protocol_closes_with_its_code(frame: bytes, code: int) -> None:
    socket, owner, transport = opened()
    socket.data_received(frame)
    socket.flush()
    assert transport.data[0] == 0x88
    assert int.from_bytes(transport.data[2:4], "big") == code == socket.close_code
    assert owner.messages == []
    socket.data_received(masked(Opcode.TEXT, b"ignored"))
    assert owner.messages == ([] if code != 4302 else [b"ignored"])


async def test_a_message_inside_another_is_not_taken_past_the_parser() -> None:
    socket, owner, _ = opened()
    socket.data_received(masked(Opcode.TEXT, b"begun", fin=False))
    socket.data_received(masked(Opcode.TEXT, b'{"type":"ack","seq":1}'))
    assert (owner.messages, socket.close_code) == ([], 1002)


async def test_frames_of_one_turn_go_out_in_one_write() -> None:
    socket, _, transport = opened()
    writes: list[bytes] = []
    transport.write = lambda data: writes.append(bytes(data))  # type: ignore[method-assign]
    for number in range(5):
        socket.write(b"%d" % number)
    await asyncio.sleep(0)
    assert writes == [b"01234"]


async def test_acks_that_were_under_way_when_the_hub_closed_still_count() -> None:
    socket, owner, transport = opened()
    socket.close(CloseCode.DRAINING, "bye")
    socket.data_received(masked(Opcode.TEXT, json.dumps({"type": "ack", "seq": 7}).encode()))
    assert owner.messages == [7]
    socket.flush()
    assert int.from_bytes(transport.data[2:4], "big") == 4001
    socket.data_received(masked(Opcode.CLOSE, (4001).to_bytes(2, "big")))
    assert transport.closing


async def test_a_peer_for_which_more_waits_than_may_is_cut() -> None:
    socket, _, transport = opened()
    assert transport.high == 10**6
    socket.pause_writing()
    assert transport.closing
    assert (socket.is_open, socket.close_code) == (False, CloseCode.NO_PROGRESS)
