"""What a device may send: bursts and a steady rate, acks of events apart; told once, closed a second later."""

import asyncio
import json
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from hub.rates import InboundLimits, InboundRate, RateVerdict
from shared.telemetry.metrics import HUB_CLOSES, HUB_FRAMES_REFUSED
from tests.hub.conftest import Device, Fleet, StartHub, token, until

LIMITS = InboundLimits(frames_per_s=50, frames_burst=200, bytes_per_s=65536, bytes_burst=262144, window=256)


class Sender:
    """One device, and the looks that its bytes bring about."""

    def __init__(self, limits: InboundLimits = LIMITS) -> None:
        self.rate = InboundRate(limits, 0.0, sent=0)
        self.frames = self.size = 0
        self.look_at = limits.first_look_bytes
        self.verdicts: list[tuple[float, RateVerdict]] = []

    def send(self, now: float, *, size: int = 30, sent: int = 0) -> None:
        self.frames, self.size = self.frames + 1, self.size + size
        if self.size > self.look_at:
            verdict = self.rate.judge(now, frames=self.frames, size=self.size, sent=sent)
            if verdict is not RateVerdict.WITHIN:
                self.verdicts.append((now, verdict))
            self.look_at = self.size + self.rate.look_after_bytes

    @property
    def first(self) -> RateVerdict | None:
        return self.verdicts[0][1] if self.verdicts else None


def test_a_steady_device_below_its_rate_is_never_troubled() -> None:
    sender = Sender()
    for number in range(45 * 600):
        sender.send(number / 45)
    assert sender.verdicts == []


def test_one_that_stays_over_its_rate_is_told_once_and_closed_after_a_second() -> None:
    sender = Sender()
    for number in range(10_000):
        sender.send(number / 1000)
        if sender.verdicts and sender.verdicts[-1][1] is RateVerdict.CLOSE:
            break
    told, closed = sender.verdicts[0], sender.verdicts[-1]
    assert (told[1], closed[1]) == (RateVerdict.WARN, RateVerdict.CLOSE)
    assert {verdict for _, verdict in sender.verdicts[1:-1]} == {RateVerdict.OVER}
    assert told[0] < 2
    assert 1.0 <= closed[0] - told[0] < 1.1


def test_one_that_slows_down_when_told_goes_on_and_is_told_again_another_time() -> None:
    sender = Sender()
    for minute in range(3):
        for number in range(900):
            sender.send(60 * minute + number / 10_000)
    assert [verdict for _, verdict in sender.verdicts if verdict is not RateVerdict.OVER] == [RateVerdict.WARN] * 3


def test_one_that_floods_again_and_again_for_less_than_a_second_is_closed() -> None:
    sender = Sender()
    for burst in range(2):
        for number in range(5000):
            sender.send(6.0 * burst + number / 10_000)
    assert sender.first is RateVerdict.WARN
    assert {verdict for at, verdict in sender.verdicts[1:] if at < 6.0} == {RateVerdict.OVER}
    assert next(verdict for at, verdict in sender.verdicts if at >= 6.0) is RateVerdict.CLOSE


def test_one_that_is_a_little_over_now_and_then_is_told_each_time_and_never_closed() -> None:
    rate = InboundRate(LIMITS, 0.0, sent=0)
    frames = LIMITS.frames_burst + LIMITS.window + 1
    verdicts = [rate.judge(0.0, frames=frames, size=0, sent=0)]
    for step in range(1, 200):
        frames += 256  # in 5.1 s it may send 255
        verdicts.append(rate.judge(5.1 * step, frames=frames, size=0, sent=0))
    assert set(verdicts) == {RateVerdict.WARN}


def test_bytes_count_as_well_as_frames() -> None:
    sender = Sender()
    for number in range(12):
        sender.send(number / 10, size=65_536)
    assert sender.first is RateVerdict.WARN


@given(st.integers(1, 40), st.integers(1, 5000), st.integers(0, 2**32))
def test_an_ack_for_every_event_is_never_held_against_a_device(batch: int, per_s: int, seed: int) -> None:
    rand, sender, now, sent, acked = random.Random(seed), Sender(), 0.0, 0, 0
    while sent < 4000:
        now += rand.uniform(0, 2) * batch / per_s
        sent += min(batch, 256 - (sent - acked))
        for _ in range(rand.randint(0, sent - acked)):
            acked += 1
            sender.send(now, sent=sent)
    assert sender.verdicts == []


