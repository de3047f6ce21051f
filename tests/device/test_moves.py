"""Moving to another hub: two sockets for a while, each event once, and the old one until the new one is live."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device import Client, Replaced, State
from device.moves import Move, Moves
from tests.device.clients import DEADLINE_S, FAST, client_of, live, take_numbers, until
from tests.device.fleet import Fleet, problem

# Where a state or a number of tries is looked at: on a loaded machine REST may be first, and a try take long.
CALM = replace(FAST, grace_s=DEADLINE_S, open_s=DEADLINE_S, welcome_s=DEADLINE_S)


# -- the plan


def test_the_newest_wish_counts_and_only_while_its_socket_is_the_newest() -> None:
    moves = Moves(pace_s=5.0, after_max_s=60.0)
    assert moves.due is None
    moves.plan(1, "ws://a", 10.0, 100.0)
    moves.plan(1, "ws://b", 2.0, 101.0)
    assert moves.take(1, 103.0) == Move(1, "ws://b", 103.0, tries=1)
    assert moves.take(1, 104.0) is None
    moves.plan(1, "ws://c", 0.0, 104.0)
    assert moves.take(2, 109.0) is None, "another socket is live by now"
    moves.plan(2, "ws://d", 0.0, 110.0)
    assert moves.take(None, 110.0) is None, "none is live: whoever comes back asks the API"


def test_a_place_that_does_not_answer_is_tried_again_a_few_times_and_a_newer_wish_goes_first() -> None:
    moves, now, dues = Moves(pace_s=5.0, after_max_s=60.0), 0.0, []
    moves.plan(1, "ws://a", 0.0, 0.0)
    while moves.due is not None:
        dues.append(now := moves.due)
        move = moves.take(1, now)
        assert move is not None
        moves.failed(move, now, 1.0)
    assert dues == [0.0, 1.0, 3.0, 7.0]
    moves.plan(1, "ws://a", 0.0, 20.0)
    move = moves.take(1, 20.0)
    assert move is not None
    moves.plan(1, "ws://b", 0.0, 20.0)
    moves.failed(move, 20.0, 1.0)
    assert moves.take(1, 30.0) == Move(1, "ws://b", 25.0, tries=1)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-10, 1e9)), min_size=1, max_size=20))
def test_moves_keep_their_pace_and_no_delay_is_endless(wishes: list[tuple[float, float]]) -> None:
    moves, now, made = Moves(pace_s=5.0, after_max_s=60.0), 0.0, []
    for passed, after_s in wishes:
        now += passed
        moves.plan(1, "ws://a", after_s, now)
        assert moves.due is not None
        assert now <= moves.due <= now + 65.0
        if now >= moves.due:
            assert moves.take(1, now) is not None
            made.append(now)
    assert all(later - earlier >= 5.0 for earlier, later in pairwise(made))


# -- over real sockets


@pytest.mark.parametrize("supersede", [False, True])
async def test_events_flow_across_a_move_once_and_in_order(fleet: Fleet, supersede: bool) -> None:
    """Also when the old socket hears 4002 before the new one hears its welcome."""
    fleet.supersede = supersede
    states: list[State] = []

    async def publish() -> None:
        for _ in range(60):
            await fleet.publish(5)
            await asyncio.sleep(0.005)

    async with client_of(fleet, timing=CALM, on_state=lambda change: states.append(change.state)) as client:
        await live(client)
        publishing = asyncio.create_task(publish())
        seen = await take_numbers(client, 50)
        for url in (fleet.other_url, fleet.hub_url):
            before = len(fleet.handshakes)
            await fleet.move(url)
            await until(lambda before=before: len(fleet.handshakes) > before)
            seen += await take_numbers(client, 100)
        await publishing
        seen += await take_numbers(client, 50)
        await asyncio.wait_for(fleet.until_acked(300), DEADLINE_S)
        await until(lambda: len(fleet.sockets) == 1)
        assert client.state.state is State.LIVE
    assert seen == list(range(1, 301))
    assert states == [State.CONNECTING, State.LIVE, State.CLOSED], "a move is no news"
    assert fleet.other_gate.connections == 1
    assert {via for via, _ in fleet.acks} == {"socket"}


async def test_while_the_new_socket_waits_for_its_welcome_the_old_one_delivers_and_is_acked(fleet: Fleet) -> None:
    async with client_of(fleet, timing=CALM) as client:
        await live(client)
        fleet.welcome_after = asyncio.Event()
        await fleet.move(fleet.other_url)
        await until(lambda: len(fleet.sockets) == 2)
        await fleet.publish(3)
        assert await take_numbers(client, 3) == [1, 2, 3]
        await asyncio.wait_for(fleet.until_acked(3), DEADLINE_S)
        fleet.welcome_after.set()
        await until(lambda: len(fleet.sockets) == 1)
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [4]


@pytest.mark.parametrize(
    "refusal", [problem(503), problem(409), problem(403), problem(400, type="urn:fleetwire:problem:invalid-parameter")]
)
async def test_a_refused_move_leaves_the_old_socket_alone(
    fleet: Fleet, refusal: tuple[int, dict[str, str], bytes]
) -> None:
    async with client_of(fleet) as client:
        await live(client)
        fleet.refusals = [refusal] * 9
        await fleet.move(fleet.other_url)
        await until(lambda: len(fleet.handshakes) == 2)
        await fleet.publish(2)
        assert await take_numbers(client, 2) == [1, 2]
        assert client.state.state is State.LIVE
        fleet.refusals.clear()
        # The old one gives up waiting: back by the assignment.
        await fleet.close_sockets(4000, "moved")
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [3]
        await live(client)
    assert fleet.handshakes[-1]["authorization"].startswith("Bearer ticket-")


async def test_a_hub_that_is_just_starting_is_moved_to_when_it_is_up(fleet: Fleet) -> None:
    states: list[State] = []
    await fleet.other_gate.set("refuse")
    async with client_of(fleet, timing=CALM, on_state=lambda change: states.append(change.state)) as client:
        await live(client)
        await fleet.move(fleet.other_url)
        await until(lambda: len([path for _, path, _ in fleet.requests if path.endswith("/connection")]) == 3)
        await fleet.other_gate.set("forward")
        await until(lambda: fleet.other_gate.connections == 1)
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [1]
    assert states == [State.CONNECTING, State.LIVE, State.CLOSED]


async def test_a_move_that_hangs_leaves_the_old_socket_alone(fleet: Fleet) -> None:
    await fleet.other_gate.set("silent")
    async with client_of(fleet) as client:
        await live(client)
        await fleet.move(fleet.other_url)
        await until(lambda: fleet.other_gate.connections == 1)
        await fleet.publish(2)
        assert await take_numbers(client, 2) == [1, 2]
        assert client.state.state is State.LIVE


async def test_an_old_socket_that_ends_before_the_new_one_fails_is_replaced_by_rest_and_another(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        await live(client)
        fleet.supersede = True
        fleet.welcome = False  # the new one hears nothing, and the old one is told of it
        await fleet.move(fleet.other_url)
        await until(lambda: client.state.state is State.REST)
        await fleet.publish(2)
        assert await take_numbers(client, 2) == [1, 2]
        fleet.welcome = True
        await live(client)


async def test_replaced_by_another_client_during_a_move_ends_the_client_only_if_the_move_fails(fleet: Fleet) -> None:
    async with client_of(fleet, timing=CALM) as client:
        await live(client)
        fleet.welcome_after = asyncio.Event()
        await fleet.move(fleet.other_url)
        await until(lambda: len(fleet.sockets) == 2)
        (old, new) = sorted(fleet.sockets, key=lambda socket: "attempt=1" not in socket.request.path)  # type: ignore[union-attr]
        await old.close(4300, "replaced")
        fleet.welcome_after.set()  # the new one came after the other client: newest wins
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [1]
        fleet.welcome_after = asyncio.Event()
        await fleet.move(fleet.hub_url)
        await until(lambda: len(fleet.sockets) == 2)
        await new.close(4300, "replaced")
        await fleet.close_sockets(1012)
        with pytest.raises(Replaced):
            await take_numbers(client, 1)


async def test_of_several_wishes_the_newest_is_followed(fleet: Fleet) -> None:
    async with client_of(fleet, timing=CALM) as client:
        await live(client)
        await fleet.move("ws://127.0.0.1:9/v1/socket", after_ms=30_000)
        await fleet.move(fleet.other_url + "?hub=hub-2&zone=a%20b", after_ms=20)
        await until(lambda: len(fleet.handshakes) == 2)
        await until(lambda: len(fleet.sockets) == 1)
        assert (fleet.handshakes[1]["hub"], fleet.handshakes[1]["zone"]) == ("hub-2", "a b")
        assert fleet.handshakes[1]["authorization"] == "Bearer ticket-2"
        assert "after" not in fleet.handshakes[0]
        assert fleet.handshakes[1]["after"] == "1:0"


async def test_a_wish_of_a_socket_that_is_gone_is_not_followed(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        await live(client)
        moves = client._run._carrier._moves  # type: ignore[union-attr]
        await fleet.move(fleet.other_url, after_ms=200)
        await until(lambda: moves.due is not None)
        fleet.hub_gate.cut()
        await until(lambda: len(fleet.handshakes) == 2)
        await live(client)
        await until(lambda: moves.due is None)
        # A move that counts comes after one that was made, at the client's pace: by then it would be seen.
        await fleet.move(fleet.hub_url)
        await until(lambda: len(fleet.handshakes) == 3)
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [1]
        assert fleet.other_gate.connections == 0


async def test_a_wish_while_the_client_closes_is_not_followed(fleet: Fleet) -> None:
    client = client_of(fleet)
    await client.start()
    await live(client)
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    for socket in list(fleet.sockets):
        await socket.send('{"type":"moved","url":"' + fleet.other_url + '","after_ms":0,"reason":"drain"}')
    await asyncio.wait_for(closing, DEADLINE_S)
    assert len(fleet.handshakes) == 1


@pytest.mark.parametrize(
    "url", ["ftp://x/", "ws://user:secret@127.0.0.1:9/", "ws://", "wss://[", "", "x" * 5000, "ws://127.0.0.1:99999/"]
)
async def test_an_address_that_cannot_be_used_is_not_followed(fleet: Fleet, url: str) -> None:
    async with client_of(fleet) as client:
        await live(client)
        await fleet.move(url)
        await until(lambda: "cannot be used" in client._run._carrier.trouble)  # type: ignore[union-attr]
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [1]
        assert client.state.state is State.LIVE
    assert len(fleet.handshakes) == 1


async def test_absurd_numbers_in_a_wish_do_no_harm(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        await live(client)
        await fleet.move(fleet.other_url, after_ms=10**400)
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [1]
        assert client.state.state is State.LIVE


async def test_a_client_with_a_hub_alone_moves_within_its_origin_with_its_token(fleet: Fleet) -> None:
    async with Client("truck-7", token=fleet.token, socket_url=fleet.hub_url, timing=FAST) as client:
        await live(client)
        await fleet.move(fleet.hub_url + "?hub=hub-2")
        await until(lambda: len(fleet.handshakes) == 2 and len(fleet.sockets) == 1)
        assert fleet.handshakes[1]["hub"] == "hub-2"
        assert fleet.handshakes[1]["authorization"] == "Bearer token-1"
        await fleet.move(fleet.other_url)
        await until(lambda: "another origin" in client._run._carrier.trouble)  # type: ignore[union-attr]
        await fleet.publish(1)
        assert await take_numbers(client, 1) == [1]
        assert client.state.state is State.LIVE
    assert fleet.other_gate.connections == 0, "the token is not sent to another origin"


async def test_a_client_with_a_hub_and_an_api_moves_to_another_origin_by_ticket(fleet: Fleet) -> None:
    async with client_of(fleet, socket_url=fleet.hub_url) as client:
        await live(client)
        await fleet.move(fleet.other_url)
        await until(lambda: len(fleet.handshakes) == 2 and len(fleet.sockets) == 1)
        assert [shake["authorization"] for shake in fleet.handshakes] == ["Bearer token-1", "Bearer ticket-1"]


async def test_a_full_inbox_does_not_keep_a_new_socket_from_its_welcome(fleet: Fleet) -> None:
    """The hub's window begins anew on each socket, so an application that takes nothing may have all it holds."""
    async with client_of(fleet, timing=CALM) as client:
        await live(client)
        await fleet.publish(700)
        session = client._run.session  # type: ignore[union-attr]
        await until(lambda: session.waiting == 256)
        fleet.move_to = fleet.hub_url  # said right after the second welcome, before what fills the inbox
        await fleet.move(fleet.other_url)
        await until(lambda: session.room == 0)
        await until(lambda: session.newest == 3)
        assert session.room == 0
        assert await take_numbers(client, 700) == list(range(1, 701))
        await asyncio.wait_for(fleet.until_acked(700), DEADLINE_S)
