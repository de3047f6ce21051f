"""How late events are is read from a few of them, without parsing any, and shown by stages."""

import time

import pytest

from hub.counts import Counts
from hub.stage_lag import EVERY, NEWS_S, PROMISED_S, StageLag, recorded_at
from shared.clock import iso
from shared.protocol.close_codes import CloseCode
from shared.protocol.event import encode_event
from shared.stages import Stage
from shared.telemetry.metrics import HUB_WINDOW_STALL_SECONDS as STALL
from shared.telemetry.metrics import REGISTRY
from tests.hub.conftest import Device, Fleet, StartHub, until


def body(moment: str, *, event_id: str = "e-1", source: str = "/tests") -> bytes:
    return encode_event(event_id=event_id, event_type="T", source=source, time=moment, data={"time": "never"})


def timed(stage: Stage) -> float:
    return REGISTRY.get_sample_value("fleetwire_stage_lag_seconds_count", {"stage": stage.value}) or 0.0


def test_the_time_of_an_event_is_found_without_parsing_it() -> None:
    assert recorded_at(body("2026-11-21T08:30:00.125Z")) == 1795249800.125
    assert recorded_at(body("2026-11-21T09:30:00+01:00")) == 1795249800.0


def test_a_time_that_another_field_pretends_to_be_is_not_taken() -> None:
    forged = '","time":"2001-01-01T00:00:00Z'
    assert recorded_at(body("2026-11-21T08:30:00Z", event_id=forged, source=forged)) == 1795249800.0


@pytest.mark.parametrize(
    "odd",
    [b"", b"{}", b'{"time":"', b'{"time":"soon"}', b'{"time":"2026-11-21T08:30:00"}', b'{"time":"\xff"}', b"x" * 9999],
)
def test_what_has_no_time_has_no_lag(odd: bytes) -> None:
    assert recorded_at(odd) is None
    StageLag(lambda call: None).fanned_out(odd)


def test_what_is_too_old_to_be_news_is_not_counted_and_the_future_is_no_lag() -> None:
    lag = StageLag(lambda call: None)
    before, sum_before = timed(Stage.FANNED_OUT), _sum(Stage.FANNED_OUT)
    lag.fanned_out(body(iso(time.time() - NEWS_S - 10)))
    assert timed(Stage.FANNED_OUT) == before
    lag.fanned_out(body(iso(time.time() + 60)))
    assert (timed(Stage.FANNED_OUT), _sum(Stage.FANNED_OUT)) == (before + 1, sum_before)


def delivered() -> tuple[float, float]:
    """How many deliveries were timed, and how many of them within what is promised."""
    name = "fleetwire_hub_delivery_seconds"
    return (
        REGISTRY.get_sample_value(f"{name}_count") or 0.0,
        REGISTRY.get_sample_value(f"{name}_bucket", {"le": str(PROMISED_S)}) or 0.0,
    )


def test_a_delivery_is_from_the_commit_to_the_ack_and_late_without_one() -> None:
    lag, (count, in_time) = StageLag(lambda call: None), delivered()
    lag.acked(time.monotonic(), lag.fanned_out(body(iso(time.time()))))
    assert delivered() == (count + 1, in_time + 1)
    lag.acked(time.monotonic(), lag.fanned_out(body(iso(time.time() - 2))))
    assert delivered() == (count + 2, in_time + 1)
    # The connection ended: that is nobody's lateness, unless it was late by then.
    lag.not_acked(lag.fanned_out(body(iso(time.time()))))
    assert delivered() == (count + 2, in_time + 1)
    lag.not_acked(lag.fanned_out(body(iso(time.time() - 2))))
    assert delivered() == (count + 3, in_time + 1)
    # What is no news is no delivery.
    lag.acked(time.monotonic(), lag.fanned_out(body(iso(time.time() - NEWS_S - 10))))
    lag.not_acked(lag.fanned_out(b"{}"))
    assert delivered() == (count + 3, in_time + 1)


