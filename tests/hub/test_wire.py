"""Frames made and read without the library are the library's frames."""

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hub.wire import ack_of, event_bytes, text_bytes
from shared.protocol.frames import Ack, decode_device_frame, event_frame


def library(payload: bytes) -> bytes:
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


@given(st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70_000]))
def test_text_is_framed_as_the_library_does_it(size: int) -> None:
    assert text_bytes(b"x" * size) == library(b"x" * size)


@given(st.integers(1, 2**53 - 1), st.sampled_from([2, 80, 90, 100, 1_998, 2_000, 2_013, 2_020, 65_480, 65_500, 70_000]))
def test_an_event_is_framed_as_the_library_does_it(seq: int, size: int) -> None:
    body = b"{" + b" " * (size - 2) + b"}"
    assert event_bytes(seq, body) == library(event_frame(seq, body))


@given(st.integers(0, 10**15 - 1), st.sampled_from(['{"type":"ack","seq":%d}', '{"type": "ack", "seq": %d}']))
def test_an_ack_in_its_usual_spellings_is_read_as_the_strict_decoder_reads_it(seq: int, spelling: str) -> None:
    text = (spelling % seq).encode()
    assert ack_of(text) == seq
    assert decode_device_frame(text) == Ack(seq)


@given(st.binary(max_size=40) | st.from_regex(rb'\{"type": ?"ack", ?"seq": ?[-+0-9.eE]{0,20}\}?', fullmatch=True))
def test_what_is_read_quickly_is_never_read_otherwise_by_the_strict_decoder(text: bytes) -> None:
    seq = ack_of(text)
    if seq is not None:
        assert decode_device_frame(text) == Ack(seq)
