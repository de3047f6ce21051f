"""What the library's protocol is asked: where its parser stands, what a close says, which frames make a message."""

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from hub.server_protocol import REASON_MAX_BYTES, DeviceServerProtocol
from shared.protocol.close_codes import CloseCode


def asked() -> tuple[DeviceServerProtocol, ClientProtocol, Request]:
    """A handshake whose request is there and whose answer is not."""
    server = DeviceServerProtocol([])
    client = ClientProtocol(parse_uri("ws://hub/v1/socket"), subprotocols=[Subprotocol("fleetwire.v1")])
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    return server, client, request


def upgraded() -> tuple[DeviceServerProtocol, ClientProtocol]:
    server, client, request = asked()
    server.send_response(server.accept(request))
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()
    return server, client


def stand(server: DeviceServerProtocol) -> tuple[bool, bool]:
    return server.is_unanswered, server.is_between_messages


def test_a_handshake_is_unanswered_until_its_answer_is_written() -> None:
    server, _, request = asked()
    assert stand(server) == (True, False)
    server.send_response(server.accept(request))
    assert stand(server) == (False, True)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.PING])
def test_half_a_frame_is_not_between_messages(opcode: Opcode) -> None:
    server, client = upgraded()
    client.send_frame(Frame(opcode, b"hello"))
    data = b"".join(client.data_to_send())
    server.receive_data(data[:-1])
    assert not server.is_between_messages
    server.receive_data(data[-1:])
    assert server.is_between_messages


def received(server: DeviceServerProtocol, client: ClientProtocol, *frames: Frame) -> list[bytes | None]:
    for frame in frames:
        client.send_frame(frame)
    server.receive_data(b"".join(client.data_to_send()))
    return [server.join(event) for event in server.events_received() if isinstance(event, Frame)]


def test_frames_are_joined_to_messages() -> None:
    server, client = upgraded()
    assert received(server, client, Frame(Opcode.TEXT, b"whole")) == [b"whole"]
    assert received(server, client, Frame(Opcode.TEXT, b"a", fin=False), Frame(Opcode.CONT, b"b", fin=False)) == [
        None,
        None,
    ]
    assert not server.is_between_messages
    assert received(server, client, Frame(Opcode.CONT, b"c")) == [b"abc"]
    assert server.is_between_messages


def test_nothing_is_kept_of_a_binary_message() -> None:
    server, client = upgraded()
    frames = received(server, client, Frame(Opcode.BINARY, b"x" * 100, fin=False), Frame(Opcode.CONT, b"y", fin=False))
    assert frames[1:] == [None]
    assert server.is_between_messages


def test_nothing_is_a_message_behind_a_close_frame() -> None:
    server, client = upgraded()
    client.send_close(1000, "")
    server.receive_data(b"".join(client.data_to_send()))
    assert not server.is_between_messages


@pytest.mark.parametrize("reason", ["x" * 500, "ü" * 200, "\ud800" * 200])
def test_a_reason_is_clipped_to_what_a_close_frame_holds(reason: str) -> None:
    server, client = upgraded()
    server.say_goodbye(CloseCode.DRAINING, reason)
    client.receive_data(b"".join(server.data_to_send()))
    assert client.close_rcvd is not None
    assert client.close_rcvd.code == CloseCode.DRAINING
    assert REASON_MAX_BYTES - 3 <= len(client.close_rcvd.reason.encode()) <= REASON_MAX_BYTES


def test_only_the_first_goodbye_is_written() -> None:
    server, _ = upgraded()
    server.say_goodbye(CloseCode.DRAINING, "first")
    assert server.data_to_send()
    server.say_goodbye(CloseCode.REVOKED, "second")
    server.give_up(CloseCode.REVOKED, "third")
    assert server.data_to_send() == []


def test_garbage_is_answered_once_by_the_library_or_by_us() -> None:
    ours = DeviceServerProtocol([])
    ours.receive_data(b"\x16\x03\x01\x02\x00\x01\x00garbage\r\n\r\n")
    assert ours.handshake_exc is not None
    answer = ours.answer_to_garbage()
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(body) in head
    theirs = DeviceServerProtocol([])
    theirs.receive_data(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n")
    assert theirs.handshake_exc is not None
    assert theirs.answer_to_garbage() is None
