"""The bytes on the bus: read back as written, refused when they are anything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus import message
from shared.bus.message import (
    CANARY,
    CONNECTION,
    EVENT,
    FEED,
    NOTICE,
    REVOCATION,
    InvalidMessage,
    Message,
    connection_body,
    connection_message,
    decode,
    feed_id_of,
    feed_message,
)
from shared.protocol.position import EPOCH_MAX, SEQ_MAX

messages = st.builds(
    Message,
    kind=st.sampled_from([EVENT, CONNECTION, CANARY, NOTICE]),
    device_id=st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", fullmatch=True),
    epoch=st.integers(0, EPOCH_MAX),
    seq=st.integers(0, SEQ_MAX),
    body=st.binary(max_size=200),
).filter(lambda sent: sent.kind != EVENT or sent.body)


@given(messages)
def test_what_is_decoded_is_what_was_encoded(sent: Message) -> None:
    assert Message(*decode(sent.encode())) == sent


@given(st.binary(max_size=60))
def test_any_other_bytes_are_refused_and_nothing_else_happens(payload: bytes) -> None:
    try:
        kind, device_id, epoch, seq, body = decode(payload)
    except InvalidMessage:
        return
    assert Message(kind, device_id, epoch, seq, body).encode() == payload


def test_an_event_without_a_body_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        decode(Message(EVENT, "truck-7", 1, 1, b"").encode())
    assert decode(Message(REVOCATION, "truck-7", 0, 0, b"").encode())[0] == REVOCATION


@given(messages, st.integers(0, 13))
def test_a_message_that_is_cut_short_is_refused(sent: Message, length: int) -> None:
    with pytest.raises(InvalidMessage):
        decode(sent.encode()[:length])


def test_the_layout_stays_what_hubs_of_the_last_release_read() -> None:
    encoded = Message(EVENT, "truck-7", 3, 258, b"{}").encode()
    assert encoded == bytes([0x11, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2]) + b"truck-7{}"


@pytest.mark.parametrize("tag", [0x00, 0x10, 0x15, 0x1F, 0x21, 0xFF])
def test_an_unknown_version_or_kind_is_refused(tag: int) -> None:
    with pytest.raises(InvalidMessage):
        decode(bytes([tag]) + Message(EVENT, "truck-7", 1, 1, b"{}").encode()[1:])


def test_a_connection_message_names_the_instance_and_the_hub() -> None:
    sent = connection_message("truck-7", 42, "0192-run", "hub-2")
    kind, device_id, epoch, seq, body = decode(sent.encode())
    assert (kind, device_id, epoch, seq) == (CONNECTION, "truck-7", 0, 42)
    assert connection_body(body) == ("0192-run", "hub-2")


@pytest.mark.parametrize("body", [b"", b"no-hub", b"\xff\x00hub"])
def test_a_connection_body_that_makes_no_sense_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidMessage):
        connection_body(body)


def test_a_feed_message_names_the_feed() -> None:
    kind, device_id, *_, body = decode(feed_message("sharepoint:main").encode())
    assert (kind, device_id, feed_id_of(body)) == (FEED, "", "sharepoint:main")


@pytest.mark.parametrize("body", [b"", b"\xff", b"x" * 513])
def test_a_feed_body_that_makes_no_sense_names_none(body: bytes) -> None:
    assert feed_id_of(body) is None


def test_the_largest_event_fits_the_largest_message() -> None:
    largest = Message(EVENT, "a" * 64, 1, 1, b"x" * 256 * 1024).encode()
    assert len(largest) == message.MESSAGE_MAX_BYTES
