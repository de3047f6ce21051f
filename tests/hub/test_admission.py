"""Limits at the door, by arithmetic and by real sockets: how fast devices come in, from where, and how often."""

import asyncio
import json
import random
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hub.admission import Addresses, Admission, AdmissionLimits
from hub.refusals import Refusal
from hub.trusted_proxies import TrustedProxies
from shared.telemetry.metrics import HUB_HANDSHAKES_REFUSED
from tests.hub.conftest import Fleet, StartHub, ticket, token, until

LIMITS = AdmissionLimits(per_s=10, burst=5, address_sockets=3, address_per_s=1, address_burst=2)


def admission(limits: AdmissionLimits = LIMITS, *, proxies: str = "") -> Admission:
    return Admission(limits, TrustedProxies.parse(proxies), 0.0)


def slug(refusal: Refusal | None) -> str | None:
    return refusal.slug if refusal is not None else None


def test_a_burst_comes_in_and_then_so_many_a_second() -> None:
    door = admission()
    assert [slug(door.judge("", 0.0)) for _ in range(7)] == [None] * 5 + ["crowded"] * 2
    assert [slug(door.judge("", 0.2)) for _ in range(3)] == [None, None, "crowded"]
    assert [slug(door.judge("", 100.0)) for _ in range(6)] == [None] * 5 + ["crowded"]


def test_a_wave_that_is_sent_away_comes_back_at_the_rate_and_not_at_once() -> None:
    door, rand = admission(AdmissionLimits(100, 100, 10, 0, 1)), random.Random(7)
    times = [0.0] * 2000
    admitted_at = []
    for _ in range(40):
        again = []
        for now in sorted(times):
            refusal = door.judge("", now)
            if refusal is None:
                admitted_at.append(now)
            else:
                again.append(now + int(refusal.headers(luck=rand.random())["Retry-After"]))
        times = again
    assert len(admitted_at) == 2000
    # At 100 a second the last could come in after 19 s; nobody is kept for ever.
    assert max(admitted_at) < 80


def test_an_address_over_its_own_limit_takes_nothing_from_the_others() -> None:
    door = admission()
    greedy = door.arrive("203.0.113.9", 0.0)
    assert greedy == "203.0.113.9"
    verdicts = [door.judge(greedy, 0.0) for _ in range(50)]
    assert [slug(one) for one in verdicts] == [None] * 2 + ["address-limited"] * 48
    assert [slug(door.judge("198.51.100.1", 0.0)) for _ in range(2)] == [None, None]


def test_sockets_of_an_address_are_counted_until_they_are_gone() -> None:
    door = admission(AdmissionLimits(1000, 1000, 3, 0, 1))
    addresses = [door.arrive("203.0.113.9", 0.0) for _ in range(7)]
    assert addresses == ["203.0.113.9"] * 6 + [None]
    refusal = door.judge("203.0.113.9", 0.0)
    assert refusal is not None
    assert (refusal.status, refusal.label) == (429, "address-sockets")
    for _ in range(3):
        door.leave("203.0.113.9")
    assert door.judge("203.0.113.9", 0.0) is None


def test_behind_a_trusted_proxy_the_client_is_counted_and_not_the_proxy() -> None:
    door = admission(proxies="10.0.0.0/8")
    for _ in range(20):
        assert door.arrive("10.0.0.1", 0.0) == ""
    assert door.identify("10.0.0.1", ["198.51.100.1"], 0.0) == "198.51.100.1"
    assert door.addresses.sockets("198.51.100.1") == 1
    door.leave("198.51.100.1")
    assert door.addresses.sockets("198.51.100.1") == 0


def test_addresses_are_remembered_in_bounded_number_and_those_with_sockets_stay() -> None:
    book = Addresses(1, 5, most=10)
    book.came("kept", 0.0)
    for number in range(1000):
        book.take(f"a{number}", 0.0)
    assert len(book) == 10
    assert book.sockets("kept") == 1
    for number in range(50):
        book.came(f"open{number}", 0.0)
    assert all(book.sockets(f"open{number}") == 1 for number in range(50))
    book.went("nobody")


async def test_more_handshakes_than_the_hub_takes_are_sent_away_for_a_while(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HANDSHAKES_PER_S="0.1", FLEETWIRE_HUB_HANDSHAKES_BURST="2")
    for _ in range(2):
        await (await fleet.connect(hub.url, await fleet.new_device())).welcome()
    for _ in range(3):
        refused = await fleet.refused(hub.url, await fleet.new_device())
        assert (refused.status, refused.problem["type"]) == (503, "urn:fleetwire:problem:crowded")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60


async def test_one_address_cannot_take_all_sockets_and_the_proxys_word_tells_addresses_apart(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_ADDRESS_SOCKETS="2", FLEETWIRE_TRUSTED_PROXIES="127.0.0.1")
    mine, theirs = {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "203.0.113.9, 198.51.100.1"}
    devices = [await fleet.connect(hub.url, await fleet.new_device(), headers=mine) for _ in range(2)]
    refused = await fleet.refused(hub.url, await fleet.new_device(), headers=mine)
    assert (refused.status, refused.problem["type"]) == (429, "urn:fleetwire:problem:address-limited")
    assert refused.headers["Retry-After"]
    await (await fleet.connect(hub.url, await fleet.new_device(), headers=theirs)).welcome()
    devices[0].socket.transport.abort()
    await until(lambda: len(hub.running.hub.registry) == 2)
    async with asyncio.timeout(10):
        while True:  # until the refused one's socket has gone, too
            with suppress(Exception):
                await (await fleet.connect(hub.url, await fleet.new_device(), headers=mine)).welcome()
                break


