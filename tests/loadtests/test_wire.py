"""The driver's frames, read in whatever pieces the network makes of them."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from loadtests.driver.wire import TEXT, FrameReader, handshake, masked_frame


@given(st.lists(st.binary(max_size=70000), max_size=4), st.integers(1, 5000))
def test_frames_survive_any_fragmentation(payloads: list[bytes], size: int) -> None:
    stream = b"".join(Frame(Opcode.TEXT, payload).serialize(mask=False) for payload in payloads)
    reader, found = FrameReader(), []
    for start in range(0, len(stream), size):
        found += [payload for _, payload in reader.feed(stream[start : start + size])]
    assert found == payloads


def test_what_the_driver_writes_is_what_a_strict_server_reads() -> None:
    server = ServerProtocol(subprotocols=["fleetwire.v1"])  # type: ignore[list-item]
    server.receive_data(handshake("127.0.0.1", "/v1/socket?device_id=a", "token"))
    (request,) = server.events_received()
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    for payload in (b"x", b"y" * 200, b"z" * 70000):
        server.receive_data(masked_frame(TEXT, payload))
        (frame,) = server.events_received()
        assert isinstance(frame, Frame)
        assert frame.data == payload
