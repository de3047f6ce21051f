"""What a welcomed device may send and what it is answered; how its credential, its silence and its slowness end."""

import asyncio
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from shared.clock import monotonic
from shared.store import cursors
from shared.store.cursors import Ack
from shared.store.log_identity import raise_epoch
from shared.telemetry.metrics import HUB_RTT_SECONDS, HUB_WINDOW_STALL_SECONDS
from tests.hub.conftest import Device, Fleet, StartHub, ticket, token, until
from tests.hub.slow_link import SlowLink


async def connected(fleet: Fleet, start_hub: StartHub, **changes: str) -> tuple[str, Device]:
    hub = await start_hub(**changes)
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    return truck, device


ANSWERED = [
    ('{"type":"hello"}', "unknown_type"),
    ('{"seq":1}', "unknown_type"),
    ('{"type":"ack"}', "wrong_field"),
    ('{"type":"ack","seq":-1}', "wrong_field"),
    ('{"type":"ack","seq":1.5}', "wrong_field"),
    ('{"type":"ack","seq":"1"}', "wrong_field"),
    ('{"type":"ack","seq":true}', "wrong_field"),
    ('{"type":"ack","seq":99999999999999999999}', "wrong_field"),
    ('{"type":"ack","seq":"\\ud800"}', "wrong_field"),
    ('{"type":"ack","seq":1,"\\ud800":1}', "wrong_field"),
    ('{"type":"sync","ref":"r1","operations":"\\ud800"}', "wrong_field"),
    ('{"type":"x","ref":"\\ud800"}', "unknown_type"),
    ('{"type":"\\ud800\\u0000"}', "unknown_type"),
    ('{"type":"token"}', "wrong_field"),
    ('{"type":"token","token":"nonsense"}', "token_refused"),
    ('{"type":"token","token":"\\ud800.\\ud800.\\ud800"}', "token_refused"),
    ('{"type":"sync","ref":"\\ud800","operations":[]}', "wrong_field"),
    ('{"type":"sync","ref":"' + "r" * 200 + '","operations":[]}', "wrong_field"),
    ('{"type":"sync","ref":"r1"}', "wrong_field"),
    ('{"type":"sync","ref":"r1","operations":[]}', "wrong_field"),
    ('{"type":"sync","ref":"r1","operations":[7]}', "wrong_field"),
    ('{"type":"sync","ref":"r1","operations":[' + ",".join(["{}"] * 101) + "]}", "too_large"),
]
CLOSED: list[tuple[str | bytes, int]] = [
    (b"\x00binary", 4302),
    ("not json", 4302),
    ("[1]", 4302),
    ('{"type":"ack","seq":1,"seq":2}', 4302),
    ('{"type":"ack","seq":NaN}', 4302),
    ('{"' + "\U0001f69a" * 64 + '":1,"' + "\U0001f69a" * 64 + '":2}', 4302),
    ('{"\\ud800":1,"\\ud800":2}', 4302),
    ('{"type":"x","a":' + "[" * 17 + "]" * 17 + "}", 4302),
    ('{"type":"x","a":' + "[" * 30_000 + "]" * 30_000 + "}", 4302),
    ('{"type":"x","a":"' + "a" * 70_000 + '"}', 1009),
]


async def test_a_frame_that_makes_no_sense_is_answered_and_the_socket_stays(fleet: Fleet, start_hub: StartHub) -> None:
    truck, device = await connected(fleet, start_hub)
    for frame, code in ANSWERED:
        await device.socket.send(frame)
        answer = await device.frame()
        assert (answer["type"], answer["code"]) == ("error", code), frame
        assert answer["detail"]
        assert answer.get("ref") == ("r1" if '"r1"' in frame else None)
    await fleet.record(truck)
    assert await device.seqs(1) == [1]


