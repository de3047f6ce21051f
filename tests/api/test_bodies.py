import asyncio
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from starlette.types import Message

from api.bodies import BodyBudget, ClientGone, convert_body, decode_body, expected_length, read_body
from api.problems import Problem
from tests.api.conftest import RunningApi, problem
from tests.api.raw import exchange


class Sender:
    """What arrives of a body, piece by piece; `None` is silence, `...` that the client goes."""

    def __init__(self, *pieces: bytes | None) -> None:
        self._pieces = list(pieces)
        self.taken = 0

    async def receive(self) -> Message:
        if not self._pieces:
            return {"type": "http.disconnect"}
        piece = self._pieces.pop(0)
        if piece is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError("never")
        self.taken += len(piece)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}


async def read(sender: Sender, *, limit: int = 10, deadline_s: float = 1, declared: int | None = None) -> bytes:
    headers = {} if declared is None else {b"content-length": [str(declared).encode()]}
    return await read_body(sender.receive, headers, limit=limit, deadline_s=deadline_s)


class Body(msgspec.Struct):
    number: int


@pytest.mark.parametrize("text", ['{"number":"\\ud800"}', '{"\\ud800":1}', '"\\ud800"', '{"number":"1"}'])
def test_a_value_of_another_kind_is_a_problem_even_if_it_is_half_a_character(text: str) -> None:
    with pytest.raises(Problem) as caught:
        convert_body(decode_body(text.encode()), Body)
    assert caught.value.slug == "invalid-body"


async def test_a_body_at_the_limit_is_read_whole() -> None:
    assert await read(Sender(b"12345", b"", b"67890")) == b"1234567890"


async def test_the_limit_holds_whatever_is_declared() -> None:
    for sender, declared in ((Sender(b"12345", b"678901"), None), (Sender(b"12345", b"678901"), 5), (Sender(b""), 11)):
        with pytest.raises(Problem) as caught:
            await read(sender, declared=declared)
        assert caught.value.slug == "too-large"
        assert caught.value.close


async def test_of_a_body_without_end_only_so_much_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.bodies.LINGER_MAX_BYTES", 1000)
    sender = Sender(*[b"x" * 100] * 100)
    with pytest.raises(Problem):
        await read(sender)
    assert sender.taken <= 1200


async def test_a_body_that_does_not_come_ends_at_the_deadline() -> None:
    with pytest.raises(Problem) as caught:
        await read(Sender(b"123", None), deadline_s=0.01)
    assert caught.value.slug == "request-timeout"


async def test_a_client_that_goes_is_not_answered() -> None:
    sender = Sender()
    with pytest.raises(ClientGone):
        await read(sender)


def test_the_budget_is_given_back_and_never_overdrawn() -> None:
    budget = BodyBudget(100)
    for _ in range(3):
        with budget.reserve(60):
            with pytest.raises(Problem) as caught, budget.reserve(41):
                pass
            assert caught.value.slug == "unavailable"
            with budget.reserve(40):
                pass
    assert expected_length({b"content-length": [b"5"]}, limit=10) == 5
    assert expected_length({b"content-length": [b"50"]}, limit=10) == 10
    assert expected_length({}, limit=10) == 10


async def test_a_publish_that_is_too_large_hears_so_while_it_is_still_sending(api: RunningApi) -> None:
    data = {"events": [{"device_id": "truck-7", "type": "T", "data": {"text": "x" * 6_000_000}}]}
    assert problem(await api.service.post("/api/v1/events", json=data), 413, "too-large")["limit"] == 4 * 1024 * 1024

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 65_536

    answer = await api.service.post(
        "/api/v1/events",
        content=endless(),
        headers={"Content-Type": "application/json"},
    )
    problem(answer, 413, "too-large")


async def test_one_that_asks_before_it_sends_is_not_asked_for_it(api: RunningApi) -> None:
    bearer = api.service.headers["authorization"].encode()
    answer = await exchange(
        api.settings.port,
        b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n" % bearer,
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.split(b"\r\n\r\n")[1])["type"] == "urn:fleetwire:problem:too-large"
