"""A device that connects too often: events by REST for the time it is told, said to people, then the socket again."""

import asyncio
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from device import Client, State, StateChange, Timing
from device.route import Route
from shared.protocol.close_codes import Return
from tests.device.clients import DEADLINE_S, FAST, take_numbers
from tests.device.fleet import Fleet, problem


def flapping(retry_after: str | None = "1") -> tuple[int, dict[str, str], bytes]:
    status, headers, body = problem(429, type="urn:fleetwire:problem:flapping", detail="too many connects")
    return status, headers | ({"Retry-After": retry_after} if retry_after else {}), body


async def wait_for(client: Client, state: State) -> None:
    await asyncio.wait_for(client.wait_for_state(state), DEADLINE_S)


async def test_refused_as_flapping_it_takes_events_by_rest_says_so_and_comes_back(fleet: Fleet) -> None:
    fleet.refusals = [flapping("1")]
    said: list[StateChange] = []
    options: dict[str, Any] = {"token": fleet.token, "api": fleet.api_url, "timing": FAST, "rand": Random(7)}
    async with Client("truck-7", on_state=said.append, **options) as client:
        await fleet.publish(2)
        assert await take_numbers(client, 2) == [1, 2]
        assert client.state.state is State.REST
        assert "connects too often" in client.state.detail
        client.hurry()  # a network that comes back again and again is what it was parked for
        assert await asyncio.wait_for(_after(fleet, client), DEADLINE_S) == 3
        assert len(fleet.handshakes) == 1
        await wait_for(client, State.LIVE)
        assert len(fleet.handshakes) == 2
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [4]
    assert [change.state for change in said][-2:] == [State.LIVE, State.CLOSED]
    assert sum("connects too often" in change.detail for change in said) >= 1


async def _after(fleet: Fleet, client: Client) -> int:
    await fleet.publish(1)
    return (await take_numbers(client, 1))[0]


async def test_parked_while_it_is_on_rest_already_is_said_as_well(fleet: Fleet) -> None:
    await fleet.hub_gate.set("refuse")
    said: list[StateChange] = []
    options: dict[str, Any] = {"token": fleet.token, "api": fleet.api_url, "timing": FAST, "rand": Random(7)}
    async with Client("truck-7", on_state=said.append, **options) as client:
        await wait_for(client, State.REST)
        fleet.refusals = [flapping("1")]
        await fleet.hub_gate.set("forward")
        async with asyncio.timeout(DEADLINE_S):
            while "connects too often" not in client.state.detail:
                await asyncio.sleep(0.005)
        assert client.state.state is State.REST
        await wait_for(client, State.LIVE)


async def test_another_429_is_no_parking(fleet: Fleet) -> None:
    fleet.refusals = [problem(429, type="urn:fleetwire:problem:too-many-handshakes")]
    options: dict[str, Any] = {"token": fleet.token, "api": fleet.api_url, "timing": FAST, "rand": Random(7)}
    async with Client("truck-7", **options) as client:
        await wait_for(client, State.LIVE)
        assert "too often" not in client.state.detail


async def test_with_a_hub_alone_it_only_waits(fleet: Fleet) -> None:
    fleet.refusals = [flapping("1")]
    async with Client("truck-7", token=fleet.token, socket_url=fleet.hub_url, timing=FAST, rand=Random(7)) as client:
        async with asyncio.timeout(DEADLINE_S):
            while "connects too often" not in client.state.detail:
                await asyncio.sleep(0.005)
        assert client.state.state is State.CONNECTING
        await wait_for(client, State.LIVE)


# -- the rule, with a fake clock

EVENTS = st.sampled_from(["rest_ok", "rest_failed", "rest_idle", "hurry", "failed"])


@given(
    st.integers(0, 2**32),
    st.one_of(st.none(), st.floats(-5, 1e9)),
    st.lists(st.tuples(EVENTS, st.floats(0, 20)), max_size=20),
    st.booleans(),
)
def test_nothing_but_time_ends_the_parking_and_time_does(
    seed: int, wish: float | None, steps: list[tuple[str, float]], by_close: bool
) -> None:
    timing = Timing()
    route = Route(Random(seed), 0.0, timing, has_rest=True)
    route.on_live(0.0, 5.0)
    if by_close:
        route.on_gone(Return.AFTER_BACKOFF, 4103, 100.0)
        low, high = timing.flapping_s, 2 * timing.flapping_s
    else:
        route.on_gone(Return.AFTER_BACKOFF, 1006, 90.0)
        route.on_flapping(100.0, wish)
        wished = timing.flapping_s if wish is None else min(max(0.0, wish), timing.retry_after_max_s)
        low, high = wished, 2 * timing.flapping_s if wish is None else 1.25 * wished
    until = route.socket_due
    assert 100.0 + low <= until <= 100.0 + high
    assert route.rest_due is not None
    assert route.rest_due <= 100.0 + timing.grace_s
    now = 100.0
    for step, passed in steps:
        now += passed
        match step:
            case "rest_ok":
                route.on_rest_ok(now)
            case "rest_idle":
                route.on_rest_ok(now, idle=True)
            case "rest_failed":
                route.on_rest_failed(now)
            case "failed":
                route.on_failed(now)
            case _:
                route.hurry(now)
        assert route.socket_due >= until
        assert (route.parked_s(now) > 0) == (now < until)
        assert route.socket_due <= max(until, now + timing.backoff_cap_s), "it comes back by itself"
