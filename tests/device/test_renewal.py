"""Tokens on a live socket: renewed in band before they end, with what opened the socket, and at once when they end."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device import Client, Revoked, State
from device.expiry import connection_expiry, instant
from device.renewal import Renewal
from tests.device.clients import DEADLINE_S, FAST, live, until
from tests.device.fleet import Fleet, jwt_like

PATIENT = replace(FAST, renew_again_s=5.0)  # where tries are counted: on a loaded machine an answer may take long


class Source:
    """Brings a token that holds a little longer each time it is asked; the server takes the newest."""

    def __init__(self, fleet: Fleet, life_s: float = 0.8) -> None:
        self.fleet = fleet
        self.life_s = life_s
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        token = self.fleet.token = jwt_like(exp=time.time() + self.life_s * 3 ** (self.asked - 1), n=self.asked)
        return token


def soon(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


async def test_a_token_is_renewed_in_band_before_it_ends(fleet: Fleet) -> None:
    source = Source(fleet, life_s=1.2)
    fleet.token_expires_at = soon(7200)
    async with Client("truck-7", token=source, socket_url=fleet.hub_url, timing=PATIENT, rand=Random(7)) as client:
        await live(client)
        await until(lambda: fleet.token_frames)
        assert fleet.token_frames == [fleet.token]
        assert source.asked == 2
        await fleet.publish(1)
        async for event in client:
            assert event.position.seq == 1
            break
        assert len(fleet.handshakes) == 1
        keeper = client._run._carrier._keeper  # type: ignore[union-attr]
        await until(lambda: (keeper.expires_at or 0) > time.time() + 7000)


async def test_a_socket_that_a_ticket_opened_is_renewed_by_another_ticket(fleet: Fleet) -> None:
    """The token is for the API's origin; no hub ever sees it."""
    source = Source(fleet, life_s=5.0)
    fleet.ticket_session_s = 1.2
    async with Client("truck-7", token=source, api=fleet.api_url, timing=PATIENT, rand=Random(7)) as client:
        await live(client)
        await until(lambda: fleet.token_frames)
        (ticket,) = fleet.token_frames
        assert connection_expiry(ticket) is not None
        assert ticket != fleet.token
        assert len(fleet.handshakes) == 1
    shown = [*fleet.token_frames, *(shake["authorization"] for shake in fleet.handshakes)]
    assert not any(fleet.token in text for text in shown)


async def test_a_refused_renewal_asks_the_source_again_while_the_old_token_lives(fleet: Fleet) -> None:
    source = Source(fleet, life_s=2.0)
    fleet.token_answers = [{"type": "error", "code": "token_refused", "detail": "not yet"}]
    async with Client("truck-7", token=source, socket_url=fleet.hub_url, timing=FAST, rand=Random(7)) as client:
        await live(client)
        await until(lambda: len(fleet.token_frames) >= 2)
        assert source.asked >= 3
        assert fleet.token_frames[0] != fleet.token_frames[1]
        assert client.state.state is State.LIVE
    assert len(fleet.handshakes) == 1


async def test_a_source_with_nothing_newer_is_asked_at_a_pace_and_nothing_is_sent(fleet: Fleet) -> None:
    fixed = fleet.token = jwt_like(exp=time.time() + 1.6)
    asked: list[float] = []

    def source() -> str:
        asked.append(time.monotonic())
        if len(asked) % 2 == 0:
            raise OSError("away")
        return fixed

    async with Client("truck-7", token=source, socket_url=fleet.hub_url, timing=FAST, rand=Random(7)) as client:
        await live(client)
        await until(lambda: len(asked) >= 3)
        assert client.state.state is State.LIVE
    gaps = [later - earlier for earlier, later in pairwise(asked[1:])]
    assert all(gap >= 0.9 * FAST.renew_again_s for gap in gaps)
    assert fleet.token_frames == []


@pytest.mark.parametrize("code", [4200, 4201])
async def test_an_ended_token_is_replaced_and_the_device_returns_at_once(fleet: Fleet, code: int) -> None:
    source = Source(fleet, life_s=1000.0)
    async with Client("truck-7", token=source, api=fleet.api_url, timing=FAST, rand=Random(7)) as client:
        await live(client)
        await fleet.close_sockets(code)
        await until(lambda: len(fleet.handshakes) == 2)
        await live(client)
        assert source.asked == 2


async def test_revoked_says_what_to_do(fleet: Fleet) -> None:
    async with Client("truck-7", token=fleet.token, api=fleet.api_url, timing=FAST) as client:
        await live(client)
        await fleet.close_sockets(4301, "token revoked")
        with pytest.raises(Revoked, match="get a new token"):
            await asyncio.wait_for(anext(aiter(client)), DEADLINE_S)


# -- reading a token


@pytest.mark.parametrize(
    ("token", "expiry"),
    [
        (jwt_like(exp=2000), 2000.0),
        (jwt_like(exp=60, session_exp=3600.5), 3600.5),
        (jwt_like(), None),
        (jwt_like(exp="soon"), None),
        (jwt_like(exp=-1), None),
        (jwt_like(exp=1e300), None),
        (jwt_like(exp=True), None),
        ("opaque", None),
        ("a.b", None),
        ("a.!.c", None),
        ("a.W10.c", None),
        ("..", None),
    ],
)
def test_the_expiry_is_read_and_never_believed_blindly(token: str, expiry: float | None) -> None:
    assert connection_expiry(token) == expiry


@settings(max_examples=40)
@given(st.text())
def test_no_text_in_place_of_a_token_or_a_time_raises(text: str) -> None:
    connection_expiry(text)
    connection_expiry(f"a.{text}.b")
    instant(text)


@given(st.integers(0, 2**32), st.floats(1, 1e7), st.floats(0, 1e6))
def test_a_renewal_is_due_before_the_end_and_not_long_before(seed: int, life_s: float, passed: float) -> None:
    renewal = Renewal(Random(seed), before_s=60.0, retry_base_s=5.0, retry_cap_s=100.0)
    renewal.on_credential(1e9 + life_s, 1e9)
    due = renewal.due(passed, 1e9 + passed)
    assert due is not None
    assert life_s - 75.001 <= due <= life_s
    assert due >= life_s * 0.68 - 0.001
    renewal.on_failed(due)
    again = renewal.due(due, 1e9 + due)
    assert again is not None
    assert due + 5.0 <= again


def test_a_token_that_is_over_by_our_clock_says_that_our_clock_is_wrong() -> None:
    renewal = Renewal(Random(1), before_s=60.0, retry_base_s=5.0, retry_cap_s=100.0)
    renewal.on_credential(1000.0, 2000.0)
    assert renewal.due(0.0, 2000.0) is None
    renewal.on_credential(None, 2000.0)
    assert renewal.due(0.0, 2000.0) is None


def test_a_clock_that_is_set_moves_the_renewal() -> None:
    renewal = Renewal(Random(1), before_s=60.0, retry_base_s=5.0, retry_cap_s=100.0)
    renewal.on_credential(5000.0, 1000.0)
    first, later = renewal.due(0.0, 1000.0), renewal.due(0.0, 3000.0)
    assert first is not None
    assert later is not None
    assert first - later == pytest.approx(2000.0)
