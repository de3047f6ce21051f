"""Positions to resume from, as devices name them and as the log has them."""

import pytest

from hub.beginning import find_beginning
from hub.errors import NotAnswered
from hub.greeting import Asked, Begin
from hub.refusals import Refusal
from shared.protocol.position import Position
from shared.store import devices, log
from shared.store.cursors import Greeted
from shared.store.log import Retention
from tests.hub.conftest import Fleet, StartHub


async def test_every_row_of_the_resume_table(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    await fleet.record(truck, 10)
    first = await fleet.connect(hub.url, truck)
    await first.welcome()
    await first.seqs(10)
    await first.ack(4)
    await fleet.until_acked(truck, 4)

    # From the floor to the head: go on.
    for after, follows in (("1:0", 1), ("1:7", 8), ("1%3A9", 10)):
        device = await fleet.connect(hub.url, truck, after=after)
        assert (await device.welcome())["position"] == after.replace("%3A", ":")
        assert await device.seqs(1) == [follows]
    device = await fleet.connect(hub.url, truck, after="1:10")
    assert (await device.welcome())["position"] == "1:10"
    # None named: after the acked one.
    device = await fleet.connect(hub.url, truck)
    welcome = await device.welcome()
    assert (welcome["position"], welcome["acked"], welcome["head"]) == ("1:4", 4, 10)
    assert await device.seqs(1) == [5]


async def test_a_position_below_the_floor_is_reset_to_the_floor(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    await fleet.record(truck, 10)
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await device.ack(6)
    await fleet.until_acked(truck, 6)
    zero = Retention().acked * 0
    await log.trim(fleet.pool, Retention(acked=zero))
    device = await fleet.connect(hub.url, truck, after="1:2")
    assert (await device.welcome())["position"] == "1:6"
    assert await device.frame() == {"type": "reset", "position": "1:6", "reason": "retention"}
    assert await device.seqs(4) == [7, 8, 9, 10]


async def test_an_older_epoch_is_reset_to_the_acked_position(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    await fleet.record(truck, 5)
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await device.ack(3)
    await fleet.until_acked(truck, 3)
    await log.raise_device_epoch(fleet.pool, truck, seen_epoch=1, claimed_epoch=1)
    assert await device.close_code() == 4102
    device = await fleet.connect(hub.url, truck, after="1:5")
    assert (await device.welcome())["position"] == "2:3"
    assert await device.frame() == {"type": "reset", "position": "2:3", "reason": "epoch"}
    assert await device.seqs(2) == [4, 5]


@pytest.mark.parametrize("after", ["1:9", "7:1"])
async def test_a_position_the_log_does_not_have_raises_the_epoch_of_that_device(
    fleet: Fleet, start_hub: StartHub, after: str
) -> None:
    hub = await start_hub()
    truck, other = await fleet.new_device(), await fleet.new_device()
    await fleet.record(truck, 5)
    bystander = await fleet.connect(hub.url, other)
    await bystander.welcome()
    device = await fleet.connect(hub.url, truck, after=after)
    welcome = await device.welcome()
    reset = await device.frame()
    epoch, seq = map(int, reset["position"].split(":"))
    assert epoch > int(after.split(":")[0])
    assert (seq, reset["reason"], welcome["position"]) == (0, "log_loss", reset["position"])
    assert await device.seqs(5) == [1, 2, 3, 4, 5]
    await fleet.record(other)
    assert await bystander.seqs(1) == [1]


async def test_a_position_of_an_absurd_epoch_is_refused(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    refused = await fleet.refused(hub.url, truck, after="2000000:1")
    assert (refused.status, refused.problem["field"]) == (400, "after")


def asked(device_id: str, after: Position | None) -> Asked:
    return Asked(device_id, after, None, 0, None)


async def test_a_position_that_the_log_has_is_taken_as_it_is(fleet: Fleet) -> None:
    greeted = Greeted("ok", epoch=1, floor=2, head=9, acked=3, conn_term=5)
    for after, follows in ((None, 3), (Position(1, 9), 9)):
        assert await find_beginning(fleet.pool, asked("truck-7", after), greeted) == (
            greeted,
            Begin(Position(1, follows), None),
        )


async def test_a_raised_epoch_is_what_the_greeting_says_from_then_on(fleet: Fleet) -> None:
    truck = await fleet.new_device()
    await fleet.record(truck, 3, publish=False)
    greeted = Greeted("ok", epoch=1, head=3, conn_term=5)
    now, beginning = await find_beginning(fleet.pool, asked(truck, Position(1, 8)), greeted)
    assert isinstance(beginning, Begin)
    assert beginning.reset is not None
    state = await devices.get(fleet.pool, truck)
    assert state is not None
    assert (now.epoch, now.head, now.conn_term) == (state.epoch, 3, 5)
    assert (beginning.position.epoch, beginning.reset.reason) == (state.epoch, "log_loss")


async def test_a_position_of_another_log_raises_nothing(fleet: Fleet) -> None:
    truck = await fleet.new_device()
    _, beginning = await find_beginning(fleet.pool, asked(truck, Position(2000, 1)), Greeted("ok", epoch=1))
    assert isinstance(beginning, Refusal)
    state = await devices.get(fleet.pool, truck)
    assert state is not None
    assert state.epoch == 1


async def test_a_device_that_was_deleted_meanwhile_is_told_to_ask_again(fleet: Fleet) -> None:
    with pytest.raises(NotAnswered):
        await find_beginning(fleet.pool, asked("never-made", Position(1, 8)), Greeted("ok", epoch=1))