@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(6, 65_550)), max_size=400))
def test_whatever_comes_no_more_than_bursts_and_rates_passes_unsaid(frames: list[tuple[float, int]]) -> None:
    sender, now = Sender(), 0.0
    for pause, size in frames:
        now += pause
        sender.send(now, size=size)
        if sender.verdicts:
            return
    # A burst may have been saved up twice: before the first look, and at it.
    assert sender.frames <= 2 * LIMITS.frames_burst + 2 * LIMITS.window + 50 * now + 1
    assert sender.size <= 2 * LIMITS.bytes_burst + 64 * 2 * LIMITS.window + 65536 * now + 65_550


def test_no_limit_is_no_limit() -> None:
    sender = Sender(InboundLimits(0, 1, 0, 131072, 256))
    for number in range(10_000):
        sender.send(number / 1e6, size=1000)
    assert sender.verdicts == []


async def connected(fleet: Fleet, start_hub: StartHub, **changes: str) -> tuple[str, Device]:
    hub = await start_hub(**changes)
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    return truck, device


async def flood(device: Device, message: str | None) -> None:
    """As fast as it goes, until the hub has enough. None: pings."""
    with suppress(ConnectionClosed):
        while True:
            for _ in range(100):
                if message is None:
                    await device.socket.ping()
                else:
                    await device.socket.send(message)
            await asyncio.sleep(0)


FLOODS = {
    "acks": json.dumps({"type": "ack", "seq": 0}),
    "frames that are refused": '{"type":"?"}',
    "large frames": json.dumps({"type": "x", "fill": "." * 40_000}),
    "pings": None,
}


@pytest.mark.parametrize("kind", list(FLOODS))
async def test_a_flood_is_told_of_and_then_closed_and_nobody_else_notices(
    fleet: Fleet, start_hub: StartHub, kind: str
) -> None:
    hub = await start_hub()
    truck, other = await fleet.new_device(), await fleet.new_device()
    device, bystander = await fleet.connect(hub.url, truck), await fleet.connect(hub.url, other)
    await device.welcome()
    await bystander.welcome()
    told = HUB_FRAMES_REFUSED.labels("over_rate")._value.get()
    closed = HUB_CLOSES.labels("4101")._value.get()
    flooding = asyncio.create_task(flood(device, FLOODS[kind]))
    with suppress(ConnectionClosed):
        async with asyncio.timeout(20):
            while True:
                await device.socket.recv()
    await flooding
    assert device.socket.close_code in (4101, 1006)  # 1006: it did not read, so it was cut
    assert HUB_FRAMES_REFUSED.labels("over_rate")._value.get() > told
    async with asyncio.timeout(10):
        while HUB_CLOSES.labels("4101")._value.get() == closed:
            await asyncio.sleep(0.01)
    await fleet.record(other)
    assert await bystander.seqs(1) == [1]


async def test_a_device_that_catches_up_and_acks_every_event_is_not_over_its_rate(
    fleet: Fleet, start_hub: StartHub
) -> None:
    truck, device = await connected(fleet, start_hub)
    await fleet.record(truck, 2000)
    for expected in range(1, 2001):
        assert await device.seqs(1) == [expected]
        await device.ack(expected)
    await fleet.until_acked(truck, 2000)


async def test_limits_can_be_lifted(fleet: Fleet, start_hub: StartHub) -> None:
    lifted = {"FLEETWIRE_HUB_INBOUND_FRAMES_PER_S": "0", "FLEETWIRE_HUB_INBOUND_BYTES_PER_S": "0"}
    truck, device = await connected(fleet, start_hub, **lifted)
    for _ in range(3000):
        await device.ack(0)
    await fleet.record(truck)
    assert await device.seqs(1) == [1]


async def test_a_device_that_floods_and_never_reads_is_cut(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.running.port, limit=1024)
    writer.write(
        (
            f"GET /v1/socket?device_id={truck} HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: fleetwire.v1\r\nAuthorization: Bearer {token(truck)}\r\n\r\n"
        ).encode()
    )
    async with asyncio.timeout(10):
        await reader.readuntil(b"welcome")
    # Each of these is answered; none of the answers is read.
    frame = b"\x81\x8c\x00\x00\x00\x00" + b'{"type":"?"}'
    with suppress(ConnectionError):
        async with asyncio.timeout(20):
            while hub.running.census.sockets:
                writer.write(frame * 1000)
                await asyncio.sleep(0.01)
    await until(lambda: hub.running.census.sockets == 0)
    assert len(hub.running.hub.registry) == 0
    writer.transport.abort()
