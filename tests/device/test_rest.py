"""What the API answers, and what something else answers in its place."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from device.actions import EventsPage, ResetSaid
from device.credential import Credential
from device.errors import ClientClosed, ProtocolRefused, Refused, Revoked, TokenRefused, Unreachable
from device.rest import PageTooLarge, Rest
from device.timing import Timing
from shared.protocol.position import Position
from tests.device.fleet import Fleet, problem

TYPE = "urn:fleetwire:problem:"
FAST = Timing().faster(20)


@pytest.fixture
async def rest(fleet: Fleet) -> AsyncIterator[Rest]:
    made = Rest(fleet.api_url, "truck-7", Credential(fleet.token, deadline_s=1.0), timing=FAST)
    yield made
    await made.close()


def said(body: Any, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, headers, body if isinstance(body, bytes) else json.dumps(body).encode()


async def test_a_page_and_a_reset(fleet: Fleet, rest: Rest) -> None:
    await fleet.publish(3)
    page = await rest.events(Position(1, 1), limit=10, wait_s=0)
    assert isinstance(page, EventsPage)
    assert [(event.seq, event.event["id"]) for event in page.events] == [(2, "event-2"), (3, "event-3")]
    assert (page.position, page.head, page.more) == (Position(1, 3), 3, False)
    await fleet.trim(2)
    assert await rest.events(Position(1, 1), limit=10, wait_s=0) == ResetSaid(Position(1, 2), "retention")


async def test_an_ack_of_another_epoch_or_above_the_head_does_not_stand(fleet: Fleet, rest: Rest) -> None:
    await fleet.publish(3)
    assert await rest.ack(Position(1, 2)) == Position(1, 2)
    fleet.epoch = 2
    assert await rest.ack(Position(1, 3)) is None
    fleet.api_refusals = [problem(422, head=3)]
    assert await rest.ack(Position(2, 9)) is None


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (problem(403, detail="not yours"), Revoked),
        (problem(400, type=f"{TYPE}invalid-parameter", detail="after: wrong"), ProtocolRefused),
        (problem(422, type=f"{TYPE}invalid-body", detail="position: wrong"), ProtocolRefused),
        (problem(400, type=f"{TYPE}invalid-request", detail="headers were taken on the way"), Refused),
        (problem(400), Refused),
        (problem(422, type=f"{TYPE}something-new"), Refused),
        (problem(404), Refused),
        (problem(500), Refused),
        (problem(503), Refused),
        (said(b"<html>login</html>", 403), Unreachable),
        (said(b"<html>login</html>", 200), Unreachable),
        (said(b"", 401), Unreachable),
        (said(b"", 302, Location="http://elsewhere.example/"), Unreachable),
        (said([]), Unreachable),
        (said({"position": "1:x", "head": 0, "events": []}), Unreachable),
        (said({"position": "1:1", "head": 1, "events": [{"seq": 1, "event": 5}]}), Unreachable),
        (said({"position": "1:1", "head": 1, "events": [{"seq": "1", "event": {}}]}), Unreachable),
        (said(b"\xff\xfe"), Unreachable),
        (said(b"x" * (11 * 1024 * 1024)), PageTooLarge),
        (problem(410), Unreachable),
        (problem(410, position="nonsense"), Unreachable),
        (said({"position": "1:1"}, 410), Unreachable),
    ],
)
async def test_every_answer_has_its_meaning(
    fleet: Fleet, rest: Rest, answer: tuple[int, dict[str, str], bytes], raised: type[Exception]
) -> None:
    fleet.api_refusals = [answer]
    with pytest.raises(raised):
        await rest.events(Position(1, 0), limit=10, wait_s=0)


async def test_only_answers_of_the_api_end_the_client() -> None:
    assert issubclass(Revoked, ClientClosed)
    assert issubclass(ProtocolRefused, ClientClosed)
    assert not issubclass(Unreachable, ClientClosed)
    assert not issubclass(Refused, ClientClosed)


async def test_retry_after_is_told(fleet: Fleet, rest: Rest) -> None:
    status, headers, body = problem(503, detail="no room")
    for text, seconds in (("7", 7.0), ("soon", None), ("-1", None)):
        fleet.api_refusals = [(status, {**headers, "Retry-After": text}, body)]
        with pytest.raises(Refused, match="no room") as refused:
            await rest.assignment()
        assert refused.value.retry_after == seconds


async def test_a_refused_token_is_renewed_once_per_request(fleet: Fleet) -> None:
    tokens = iter(["old", "older", fleet.token])
    rest = Rest(fleet.api_url, "truck-7", Credential(lambda: next(tokens), deadline_s=1.0), timing=FAST)
    with pytest.raises(Refused) as refused:
        await rest.assignment()
    assert refused.value.status == 401
    assert (await rest.assignment()).urls == (fleet.hub_url,)
    await rest.close()


async def test_a_fixed_token_that_is_refused_is_the_end(fleet: Fleet) -> None:
    rest = Rest(fleet.api_url, "truck-7", Credential("wrong", deadline_s=1.0), timing=FAST)
    with pytest.raises(TokenRefused):
        await rest.assignment()
    await rest.close()


@pytest.mark.parametrize("mode", ["refuse", "swallow", "silent", "502"])
async def test_no_answer_comes_to_an_end_in_time(fleet: Fleet, rest: Rest, mode: Any) -> None:
    await fleet.api_gate.set(mode)
    with pytest.raises(Unreachable):
        await rest.assignment()


@pytest.mark.parametrize(
    "answer",
    [
        {"url": "http://h/v1/socket", "ticket": "t"},
        {"url": "ws://u:p@h/", "ticket": "t"},
        {"url": "ws://h/", "ticket": "t\r\nX: y"},
        {"url": "ws://h/", "ticket": "t", "alternatives": [{"url": "gopher://h"}]},
        {"ticket": "t"},
    ],
)
async def test_an_assignment_is_checked_before_it_is_used(fleet: Fleet, rest: Rest, answer: dict[str, Any]) -> None:
    fleet.api_refusals = [said(answer)]
    with pytest.raises(Unreachable):
        await rest.assignment()


async def test_few_alternatives_are_tried_and_none_twice(fleet: Fleet, rest: Rest) -> None:
    alternatives = [{"hub": f"h{n}", "url": f"ws://h{n % 5}/"} for n in range(9)]
    fleet.api_refusals = [said({"url": "ws://h0/", "ticket": "t", "alternatives": alternatives})]
    assert (await rest.assignment()).urls == ("ws://h0/", "ws://h1/", "ws://h2/")


async def test_no_redirect_is_followed_with_the_token(fleet: Fleet, rest: Rest) -> None:
    fleet.file_location = fleet.api_url + "/api/v1/devices/truck-7/connection"
    assert await rest.file_location("/api/v1/files/f-1") == fleet.file_location
    assert len(fleet.requests) == 1
