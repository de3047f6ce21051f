"""What a log line holds, and what it never holds."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry import logs

JWT = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImEifQ.eyJzdWIiOiJ0cnVjay03In0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers, root.level = handlers, level


@pytest.fixture
def lines() -> Callable[[], list[dict[str, Any]]]:
    stream = io.StringIO()
    logs.configure("hub-1", "info", json=True, stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_process_and_what_is_bound(lines: Callable[[], list[dict[str, Any]]]) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1", device_id="truck-7"):
        structlog.get_logger().info("sent", seq=4)
    structlog.get_logger().debug("not shown")
    (line,) = lines()
    assert line["event"] == "sent"
    assert line["level"] == "info"
    assert line["process"] == "hub-1"
    assert (line["request_id"], line["device_id"], line["seq"]) == ("r-1", "truck-7", 4)
    assert line["time"].endswith("Z")


def test_lines_of_libraries_come_the_same_way(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logging.getLogger("some.library").warning("odd %s", "thing")
    logging.getLogger("uvicorn.access").info("noise")
    (line,) = lines()
    assert (line["event"], line["logger"], line["level"], line["process"]) == (
        "odd thing",
        "some.library",
        "warning",
        "hub-1",
    )


@pytest.mark.parametrize(
    "name", ["token", "ticket", "Authorization", "password", "new_token", "database_dsn", "cookie"]
)
def test_a_field_named_like_a_secret_is_hidden(lines: Callable[[], list[dict[str, Any]]], name: str) -> None:
    structlog.get_logger().info("x", **{name: "s3cr3t-value"}, nested={name: "s3cr3t-value"})
    (line,) = lines()
    assert "s3cr3t-value" not in json.dumps(line)


@pytest.mark.parametrize(
    "text",
    [
        f"header ticket.{JWT}",
        f"GET /v1/socket?ticket={JWT}",
        "Bearer abcdefghijklmnop-s3cr3t-value",
        "redis://user:s3cr3t-value@host:6379/0 refused",
        "postgresql://u:s3cr3t-value@h/db",
        "PUT /f?sig=s3cr3t-value&x=1",
        "password=s3cr3t-value",
    ],
)
def test_text_shaped_like_a_secret_is_hidden_also_in_tracebacks_and_libraries(
    lines: Callable[[], list[dict[str, Any]]], text: str
) -> None:
    structlog.get_logger().info(text, detail=text, listed=[text], raw=text.encode())
    logging.getLogger("library").error("failed: %s", text)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed")
    written = json.dumps(lines())
    assert "s3cr3t-value" not in written
    assert JWT not in written
    assert "RuntimeError" in written


def test_a_fencing_number_and_ids_are_no_secrets(lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger().info("claimed", lease_token=7, token_id="abc", key_id="dev")
    (line,) = lines()
    assert (line["lease_token"], line["token_id"], line["key_id"]) == (7, "abc", "dev")


def test_people_see_one_line_in_which_nothing_can_pretend_to_be_another() -> None:
    stream = io.StringIO()
    logs.configure("api", json=False, stream=stream)
    structlog.get_logger().warning("refused", name="a\nb\x1b[31m fake line", n=1)
    shown = stream.getvalue()
    assert shown.count("\n") == 1
    assert "\x1b" not in shown
    assert "warning api: refused" in shown
    assert "n=1" in shown


def test_a_traceback_is_shown_to_people_line_by_line() -> None:
    stream = io.StringIO()
    logs.configure("api", json=False, stream=stream)
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "\nValueError: why\n" in stream.getvalue()


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(json_like)
def test_nothing_that_is_logged_can_stop_the_process(value: object) -> None:
    for as_json in (True, False):
        stream = io.StringIO()
        logs.configure("x", json=as_json, stream=stream)
        structlog.get_logger().info("x", value=value)
        assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("part", ["y", "-eyJ", "a:", "a://", "://", "Bearer ", "eyJaaaa.", "token=", "a@", " \t"])
def test_no_text_makes_the_search_for_secrets_slow(part: str) -> None:
    began = time.perf_counter()
    logs.redact(None, "info", {"event": part * 100_000})
    assert time.perf_counter() - began < 0.5


def test_a_long_value_is_cut(lines: Callable[[], list[dict[str, Any]]]) -> None:
    structlog.get_logger().info("x", value="y" * 100_000)
    (line,) = lines()
    assert len(line["value"]) < 20_000


_SIGNS = (
    "token= TOKEN= paſſword= sig= = Bearer BASıC baſic Basic :// postgresql://u: redis://x: p@h @ : "
    "eyJhbGciOi.eyJzdWIi.c2ln eyJ abcdefgh12 K İ ı truck-7"
)
_PIECES = st.sampled_from([*_SIGNS.split(), " ", "\n"])


@given(st.lists(_PIECES | st.text(max_size=4), max_size=8).map("".join))
def test_no_shape_of_a_secret_is_passed_over_because_its_sign_seemed_missing(text: str) -> None:
    expected = text
    for _, shape, replacement in logs._SHAPES:
        expected = shape.sub(replacement, expected)
    assert logs.redact(None, "info", {"text": text})["text"] == expected