async def test_without_a_trusted_proxy_nobodys_word_counts(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_ADDRESS_HANDSHAKES_PER_S="0.01", FLEETWIRE_HUB_ADDRESS_HANDSHAKES_BURST="2")
    for number in range(3):
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        if number < 2:
            await (await fleet.connect(hub.url, await fleet.new_device(), headers=headers)).welcome()
        else:
            refused = await fleet.refused(hub.url, await fleet.new_device(), headers=headers)
            assert refused.problem["type"] == "urn:fleetwire:problem:address-limited"


async def test_sockets_that_say_nothing_are_cut_when_one_address_has_too_many(start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_ADDRESS_SOCKETS="2", FLEETWIRE_HUB_HANDSHAKE_S="5")
    port = hub.running.port
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(4):
        with suppress(ConnectionError):
            assert await reader.read(1) == b""
    for _, other in [*opened, (reader, writer)]:
        other.close()


async def test_a_request_that_comes_a_byte_at_a_time_is_cut(start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HANDSHAKE_S="0.5")
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.running.port)

    async def drip() -> None:
        with suppress(ConnectionError):
            for byte in b"GET /v1/socket?device_id=truck-7 HTTP/1.1\r\nX-Slow: " + b"a" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(10):
        with suppress(ConnectionError):
            assert await reader.read() == b""
    dripping.cancel()
    writer.close()


async def test_whoever_does_not_read_its_refusal_is_cut(start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_CLOSE_S="0.2")
    _, writer = await asyncio.open_connection("127.0.0.1", hub.running.port)
    writer.write(b"GET /nowhere HTTP/1.1\r\nHost: hub\r\n\r\n")
    census = hub.running.census
    await until(lambda: census.sockets == 1)
    await until(lambda: census.sockets == 0)
    writer.close()


FLAPS = {"FLEETWIRE_HUB_FLAPS_MAX": "3.5"}


async def test_a_device_that_connects_too_often_is_sent_to_rest_and_others_are_not(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(**FLAPS)
    truck = await fleet.new_device()
    async with asyncio.timeout(10):
        while not await fleet.pool.fetch("SELECT FROM hubs WHERE name = $1", hub.name):
            await asyncio.sleep(0.01)
    for _ in range(3):
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        await device.socket.close()
    before = HUB_HANDSHAKES_REFUSED.labels("429", "flapping")._value.get()
    refused = await fleet.refused(hub.url, truck)
    assert (refused.status, refused.problem["type"]) == (429, "urn:fleetwire:problem:flapping")
    assert 30 <= int(refused.headers["Retry-After"]) <= 60
    assert HUB_HANDSHAKES_REFUSED.labels("429", "flapping")._value.get() == before + 1
    # A browser is not told a status, so it is let in to be told.
    offered = ["fleetwire.v1", f"ticket.{ticket(truck)}"]
    device = await fleet.connect(hub.url, truck, subprotocols=offered)
    with suppress(ConnectionClosed):
        await device.socket.send(json.dumps({"type": "ack", "seq": 1}))
    assert await device.close_code() == 4103
    await (await fleet.connect(hub.url, await fleet.new_device())).welcome()
    # It fades: later the device is welcome again, and nobody had to do anything.
    await fleet.pool.fetch("UPDATE cursors SET connected_at = connected_at - interval '300 seconds'")
    await (await fleet.connect(hub.url, truck)).welcome()


async def test_a_device_that_hubs_send_on_does_not_flap(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(**FLAPS)
    truck = await fleet.new_device()
    for _ in range(8):
        device = await fleet.connect(hub.url, truck)
        await device.welcome()
        connection = hub.running.hub.registry.get(truck)
        assert connection is not None
        connection.tell_moved(hub.url, 0, "test")
        assert (await device.frame())["type"] == "moved"
        await device.socket.close()
        await until(lambda: not len(hub.running.hub.registry))
        await until(lambda: "0 departures wait" in repr(hub.running.hub.acks))
    assert (await fleet.pool.fetch("SELECT flaps FROM cursors WHERE device_id = $1", truck))[0]["flaps"] < 1.5


async def test_a_handshake_that_the_hub_could_not_finish_is_no_flap(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_GATHER_S="0.3", **FLAPS)
    truck = await fleet.new_device()
    for _ in range(8):
        connecting = asyncio.create_task(fleet.connect(hub.url, truck))
        registry = hub.running.hub.registry
        (waiting,) = await until(lambda: list(registry.waiting(truck)))  # noqa: B023 - awaited in the same turn
        waiting.on_revocation()
        with pytest.raises(InvalidStatus):
            await connecting
        await until(lambda: "0 departures wait" in repr(hub.running.hub.acks))
    assert (await fleet.pool.fetch("SELECT flaps FROM cursors WHERE device_id = $1", truck))[0]["flaps"] < 1.5


async def test_a_hub_that_is_told_not_to_mind_lets_a_device_flap(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_FLAPS_MAX="0")
    truck = await fleet.new_device()
    await fleet.pool.fetch("UPDATE cursors SET flaps = 1000 WHERE device_id = $1", truck)
    await (await fleet.connect(hub.url, truck, bearer=token(truck))).welcome()


@pytest.mark.parametrize("first", ["welcomed", "greeting"])
async def test_a_full_hub_takes_a_device_that_replaces_its_own_connection(
    fleet: Fleet, start_hub: StartHub, first: str
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_CAPACITY="1")
    truck = await fleet.new_device()
    if first == "welcomed":
        await (await fleet.connect(hub.url, truck)).welcome()
        await (await fleet.connect(hub.url, truck)).welcome()
    else:
        await asyncio.gather(*(fleet.connect(hub.url, truck) for _ in range(2)), return_exceptions=True)
    assert (await fleet.refused(hub.url, await fleet.new_device())).problem["type"] == "urn:fleetwire:problem:full"
