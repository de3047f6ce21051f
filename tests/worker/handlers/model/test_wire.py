"""Streams as servers send them, cut anywhere, and what is none."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.handlers.model.wire import LINE_MAX, BadStream, Prepared, StreamReader, body_of, error_of, whole_reply


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text is not None else {}, "finish_reason": finish}
    return b"data: " + json.dumps({"model": "m", "choices": [choice], **more}).encode() + b"\n\n"


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
WHOLE = b": hello\r\n\r\n" + chunk("Grüß ") + chunk("Gott\n") + chunk(finish="stop") + USAGE + b"data: [DONE]\n\n"


@given(st.lists(st.integers(0, len(WHOLE))))
def test_where_a_stream_is_cut_into_pieces_does_not_matter(cuts: list[int]) -> None:
    reader = StreamReader()
    places = [0, *sorted(cuts), len(WHOLE)]
    for begin, end in pairwise(places):
        reader.feed(WHOLE[begin:end])
    reply = reader.reply()
    assert (reply.text, reply.finish_reason, reply.model) == ("Grüß Gott\n", "stop", "m")
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 4)


@given(st.integers(0, len(WHOLE) - 2))
def test_a_stream_that_ends_too_early_is_no_answer(length: int) -> None:
    reader = StreamReader()
    reader.feed(WHOLE[:length])
    with pytest.raises(BadStream):
        reader.reply()


@given(st.binary(max_size=200))
def test_whatever_comes_it_is_read_or_refused(noise: bytes) -> None:
    reader = StreamReader()
    try:
        reader.feed(b"data: " + noise + b"\n\n")
    except BadStream:
        pass


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"error": {"message": "overloaded", "code": "busy"}}\n\n',
        b"data: [1]\n\n",
        b"data: \xff\n\n",
        b'data: {"usage": {"prompt_tokens": -1}}\n\n',
        b"x" * (LINE_MAX + 1),
    ],
    ids=["error", "shape", "encoding", "negative", "endless"],
)
def test_what_is_not_as_the_interface_says_is_refused(stream: bytes) -> None:
    with pytest.raises(BadStream):
        StreamReader().feed(stream)


def test_the_first_word_is_text_and_not_a_role() -> None:
    reader = StreamReader()
    reader.feed(b": still there\n\n" + chunk(""))
    assert not reader.begun
    reader.feed(chunk("a"))
    assert reader.begun


def test_an_answer_that_is_not_streamed_is_read_as_well() -> None:
    body = {"model": "m", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    assert whole_reply(json.dumps(body).encode()).text == "hi"
    with pytest.raises(BadStream):
        whole_reply(b'{"choices": []}')


def test_errors_are_read_from_any_shape() -> None:
    assert error_of(b'{"error": {"code": "c", "message": "m"}}') == ("c", "m")
    assert error_of(b'{"error": {"type": "t"}}') == ("t", "")
    assert error_of(b'{"error": "m"}') == ("", "m")
    assert error_of(b"<html>") == error_of(b'{"error": [1]}') == error_of(b"[]") == ("", "")


def test_a_request_asks_for_a_stream_that_is_counted() -> None:
    prepared = Prepared([{"role": "user", "content": "x"}], 1, temperature=0.5)
    assert json.loads(body_of(prepared, model="m", max_tokens=9)) == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
    }