async def test_a_frame_after_which_nothing_can_be_trusted_closes(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    for message, code in CLOSED:
        device = await fleet.connect(hub.url, await fleet.new_device())
        await device.welcome()
        await device.socket.send(message)
        assert await device.close_code() == code, message[:40]


@pytest.mark.parametrize("long", [False, True])
async def test_text_that_is_not_utf8_closes_1007(fleet: Fleet, start_hub: StartHub, long: bool) -> None:
    _, device = await connected(fleet, start_hub)
    await device.socket.send(b'{"type":"' + b"a" * (500 if long else 5) + b'\xff"}', text=True)
    assert await device.close_code() == 1007


async def test_a_message_in_parts_with_a_ping_between_is_one_message(fleet: Fleet, start_hub: StartHub) -> None:
    truck, device = await connected(fleet, start_hub)
    await fleet.record(truck, 3)
    await device.seqs(3)

    async def parts() -> AsyncIterator[str]:
        yield '{"type":"ack",'
        await device.socket.ping()
        yield '"seq":3}'

    await device.socket.send(parts())
    await fleet.until_acked(truck, 3)
    await device.socket.send([b"\x01", b"\x02"])
    assert await device.close_code() == 4302


async def test_acks_are_cumulative_and_never_go_back(fleet: Fleet, start_hub: StartHub) -> None:
    truck, device = await connected(fleet, start_hub)
    await fleet.record(truck, 10)
    await device.seqs(10)
    for seq in (7, 3, 7, 5):
        await device.ack(seq)
    await fleet.until_acked(truck, 7)
    await device.socket.close()
    assert await fleet.acked(truck) == 7


async def test_acks_are_written_at_once_when_the_device_goes(fleet: Fleet, start_hub: StartHub) -> None:
    truck, device = await connected(fleet, start_hub, FLEETWIRE_HUB_ACK_WRITE_S="60")
    await fleet.record(truck, 2)
    await device.seqs(2)
    await device.ack(2)
    await device.socket.close()
    await fleet.until_acked(truck, 2)


async def test_an_ack_above_the_head_is_answered_and_the_third_closes(fleet: Fleet, start_hub: StartHub) -> None:
    truck, device = await connected(fleet, start_hub)
    for _ in range(2):
        await device.ack(5)
        assert (await device.frame())["code"] == "ack_above_head"
    await device.ack(5)
    assert await device.close_code() == 4302
    assert await fleet.acked(truck) == 0


async def test_an_ack_by_rest_moves_the_session_on(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    # The bus tells of nothing: what the device fetched and acked by REST is known by the sweep alone.
    await fleet.record(truck, 5, publish=False)
    await cursors.record_acks(fleet.pool, [Ack(truck, 1, 5)])
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    await until(lambda: connection.session.acked == 5)
    await fleet.record(truck, 1)
    received = [0]
    while received[-1] < 6:
        received += await device.seqs(1)
    assert received == sorted(set(received))


async def test_a_device_that_acks_ahead_by_rest_may_ack_the_same_over_the_socket(
    fleet: Fleet, start_hub: StartHub
) -> None:
    truck, device = await connected(fleet, start_hub, FLEETWIRE_HUB_SWEEP_S="60", FLEETWIRE_HUB_SWEEP_DOUBT_S="60")
    await fleet.record(truck, 5, publish=False)
    await device.ack(5)
    await fleet.until_acked(truck, 5)
    await fleet.record(truck, 1)
    assert await device.seqs(1) == [6]


async def test_a_token_frame_renews_the_credential(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck, bearer=ticket(truck, session_s=1.9))
    await device.welcome()
    wrong = (token("other"), token(truck, scope="operator"), token(truck, scope="device operator"), ticket("other"))
    for refused in wrong:
        await device.socket.send(json.dumps({"type": "token", "token": refused}))
        assert (await device.frame())["code"] == "token_refused"
    for renewed in (token(truck, lifetime_s=3.9), ticket(truck, session_s=3.9)):
        await device.socket.send(json.dumps({"type": "token", "token": renewed}))
        assert (await device.frame())["type"] == "token_ok"
    began = asyncio.get_running_loop().time()
    assert await device.close_code() == 4200
    assert 1.9 <= asyncio.get_running_loop().time() - began <= 4.9


@pytest.mark.parametrize("kind", ["ticket", "token"])
async def test_a_connection_ends_when_its_credential_does(fleet: Fleet, start_hub: StartHub, kind: str) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    bearer = ticket(truck, session_s=1.9) if kind == "ticket" else token(truck, lifetime_s=1.9)
    device = await fleet.connect(hub.url, truck, bearer=bearer)
    await device.welcome()
    began = asyncio.get_running_loop().time()
    assert await device.close_code() == 4200
    # JWT times are whole seconds, so its life is 1 to 1.9 s.
    assert 0.5 <= asyncio.get_running_loop().time() - began <= 2.9


async def test_a_clock_that_is_set_ahead_ends_what_is_over_by_it(
    fleet: Fleet, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="20", FLEETWIRE_HUB_PONG_S="2")
    over, good = await fleet.new_device(), await fleet.new_device()
    device = await fleet.connect(hub.url, over, bearer=token(over, lifetime_s=600))
    other = await fleet.connect(hub.url, good, bearer=token(good, lifetime_s=6000))
    await device.welcome()
    await other.welcome()
    for module in ("hub.hub", "hub.connection"):
        monkeypatch.setattr(f"{module}.wall", lambda: time.time() + 1200)
    assert await device.close_code() == 4200
    await fleet.record(good)
    assert await other.seqs(1) == [1]


async def test_a_silent_device_is_pinged_and_one_that_answers_stays(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="0.2", FLEETWIRE_HUB_PONG_S="0.2")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    await until(lambda: connection.socket.heard >= 5)
    assert connection.socket.is_open


async def test_a_device_whose_program_has_stopped_is_given_up(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="0.2", FLEETWIRE_HUB_PONG_S="0.2")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    device.socket.transport.pause_reading()
    began = asyncio.get_running_loop().time()
    await until(lambda: hub.running.hub.registry.get(truck) is None)
    assert asyncio.get_running_loop().time() - began < 1.5


async def test_a_device_that_takes_nothing_is_closed_for_no_progress_and_costs_a_bounded_buffer(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="0.3", FLEETWIRE_HUB_PONG_S="0.2", FLEETWIRE_HUB_PATIENCE_S="1.5")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    device.socket.transport.pause_reading()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    began = asyncio.get_running_loop().time()
    for _ in range(8):
        await fleet.record(truck, 20, size=50_000)
    await until(lambda: connection.session.behind)
    assert connection.session.window.used_bytes <= 1024 * 1024
    await until(lambda: connection.socket.close_code is not None)
    assert connection.socket.close_code == 4100
    assert asyncio.get_running_loop().time() - began >= 1.5
    assert connection.socket.buffered <= 1024 * 1024 + 4096


async def test_devices_that_stop_reading_after_much_was_acked_cost_a_window_each_and_others_nothing(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(
        FLEETWIRE_HUB_SEND_BUFFER_BYTES="4096",
        FLEETWIRE_HUB_WINDOW_MAX_BYTES="262144",
        # Nobody is given up on while the others are still being made to stop.
        FLEETWIRE_HUB_HEARTBEAT_S="20",
        FLEETWIRE_HUB_PATIENCE_S="60",
    )
    trucks = [await fleet.new_device() for _ in range(4)]
    for truck in trucks:
        await fleet.record(truck, 40, size=10_000, publish=False)
    stopped = []
    for truck in trucks:
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        for seq in range(1, 41):
            assert await device.seqs(1) == [seq]
            await device.ack(seq)
        # Small, or the kernel at this end would take what is meant to wait in the hub.
        device.socket.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        device.socket.transport.pause_reading()
        stopped.append(hub.running.hub.registry.by_device[truck])
    await until(lambda: all(one.session.window.budget == 262144 for one in stopped))
    other = await fleet.new_device()
    device = await fleet.connect(hub.url, other)
    await device.welcome()
    for number in range(1, 41):
        for truck in trucks:
            await fleet.record(truck, 1, size=10_000)
        await fleet.record(other)
        assert await device.seqs(1) == [number]
        for one in stopped:
            assert one.socket.buffered <= 262144 + 8192
    await until(lambda: all(one.session.behind for one in stopped))
    assert all(one.socket.buffered > 65536 for one in stopped), "it is the hub that holds it"


async def test_a_slow_device_that_says_it_still_works_is_kept(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(
        FLEETWIRE_HUB_HEARTBEAT_S="0.3",
        FLEETWIRE_HUB_PONG_S="0.2",
        FLEETWIRE_HUB_PATIENCE_S="0.5",
        FLEETWIRE_HUB_WINDOW_EVENTS="4",
        FLEETWIRE_HUB_ACK_EVERY="4",
    )
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await fleet.record(truck, 20)
    assert await device.seqs(4) == [1, 2, 3, 4]
    for _ in range(15):
        await device.ack(0)
        await asyncio.sleep(0.1)
    await device.ack(4)
    assert await device.seqs(4) == [5, 6, 7, 8]


async def test_a_device_that_only_asks_and_never_reads_is_cut(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_WINDOW_MAX_BYTES="65536", FLEETWIRE_HUB_PATIENCE_S="30")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    device.socket.transport.pause_reading()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    highest = 0
    nonsense = json.dumps({"type": "x" * 50, "fill": "y" * 3000})
    with suppress(ConnectionClosed):
        async with asyncio.timeout(20):
            while True:
                await device.socket.send(nonsense)
                highest = max(highest, connection.socket.buffered)
    assert highest <= 65536 + 512 * 1024 + 65536
    assert connection.socket.close_code == 4101


async def test_the_window_bounds_what_is_in_flight_and_everything_arrives(fleet: Fleet, start_hub: StartHub) -> None:
    truck, device = await connected(fleet, start_hub)
    await fleet.record(truck, 2000, size=300, publish=False)
    received = 0
    while received < 2000:
        seqs = await device.seqs(1)
        assert seqs == [received + 1]
        received = seqs[0]
        if received % 16 == 0:
            await device.ack(received)
    await device.ack(received)
    await fleet.until_acked(truck, 2000)


async def test_a_device_that_falls_behind_again_has_its_whole_time_again(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="29", FLEETWIRE_HUB_PATIENCE_S="20")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    await fleet.record(truck, 300)
    await until(lambda: connection.session.behind)
    then = monotonic() + 29.0
    connection.visit(then, stood_still=False)
    await device.ack(300)
    await until(lambda: connection.session.is_live and not connection.session.behind)
    connection.visit(then + 4.0, stood_still=False)
    await fleet.record(truck, 300)
    await until(lambda: connection.session.behind)
    connection.visit(then + 30.0, stood_still=False)
    assert not connection.is_over
    connection.visit(then + 51.0, stood_still=False)
    assert await device.close_code() == 4100


async def test_an_event_of_the_largest_size_gets_through(fleet: Fleet, start_hub: StartHub) -> None:
    truck, device = await connected(fleet, start_hub)
    await fleet.record(truck, 2)
    await fleet.record(truck, 2, size=255 * 1024)
    await fleet.record(truck, 1)
    for seq in range(1, 6):
        assert await device.seqs(1) == [seq]
        await device.ack(seq)


async def test_events_for_a_device_that_has_said_goodbye_and_lingers_disturb_no_other(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_CLOSE_S="30")
    leaving, staying = await fleet.new_device(), await fleet.new_device()
    gone, device = await fleet.connect(hub.url, leaving), await fleet.connect(hub.url, staying)
    await gone.welcome()
    await device.welcome()
    # Its close frame comes, and then it neither reads nor ends the connection.
    gone.socket.transport.pause_reading()
    gone.socket.transport.write(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
    await until(lambda: (one := hub.running.hub.registry.get(leaving)) is not None and one.is_over)
    for _ in range(3):
        await fleet.record(leaving, 1)
        await fleet.record(staying, 1)
    assert await device.seqs(3) == [1, 2, 3]
    assert hub.running.hub.registry.get(leaving) is not None
    gone.socket.transport.abort()


async def test_fuzzed_bytes_after_the_upgrade_do_no_harm(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    for _ in range(40):
        truck = await fleet.new_device()
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        device.socket.transport.write(secrets.token_bytes(secrets.randbelow(400) + 1))
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await fleet.record(truck, 1)
    assert await device.seqs(1) == [1]


async def test_a_slow_link_is_not_taken_for_a_dead_one_while_it_carries_anything(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="0.3", FLEETWIRE_HUB_PONG_S="0.3", FLEETWIRE_HUB_PATIENCE_S="1.0")
    truck = await fleet.new_device()
    async with SlowLink(hub.url, bytes_per_second=28_000) as link:
        device = await fleet.connect(link.url, truck)
        await device.welcome()
        link.silent = True
        connection = hub.running.hub.registry.get(truck)
        assert connection is not None
        await fleet.record(truck, 100, size=400)
        # Three times the patience, and not a byte comes back.
        assert await device.seqs(100, 10.0) == list(range(1, 101))
        assert not connection.session.ended
        began = asyncio.get_running_loop().time()
        await until(lambda: hub.running.hub.registry.get(truck) is None)
        assert asyncio.get_running_loop().time() - began < 5


async def test_acks_by_rest_beside_a_socket_that_takes_nothing_do_not_fill_the_hub(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="5", FLEETWIRE_HUB_PONG_S="5", FLEETWIRE_HUB_PATIENCE_S="30")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    device.socket.transport.pause_reading()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    highest, seq = 0, 0
    while connection.socket.close_code is None and seq < 2000:
        seq = (await fleet.record(truck, 20, size=50_000))[-1].seq
        await cursors.record_acks(fleet.pool, [Ack(truck, 1, seq)])
        await until(lambda: connection.session.acked == connection.session.head or connection.is_done)
        highest = max(highest, connection.socket.buffered)
    assert connection.socket.close_code == 4100
    assert highest <= 2 * 1024 * 1024


async def test_a_log_whose_epoch_is_raised_ends_every_connection(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    devices = [await fleet.connect(hub.url, await fleet.new_device()) for _ in range(3)]
    for device in devices:
        await device.welcome()
    async with fleet.pool.acquire() as connection:
        await raise_epoch(connection, 1, "test")
    assert [await device.close_code() for device in devices] == [4102, 4102, 4102]


async def test_a_device_that_takes_little_is_soon_given_little_at_a_time(fleet: Fleet, start_hub: StartHub) -> None:
    stalled_before = HUB_WINDOW_STALL_SECONDS._sum.get()
    hub = await start_hub(FLEETWIRE_HUB_WINDOW_EVENTS="4096")
    truck = await fleet.new_device()
    await fleet.record(truck, 120, size=2000, publish=False)
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    window = connection.session.window
    await device.seqs(20)
    await until(lambda: connection.session.behind)
    seq = 0
    async with asyncio.timeout(15):
        while window.ceiling > 60_000:
            seq += 1
            await device.ack(seq)
            await asyncio.sleep(0.2)  # the pace of the device, about 10 kB/s
    assert window.budget <= window.ceiling
    # It goes on from there, and what it can do when it is quick is seen as well.
    await device.ack(20)
    async with asyncio.timeout(15):
        for expected in range(21, 121):
            assert await device.seqs(1) == [expected]
            await device.ack(expected)
    await fleet.until_acked(truck, 120)
    # A stall is counted when it ends, which need not be before the ceiling falls.
    assert HUB_WINDOW_STALL_SECONDS._sum.get() > stalled_before


async def test_the_welcome_says_the_heartbeat_of_a_device_that_flaps(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    said = []
    for _ in range(6):
        device = await fleet.connect(hub.url, truck)
        said.append((await device.welcome())["heartbeat_s"])
    assert said[0] == 1.0
    assert said == sorted(said, reverse=True)
    assert 0.5 <= said[-1] < 0.9
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    window = connection.session.window
    assert 16 * 1024 <= window.budget < 64 * 1024


async def test_a_ping_measures_the_round_trip(fleet: Fleet, start_hub: StartHub) -> None:
    _, device = await connected(fleet, start_hub)
    before = HUB_RTT_SECONDS._sum.get()
    assert device.socket.state.name == "OPEN"
    await until(lambda: HUB_RTT_SECONDS._sum.get() > before)