def test_the_first_event_of_a_tick_is_timed_and_then_one_in_many() -> None:
    counts = Counts(lambda call: None)
    now = body(iso(time.time()))
    sampled = []
    for tick in range(2):
        for number in range(1, 2 * EVERY):
            counts.sent += 1
            if counts.sent >= counts.sample_at:
                counts.sample(now)
                sampled.append((tick, number))
        counts.flush()
    assert sampled == [(0, 1), (0, 1 + EVERY), (1, 1), (1, 1 + EVERY)]


async def test_an_event_is_timed_when_it_is_taken_up_sent_and_acked(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    taken, sent, acked, published = (
        timed(stage) for stage in (Stage.FANNED_OUT, Stage.SENT, Stage.ACKED, Stage.PUBLISHED)
    )
    seq = 0
    # An event whose hint comes too late is read from the log, and those are not timed.
    while timed(Stage.SENT) == sent:
        await fleet.record(truck)
        seq += 1
        assert await device.seqs(1) == [seq]
    assert timed(Stage.FANNED_OUT) > taken
    await until(lambda: timed(Stage.PUBLISHED) > published)
    assert timed(Stage.ACKED) == acked
    count, _ = delivered()
    await device.ack(seq)
    await until(lambda: timed(Stage.ACKED) > acked)
    assert delivered()[0] == count + 1
    assert hub.running.hub.registry.get(truck) is not None
    await device.ack(seq)
    assert timed(Stage.ACKED) == acked + 1


async def test_an_event_that_only_the_log_brought_is_timed_too_unless_it_waited_for_the_device(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(FLEETWIRE_HUB_WINDOW_EVENTS="16")
    truck = await fleet.new_device()
    await fleet.record(truck, 10, publish=False)
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    taken = timed(Stage.FANNED_OUT)
    assert await device.seqs(10) == list(range(1, 11))
    assert timed(Stage.FANNED_OUT) == taken  # it was away
    await device.ack(10)
    seq = 10
    while timed(Stage.FANNED_OUT) == taken:
        await fleet.record(truck, publish=False)
        seq += 1
        assert await device.seqs(1) == [seq]
        await device.ack(seq)
    # Its window is full: what follows waits for its acks.
    await fleet.record(truck, 30, publish=False)
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    await device.seqs(16)
    await until(lambda: connection.session.behind)
    stalls, taken = STALL._sum.get(), timed(Stage.FANNED_OUT)
    await device.ack(seq + 16)
    assert await device.seqs(14) == list(range(seq + 17, seq + 31))
    assert timed(Stage.FANNED_OUT) == taken
    assert STALL._sum.get() > stalls


async def test_what_a_device_left_without_an_ack_is_late_unless_it_went_on_elsewhere_or_lost_its_link(
    fleet: Fleet, start_hub: StartHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.stage_lag.PROMISED_S", 0.0)
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()

    async def until_one_is_timed(device: Device, seq: int) -> int:
        taken = timed(Stage.FANNED_OUT)
        while timed(Stage.FANNED_OUT) == taken:
            await fleet.record(truck)
            seq += 1
            assert await device.seqs(1) == [seq]
        return seq

    seq = await until_one_is_timed(device, 0)
    count, _ = delivered()
    newest = await fleet.connect(hub.url, truck)
    await newest.welcome()
    assert await device.close_code() == CloseCode.REPLACED
    await until(lambda: len(hub.running.hub.registry) == 1)
    assert delivered()[0] == count
    assert len(await newest.seqs(seq)) == seq
    await newest.ack(seq)
    # Its link is lost: then it was not connected.
    count, seq = delivered()[0], await until_one_is_timed(newest, seq)
    newest.socket.transport.abort()
    await until(lambda: len(hub.running.hub.registry) == 0)
    assert delivered()[0] == count
    last = await fleet.connect(hub.url, truck)
    await last.welcome()
    while (await last.frame())["seq"] < seq:
        pass
    await last.ack(seq)
    await until_one_is_timed(last, seq)
    await last.socket.close()
    await until(lambda: delivered()[0] > count)


def _sum(stage: Stage) -> float:
    return REGISTRY.get_sample_value("fleetwire_stage_lag_seconds_sum", {"stage": stage.value}) or 0.0
