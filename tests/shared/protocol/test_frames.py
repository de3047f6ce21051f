"""Frames: what is taken, what is answered by an error, and what closes the socket."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.frames import (
    Ack,
    ErrorFrame,
    Event,
    FrameError,
    ProtocolViolation,
    Sync,
    Token,
    Welcome,
    decode_device_frame,
    decode_hub_frame,
    encode_frame,
    event_frame,
)
from shared.protocol.position import SEQ_MAX


@pytest.mark.parametrize("frame", [Ack(0), Ack(SEQ_MAX), Token("x"), Sync("r", [{"a": 1}])])
def test_a_device_frame_survives_the_wire(frame: Ack | Token | Sync) -> None:
    assert decode_device_frame(encode_frame(frame)) == frame


def test_a_hub_frame_survives_the_wire() -> None:
    welcome = Welcome("s", "hub-1", "1:4", 4, 9, 25.0, 256, 16, 500, 5.0)
    assert decode_hub_frame(encode_frame(welcome)) == welcome
    assert decode_hub_frame(encode_frame(ErrorFrame("c", "d"))) == ErrorFrame("c", "d")


def test_unknown_fields_are_ignored_and_unknown_hub_frames_are_no_error() -> None:
    assert decode_device_frame('{"type":"ack","seq":1,"later":true}') == Ack(1)
    assert decode_hub_frame('{"type":"someday","x":1}') is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"hello"}', "unknown_type"),
        ('{"seq":1}', "unknown_type"),
        ('{"type":7}', "unknown_type"),
        ('{"type":"ack"}', "wrong_field"),
        ('{"type":"ack","seq":"1"}', "wrong_field"),
        ('{"type":"ack","seq":1.5}', "wrong_field"),
        ('{"type":"ack","seq":true}', "wrong_field"),
        ('{"type":"ack","seq":-1}', "wrong_field"),
        ('{"type":"ack","seq":9007199254740992}', "wrong_field"),
        ('{"type":"ack","seq":null}', "wrong_field"),
        ('{"type":"sync","ref":"a","operations":{}}', "wrong_field"),
    ],
)
def test_a_wrong_frame_is_answered_by_an_error_that_names_what_is_wrong(text: str, code: str) -> None:
    with pytest.raises(FrameError) as caught:
        decode_device_frame(text)
    assert caught.value.code == code
    assert caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "", "ack", "[]", "7", "null", '"ack"', '{"type":"ack","seq":1', '{"type":"ack","seq":NaN}',
        '{"type":"ack","seq":1}x',
        '{"type":"ack","seq":1,"seq":2}', '{"type":"ack","type":"ack","seq":1}',
        '{"type":"ack","seq":1,"x":{"a":1,"a":1}}',
        '{"type":"ack","seq":1,"x":' + "[" * 16 + "]" * 16 + "}", "[" * 60000, '{"a":' * 20000,
    ],
)  # fmt: skip
def test_a_frame_that_is_not_one_json_object_closes_the_socket(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        decode_device_frame(text)


def test_nesting_to_the_limit_is_taken() -> None:
    text = '{"type":"ack","seq":1,"x":' + "[" * 15 + "]" * 15 + "}"
    assert decode_device_frame(text) == Ack(1)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("utf-8", "ignore")))
def test_no_text_does_worse_than_be_refused(text: str) -> None:
    try:
        decode_device_frame(text)
    except (FrameError, ProtocolViolation):
        pass


@given(st.integers(1, SEQ_MAX), st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=4))
def test_an_event_frame_is_a_prefix_around_the_recorded_bytes(seq: int, event: dict[str, object]) -> None:
    body = json.dumps(event).encode()
    framed = event_frame(seq, body)
    assert body in framed
    assert json.loads(framed) == {"type": "event", "seq": seq, "event": event}


def test_the_sdk_reads_an_event_frame() -> None:
    assert decode_hub_frame(event_frame(3, b'{"id":"x"}')) == Event(3, {"id": "x"})
