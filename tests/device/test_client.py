"""The client against a real socket server and a real HTTP server, in every kind of network that is not one."""

import asyncio
import logging
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from device import (
    Client,
    ConfigurationError,
    PositionFileError,
    PositionFileLocked,
    ProtocolRefused,
    Replaced,
    Reset,
    Revoked,
    State,
    StateChange,
    TokenRefused,
)
from device.position_file import PositionFile
from shared.protocol.position import Position
from tests.device.clients import DEADLINE_S, FAST, client_of, numbers, take, until
from tests.device.fleet import Fleet, make_event, problem


async def test_events_come_once_and_in_order_and_are_acked_after_the_body(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        await fleet.publish(40)
        events = await take(client, 40)
        await asyncio.wait_for(fleet.until_acked(40), DEADLINE_S)
    assert numbers(events) == list(range(1, 41))
    assert not any(event.redelivered for event in events)
    assert events[0].id == "event-1"
    assert events[0].data == {"n": 1}
    assert [via for via, _ in fleet.acks] == ["socket"] * len(fleet.acks)


async def test_nothing_is_acked_while_the_body_runs(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        await fleet.publish(3)
        async with asyncio.timeout(DEADLINE_S):
            async for event in client:
                assert all(seq < event.position.seq for _, seq in fleet.acks)
                await asyncio.sleep(0.1)  # longer than acks are gathered
                assert all(seq < event.position.seq for _, seq in fleet.acks)
                if event.position.seq == 3:
                    break
    assert fleet.acked == 2, "the body that was left by break has not ended"


async def test_acks_are_gathered(fleet: Fleet) -> None:
    fleet.ack_ms = 5000
    async with client_of(fleet) as client:
        await fleet.publish(64)
        await take(client, 64)
        await asyncio.wait_for(fleet.until_acked(64), DEADLINE_S)
    assert len(fleet.acks) <= 4
    assert all(seq % 16 == 0 for _, seq in fleet.acks)


async def test_a_cut_connection_costs_nothing_and_repeats_nothing(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        seen: list[int] = []
        await fleet.publish(30)
        for upto in (10, 20, 30):
            seen += numbers(await take(client, upto - len(seen)))
            fleet.hub_gate.cut()
        await fleet.publish(5)
        seen += numbers(await take(client, 5))
    assert seen == list(range(1, 36))
    attempts = [int(handshake["attempt"]) for handshake in fleet.handshakes]
    assert attempts == sorted(set(attempts)), "attempts rise"
    assert len({handshake["instance"] for handshake in fleet.handshakes}) == 1


async def test_a_body_that_raises_is_given_its_event_again_as_redelivered(fleet: Fleet) -> None:
    await fleet.publish(3)
    given: list[tuple[str, bool]] = []
    async with client_of(fleet) as client, asyncio.timeout(DEADLINE_S):
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the loop is what raises
            async for event in client:
                given.append((event.id, event.redelivered))
                if event.position.seq == 2:
                    raise ZeroDivisionError
        async for event in client:
            given.append((event.id, event.redelivered))
            if event.position.seq == 3:
                await client.finish(event)
                break
    assert given == [("event-1", False), ("event-2", False), ("event-2", True), ("event-3", False)]
    assert fleet.acked == 3


async def test_a_run_that_ends_inside_a_body_is_given_the_event_again_by_the_next_run(
    fleet: Fleet, tmp_path: Path
) -> None:
    await fleet.publish(3)
    async with client_of(fleet, tmp_path) as client, asyncio.timeout(DEADLINE_S):
        async for event in client:
            if event.position.seq == 2:
                break
    async with client_of(fleet, tmp_path) as client:
        events = await take(client, 2)
    assert [(event.id, event.redelivered) for event in events] == [("event-2", True), ("event-3", False)]
    assert fleet.handshakes[-1]["after"] == "1:1"


async def test_at_most_once_skips_the_event_and_says_so(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(3)
    async with client_of(fleet, tmp_path, delivery="at_most_once") as client, asyncio.timeout(DEADLINE_S):
        async for event in client:
            if event.position.seq == 2:
                break
    skipped: list[str] = []
    options = {"delivery": "at_most_once", "on_skipped": lambda event: skipped.append(event.id)}
    async with client_of(fleet, tmp_path, **options) as client:
        events = await take(client, 1)
        await asyncio.wait_for(fleet.until_acked(3), DEADLINE_S)
    assert skipped == ["event-2"]
    assert numbers(events) == [3]


async def test_the_first_frame_acks_what_was_finished_and_did_not_arrive(fleet: Fleet, tmp_path: Path) -> None:
    fleet.ack_ms = 60_000
    await fleet.publish(5)
    async with client_of(fleet, tmp_path) as client:
        await take(client, 3)
        fleet.hub_gate.freeze()  # the last acks are never carried
    assert fleet.acked == 0
    fleet.hub_gate.thaw()
    fleet.hub_gate.cut()
    async with client_of(fleet, tmp_path) as client:
        await asyncio.wait_for(fleet.until_acked(3), DEADLINE_S)
        assert numbers(await take(client, 2)) == [4, 5]
    assert fleet.first_frames[-1] == {"type": "ack", "seq": 3}


async def test_without_a_position_the_next_run_begins_at_what_was_acked(fleet: Fleet) -> None:
    await fleet.publish(4)
    async with client_of(fleet) as client:
        await take(client, 2)
    async with client_of(fleet) as client:
        assert numbers(await take(client, 2)) == [3, 4]
    assert "after" not in fleet.handshakes[-1]


@pytest.mark.parametrize("mode", ["refuse", "swallow", "silent", "200", "400", "502", "portal"])
async def test_a_socket_that_cannot_be_had_is_replaced_by_rest_and_taken_back(fleet: Fleet, mode: Any) -> None:
    await fleet.hub_gate.set(mode)
    await fleet.publish(5)
    async with client_of(fleet) as client:
        async with asyncio.timeout(10.0 / 20 + 4.0):  # 10 s, at the speed of the test, and what a loaded machine adds
            assert numbers(await take(client, 5)) == [1, 2, 3, 4, 5]
        assert client.state.state is State.REST
        await asyncio.wait_for(fleet.until_acked(5), DEADLINE_S)
        assert ("rest", 5) in fleet.acks
        await fleet.publish(2)
        assert numbers(await take(client, 2)) == [6, 7]
        await fleet.hub_gate.set("forward")
        async with asyncio.timeout(60.0 / 20 + 4.0):
            await client.wait_for_state(State.LIVE)
        await fleet.publish(2)
        assert numbers(await take(client, 2)) == [8, 9]
        await asyncio.wait_for(fleet.until_acked(9), DEADLINE_S)
        assert ("socket", 9) in fleet.acks


async def test_accepted_but_never_welcomed_counts_as_no_socket(fleet: Fleet) -> None:
    fleet.welcome = False
    await fleet.publish(2)
    async with client_of(fleet) as client:
        assert numbers(await take(client, 2)) == [1, 2]
        assert client.state.state is State.REST


async def test_flipping_between_socket_and_rest_loses_and_repeats_nothing(fleet: Fleet) -> None:
    rand = Random(11)
    total = 400
    seen: list[int] = []

    async def trouble() -> None:
        while True:
            await asyncio.sleep(rand.uniform(0.0, 0.15))
            match rand.randrange(6):
                case 0:
                    fleet.hub_gate.cut()
                case 1:
                    await fleet.hub_gate.set(rand.choice(["refuse", "502", "silent", "forward"]))
                case 2:
                    await fleet.close_sockets(rand.choice([1012, 4001, 4100, 4102]))
                case 3:
                    fleet.api_gate.cut()
                case _:
                    await fleet.hub_gate.set("forward")

    async def publisher() -> None:
        for _ in range(total // 10):
            await fleet.publish(10)
            await asyncio.sleep(rand.uniform(0.0, 0.1))

    async with client_of(fleet) as client, asyncio.timeout(DEADLINE_S * 2):
        tasks = [asyncio.create_task(trouble()), asyncio.create_task(publisher())]
        try:
            async for event in client:
                seen.append(event.position.seq)
                if event.position.seq == total:
                    await client.finish(event)
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await fleet.hub_gate.set("forward")
        await fleet.until_acked(total)
    assert seen == list(range(1, total + 1))
    assert {via for via, _ in fleet.acks} == {"socket", "rest"}


async def test_a_start_without_any_network_keeps_trying_and_says_so(fleet: Fleet) -> None:
    await fleet.hub_gate.set("refuse")
    await fleet.api_gate.set("refuse")
    states: list[State] = []
    async with client_of(fleet, on_state=lambda change: states.append(change.state)) as client:
        await asyncio.wait_for(client.wait_for_state(State.OFFLINE), DEADLINE_S)
        await fleet.publish(1)
        await fleet.hub_gate.set("forward")
        await fleet.api_gate.set("forward")
        client.hurry()
        assert numbers(await take(client, 1)) == [1]
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
    assert states[:2] == [State.CONNECTING, State.OFFLINE]
    assert states[-2:] == [State.LIVE, State.CLOSED]


async def test_a_captive_portal_does_not_end_the_client(fleet: Fleet) -> None:
    await fleet.hub_gate.set("portal")
    await fleet.api_gate.set("portal")
    async with client_of(fleet) as client:
        await asyncio.wait_for(client.wait_for_state(State.OFFLINE), DEADLINE_S)
        await fleet.hub_gate.set("forward")
        await fleet.api_gate.set("forward")
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)


async def test_a_half_open_socket_is_found_and_replaced(fleet: Fleet) -> None:
    fleet.heartbeat_s = 0.1
    async with client_of(fleet) as client:
        await fleet.publish(1)
        await take(client, 1)
        fleet.hub_gate.freeze()
        await fleet.publish(2)
        await until(lambda: client.state.state is not State.LIVE)
        fleet.hub_gate.thaw()
        assert numbers(await take(client, 2)) == [2, 3]


async def test_a_slow_body_says_that_it_is_still_working(fleet: Fleet) -> None:
    await fleet.publish(2)
    async with client_of(fleet) as client, asyncio.timeout(DEADLINE_S):
        async for event in client:
            if event.position.seq == 2:
                await until(lambda: len(fleet.acks) >= 3)
                await client.finish(event)
                break
    assert [seq for _, seq in fleet.acks][:3] == [1, 1, 1]


async def test_retention_is_said_by_a_reset_between_two_events(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(3)
    async with client_of(fleet, tmp_path) as client:
        await take(client, 3)
    await fleet.publish(7)
    await fleet.trim(8)
    order: list[str] = []

    async def on_reset(reset: Reset) -> None:
        await client.responses()
        order.append(f"reset {reset.position} {reset.reason}")

    async with client_of(fleet, tmp_path, on_reset=on_reset) as client:
        order += [str(event.position) for event in await take(client, 2)]
        await asyncio.wait_for(fleet.until_acked(10), DEADLINE_S)
    assert order == ["reset 1:8 retention", "1:9", "1:10"]


async def test_a_reset_that_the_application_fails_to_handle_is_said_again(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(3)
    async with client_of(fleet, tmp_path) as client:
        await take(client, 1)
    await fleet.trim(2)
    said: list[Reset] = []

    def on_reset(reset: Reset) -> None:
        said.append(reset)
        if len(said) < 3:
            raise ZeroDivisionError

    for _ in range(2):
        async with client_of(fleet, tmp_path, on_reset=on_reset) as client:
            with pytest.raises(ZeroDivisionError):
                await take(client, 1)
        assert fleet.acked == 1
    async with client_of(fleet, tmp_path, on_reset=on_reset) as client:
        assert numbers(await take(client, 1)) == [3]
    assert len(said) == 3


@pytest.mark.parametrize("way", ["socket", "rest"])
async def test_after_a_lost_log_what_was_seen_is_dropped_and_what_is_new_is_given(
    fleet: Fleet, tmp_path: Path, way: str
) -> None:
    resets: list[str] = []
    await fleet.publish(6)
    async with client_of(fleet, tmp_path, on_reset=lambda reset: resets.append(str(reset.position))) as client:
        assert numbers(await take(client, 6)) == [1, 2, 3, 4, 5, 6]
        if way == "rest":
            await fleet.hub_gate.set("refuse")
            await client.wait_for_state(State.REST)
        # Restored from a copy that ends at 4 and knows 2 as acked; then two other events take the numbers 5 and 6.
        await fleet.lose(4, acked=2)
        fleet.events += [make_event(5, event_id="other-5"), make_event(6, event_id="other-6")]
        events = await take(client, 2)
        await asyncio.wait_for(fleet.until_acked(6), DEADLINE_S)
    assert resets == ["2:2"]
    assert [(str(event.position), event.id) for event in events] == [("2:5", "other-5"), ("2:6", "other-6")]


async def test_two_events_of_one_epoch_may_share_an_id(fleet: Fleet) -> None:
    fleet.events += [make_event(1, event_id="same"), make_event(2, event_id="same")]
    async with client_of(fleet) as client:
        assert numbers(await take(client, 2)) == [1, 2]


async def test_replaced_by_another_client_is_the_end(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
        await fleet.close_sockets(4300, "replaced")
        with pytest.raises(Replaced):
            await take(client, 1)
        assert client.state.state is State.CLOSED
        assert len(fleet.handshakes) == 1


async def test_revoked_is_the_end_on_socket_and_rest(fleet: Fleet) -> None:
    fleet.api_refusals = [problem(403, detail="token is for truck-8")]
    async with client_of(fleet) as client:
        with pytest.raises(Revoked, match="truck-8"):
            await take(client, 1)


async def test_a_flapping_device_uses_rest_at_once_and_leaves_the_socket_alone(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
        await fleet.close_sockets(4103)
        await fleet.publish(2)
        assert numbers(await take(client, 2)) == [1, 2]
        assert client.state.state is State.REST
        assert len(fleet.handshakes) == 1


async def test_a_refused_token_is_renewed_by_the_callback(fleet: Fleet) -> None:
    asked: list[str] = []

    async def renew() -> str:
        asked.append("asked")
        return "token-1" if len(asked) == 1 else "token-2"

    await fleet.publish(1)
    async with client_of(fleet, token=renew) as client:
        assert numbers(await take(client, 1)) == [1]
        fleet.token = "token-2"
        await fleet.close_sockets(4200, "expired")
        await fleet.publish(1)
        assert numbers(await take(client, 1)) == [2]
    assert len(asked) == 2


async def test_a_refused_token_without_a_callback_is_the_end(fleet: Fleet) -> None:
    async with client_of(fleet, token="wrong") as client:
        with pytest.raises(TokenRefused):
            await take(client, 1)


async def test_a_sync_callback_that_fails_is_asked_again(fleet: Fleet) -> None:
    asked: list[str] = []

    def renew() -> str:
        asked.append("asked")
        if len(asked) < 3:
            raise OSError("no network")
        return "token-1"

    await fleet.publish(1)
    async with client_of(fleet, token=renew) as client:
        assert numbers(await take(client, 1)) == [1]


async def test_a_full_hub_is_asked_again_through_the_assignment(fleet: Fleet) -> None:
    status, headers, body = problem(503)
    fleet.refusals = [(status, {**headers, "Retry-After": "0"}, body)]
    await fleet.publish(1)
    async with client_of(fleet) as client:
        assert numbers(await take(client, 1)) == [1]
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
    tickets = [handshake["authorization"] for handshake in fleet.handshakes]
    assert tickets == ["Bearer ticket-1", "Bearer ticket-2"]


@pytest.mark.parametrize("status", [401, 404, 409, 426, 429, 500])
async def test_a_refusal_for_now_is_tried_again(fleet: Fleet, status: int) -> None:
    fleet.refusals = [problem(status)]
    async with client_of(fleet) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
    assert [handshake["attempt"] for handshake in fleet.handshakes] == ["1", "2"]


@pytest.mark.parametrize(
    ("refusal", "end"),
    [
        (problem(400, type="urn:fleetwire:problem:invalid-parameter", detail="mend this"), ProtocolRefused),
        (problem(403, detail="mend this"), Revoked),
    ],
)
async def test_a_refusal_for_good_is_the_end(
    fleet: Fleet, refusal: tuple[int, dict[str, str], bytes], end: type[Exception]
) -> None:
    fleet.refusals = [refusal]
    async with client_of(fleet) as client:
        with pytest.raises(end, match="mend this"):
            await take(client, 1)


async def test_a_hub_that_was_asked_without_the_upgrade_is_asked_again(fleet: Fleet) -> None:
    """A proxy took the headers on the way, and the hub's own 400 comes back: the next network may be better."""
    fleet.refusals = [problem(400, type="urn:fleetwire:problem:invalid-request")] * 3
    await fleet.publish(1)
    async with client_of(fleet) as client:
        assert numbers(await take(client, 1)) == [1]
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)


async def test_no_log_holds_a_token_a_ticket_or_a_signed_address(
    fleet: Fleet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.token = "secret-token"
    fleet.file_location = f"{fleet.store_url}/store/f-1?signature=secret-signature"
    await fleet.publish(1, data={"files": [fleet.file("photo.jpg", b"x" * 1000)]})
    servers = {"websockets.server", "asyncio"}
    with caplog.at_level(logging.DEBUG):
        async with client_of(fleet) as client:
            (event,) = await take(client, 1)
            await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
            await client.download(event.files[0], tmp_path)
            await fleet.close_sockets(4200, "expired")
            await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
            shown = repr(client)
    said = shown + "".join(record.getMessage() for record in caplog.records if record.name not in servers)
    for secret in ("secret", "ticket-"):
        assert secret not in said


@pytest.mark.parametrize("code", [1007, 1009, 4302])
async def test_a_client_that_says_something_wrong_does_not_say_it_again(fleet: Fleet, code: int) -> None:
    async with client_of(fleet) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
        await fleet.close_sockets(code, "protocol error")
        with pytest.raises(ProtocolRefused, match=str(code)):
            await take(client, 1)


async def test_a_hub_that_is_away_is_stepped_over_with_the_same_ticket(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    fleet.assigned = [f"ws://127.0.0.1:{port}/v1/socket", fleet.hub_url]
    async with client_of(fleet) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
    assert [handshake["authorization"] for handshake in fleet.handshakes] == ["Bearer ticket-1"]


async def test_a_hub_that_cannot_be_read_is_left_and_the_event_comes_by_rest(fleet: Fleet) -> None:
    """A frame above what the client takes: the socket breaks at the same event each time, REST carries it past."""
    await fleet.publish(1)
    await fleet.publish(1, data={"padding": "x" * 600_000})
    await fleet.publish(1)
    async with client_of(fleet) as client:
        assert numbers(await take(client, 3)) == [1, 2, 3]
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)


async def test_with_a_hub_alone_a_refused_token_is_renewed_too(fleet: Fleet) -> None:
    tokens = iter(["old", "token-1", "token-2"])
    async with Client("truck-7", token=lambda: next(tokens), socket_url=fleet.hub_url, timing=FAST) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
        fleet.token = "token-2"
        await fleet.close_sockets(4200, "expired")
        await fleet.publish(1)
        assert numbers(await take(client, 1)) == [1]


async def test_with_a_hub_alone_a_fixed_token_that_is_over_is_the_end(fleet: Fleet) -> None:
    async with Client("truck-7", token=fleet.token, socket_url=fleet.hub_url, timing=FAST) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
        await fleet.close_sockets(4200, "expired")
        with pytest.raises(TokenRefused):
            await take(client, 1)


@pytest.mark.parametrize("by_rest", [False, True])
async def test_a_position_far_below_the_cursor_brings_everything_and_then_live_events(
    fleet: Fleet, tmp_path: Path, by_rest: bool
) -> None:
    """The device's disk was restored from a copy: more than a window lies between its position and the cursor."""
    await fleet.publish(800)
    fleet.acked = 800
    file = PositionFile(tmp_path, "truck-7")
    file.reset(Position(1, 100))
    file.close()
    if by_rest:
        await fleet.hub_gate.set("refuse")
    async with client_of(fleet, tmp_path) as client:
        again = await take(client, 700)
        assert fleet.acked == 800, "an ack below the cursor does not move it"
        await fleet.publish(1)
        live = await take(client, 1)
        await asyncio.wait_for(fleet.until_acked(801), DEADLINE_S)
    assert numbers(again + live) == list(range(101, 802))
    assert [event.redelivered for event in live] == [False]
    if by_rest:
        posted = [seq for via, seq in fleet.acks if via == "rest"]
        assert posted[0] <= 800 < posted[-1]
        assert len([seq for seq in posted if seq <= 800]) <= 2, "acks that move nothing are not repeated"


async def test_a_position_that_cannot_be_written_ends_the_loop_and_acks_nothing(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(3)
    client = client_of(fleet, tmp_path)
    run = await client.start()
    file = run._ledger._file  # type: ignore[attr-defined]
    loop = aiter(client)
    await asyncio.wait_for(anext(loop), DEADLINE_S)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._fd)
    os.close(full)
    for _ in range(2):
        with pytest.raises(PositionFileError):
            await asyncio.wait_for(anext(loop), DEADLINE_S)
    await client.close()
    assert fleet.acks == []


async def test_an_ack_leaves_only_when_what_it_says_is_durable(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()
    real = os.fsync

    def slow(fd: int) -> None:
        begun.set()
        assert released.wait(DEADLINE_S)
        real(fd)

    async with client_of(fleet, tmp_path) as client:
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
        monkeypatch.setattr(os, "fsync", slow)
        await fleet.publish(20)
        await take(client, 20)
        assert await asyncio.to_thread(begun.wait, DEADLINE_S)
        assert fleet.acks == []
        released.set()
        await asyncio.wait_for(fleet.until_acked(20), DEADLINE_S)


async def test_a_hub_alone_is_enough(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(2)
    async with Client(
        "truck-7", token=fleet.token, socket_url=fleet.hub_url + "?hub=hub-1", folder=tmp_path, timing=FAST
    ) as client:
        assert numbers(await take(client, 1)) == [1]
        await fleet.hub_gate.set("refuse")
        await asyncio.wait_for(client.wait_for_state(State.OFFLINE), DEADLINE_S)
        await fleet.hub_gate.set("forward")
        assert numbers(await take(client, 1)) == [2]
    assert fleet.handshakes[0]["hub"] == "hub-1"
    assert fleet.handshakes[0]["authorization"] == "Bearer token-1"


async def test_moved_opens_a_second_socket_before_the_first_is_closed(fleet: Fleet) -> None:
    fleet.move_to = fleet.hub_url + "?hub=hub-2"
    states: list[StateChange] = []
    timing = replace(FAST, grace_s=DEADLINE_S)  # on a loaded machine REST would be first
    async with client_of(fleet, on_state=states.append, timing=timing) as client:
        await until(lambda: len(fleet.handshakes) == 2 and len(fleet.sockets) == 1)
        await fleet.publish(3)
        assert numbers(await take(client, 3)) == [1, 2, 3]
        assert [change.state for change in states] == [State.CONNECTING, State.LIVE]
    assert fleet.handshakes[1]["hub"] == "hub-2"
    assert fleet.handshakes[1]["authorization"] == "Bearer ticket-2"


async def test_the_token_does_not_move_to_another_origin(fleet: Fleet) -> None:
    fleet.move_to = "ws://127.0.0.2:9/v1/socket"
    async with Client("truck-7", token=fleet.token, socket_url=fleet.hub_url, timing=FAST) as client:
        await fleet.publish(1)
        assert numbers(await take(client, 1)) == [1]
        await until(lambda: fleet.move_to is None)
        assert client.state.state is State.LIVE
    assert len(fleet.handshakes) == 1


async def test_a_second_client_of_the_device_on_this_machine_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path):
        with pytest.raises(PositionFileLocked, match="process"):
            await client_of(fleet, tmp_path).start()


async def test_a_damaged_position_file_is_set_aside_and_the_acked_position_counts(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(4)
    async with client_of(fleet, tmp_path) as client:
        await take(client, 2)
    (tmp_path / "truck-7.position").write_bytes(b"garbage\n" * 20)
    async with client_of(fleet, tmp_path) as client:
        events = await take(client, 2)
    assert [(event.position.seq, event.redelivered) for event in events] == [(3, True), (4, True)]
    assert (tmp_path / "truck-7.position.corrupt").read_bytes().startswith(b"garbage")


async def test_one_loop_at_a_time(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        waiting = asyncio.create_task(anext(aiter(client)))
        await asyncio.wait_for(client.wait_for_state(State.LIVE), DEADLINE_S)
        with pytest.raises(RuntimeError, match="one loop"):
            await anext(aiter(client))
        waiting.cancel()


async def test_a_cancelled_wait_loses_nothing(fleet: Fleet) -> None:
    async with client_of(fleet) as client:
        loop = aiter(client)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(loop), 0.02)
        await fleet.publish(1)
        event = await asyncio.wait_for(anext(loop), DEADLINE_S)
    assert (event.position.seq, event.redelivered) == (1, False)


async def test_callbacks_that_raise_do_not_end_the_client(fleet: Fleet) -> None:
    def on_state(change: StateChange) -> None:
        raise ZeroDivisionError

    await fleet.publish(1)
    async with client_of(fleet, on_state=on_state) as client:
        assert numbers(await take(client, 1)) == [1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device_id": "Truck-7"}, "lower case"),
        ({"api": None}, "give api="),
        ({"api": "ftp://x"}, "http"),
        ({"api": "http://user:secret@x"}, "token="),
        ({"api": "https://x", "socket_url": "ws://x"}, "wss"),
        ({"delivery": "exactly_once"}, "delivery"),
    ],
)
def test_arguments_that_cannot_work_are_named(options: dict[str, Any], complaint: str) -> None:
    given: dict[str, Any] = {"device_id": "truck-7", "token": "t", "api": "http://127.0.0.1:1", **options}
    with pytest.raises(ConfigurationError, match=complaint):
        Client(given.pop("device_id"), **given)
