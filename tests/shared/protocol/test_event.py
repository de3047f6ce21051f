"""Events are encoded once, within their limit."""

import json

import pytest

from shared.protocol.event import EVENT_MAX_BYTES, EventTooLarge, InvalidEvent, body_hash, encode_event


def encode(data: dict[str, object], *, event_id: str = "e1", time: str = "2026-01-01T00:00:00Z") -> bytes:
    return encode_event(event_id=event_id, event_type="ResponseReady", source="/x", time=time, data=data)


def test_an_event_is_a_cloudevent() -> None:
    event = json.loads(encode({"a": "ä"}))
    assert event["specversion"] == "1.0"
    assert (event["type"], event["id"], event["source"], event["data"]) == ("ResponseReady", "e1", "/x", {"a": "ä"})
    assert "traceparent" not in event


def test_an_event_over_the_limit_is_refused_and_one_at_the_limit_is_not() -> None:
    room = EVENT_MAX_BYTES - len(encode({"a": ""}))
    assert len(encode({"a": "x" * room})) == EVENT_MAX_BYTES
    with pytest.raises(EventTooLarge):
        encode({"a": "x" * (room + 1)})


@pytest.mark.parametrize("data", [{"a": object()}, {"a": "\ud800"}, {1: 2}])
def test_what_is_not_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(InvalidEvent):
        encode(data)


def test_the_hash_of_a_body_covers_content_and_not_stamps() -> None:
    assert body_hash("T", {"a": 1, "b": 2}) == body_hash("T", {"b": 2, "a": 1})
    assert body_hash("T", {"a": 1}) != body_hash("T", {"a": 2})
    assert body_hash("T", {"a": 1}) != body_hash("U", {"a": 1})
