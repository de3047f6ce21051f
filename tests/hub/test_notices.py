"""Notices: whom they reach, whom they spare, and that they never stand in the way."""

import asyncio
import json

import pytest

from hub.compression import Deflater
from hub.flusher import Flusher
from hub.notices import STEP, WAITING_MAX, NoticeFrames, Notices
from hub.wire import text_bytes
from shared.bus.message import NOTICE, InvalidMessage, decode, notice_body, notice_message
from shared.bus.names import notice_channel
from shared.protocol.frames import Notice, decode_hub_frame, notice_frame
from tests.hub.conftest import Fleet, StartHub, token, until


def test_a_notice_comes_through_the_bus_as_it_was() -> None:
    frame = notice_frame('an "id"', b'{"gate":7}')
    assert decode_hub_frame(frame) == Notice('an "id"', {"gate": 7})
    for device_class in ("truck", None):
        kind, device_id, _, _, body = decode(notice_message(device_class, frame).encode())
        assert (kind, device_id, notice_body(body)) == (NOTICE, "", (device_class, frame))


@pytest.mark.parametrize("body", [b"", b"truck", b'truck\x00{"type":"event"}', b'\xff\x00{"type":"notice",}'])
def test_what_is_no_notice_is_not_handed_out(body: bytes) -> None:
    with pytest.raises(InvalidMessage):
        notice_body(body)


class Receiver:
    def __init__(self, device_class: str = "truck", *, takes: bool = True) -> None:
        self.device_class = device_class
        self.is_done = False
        self.takes = takes
        self.got: list[NoticeFrames] = []

    def on_notice(self, frames: NoticeFrames) -> bool:
        if self.takes:
            self.got.append(frames)
        return self.takes


async def test_the_loop_goes_on_while_a_notice_is_handed_out() -> None:
    fleet = [Receiver() for _ in range(STEP * 4)]
    notices = Notices(
        receivers=lambda: fleet, flusher=Flusher(asyncio.get_running_loop()), deflater=Deflater(threshold=512)
    )
    task = asyncio.create_task(notices.run())
    notices.on_message(NOTICE, "", 0, 0, notice_message(None, notice_frame("1", b"{}")).body)
    reached = []
    while not fleet[-1].got:
        await asyncio.sleep(0)
        reached.append(sum(bool(one.got) for one in fleet))
        fleet[-2].is_done = True  # one that ends meanwhile gets none
    assert {STEP, 2 * STEP, 3 * STEP} <= set(reached)
    assert not fleet[-2].got
    assert fleet[0].got == [NoticeFrames(text_bytes(notice_frame("1", b"{}")), None)]
    assert fleet[0].got[0] is fleet[-1].got[0], "one frame for all"
    task.cancel()


async def test_a_device_that_breaks_over_a_notice_keeps_it_from_no_other() -> None:
    class Broken(Receiver):
        def on_notice(self, frames: NoticeFrames) -> bool:
            raise ZeroDivisionError

    others = [Receiver(), Receiver()]
    flusher = Flusher(asyncio.get_running_loop())
    notices = Notices(
        receivers=lambda: [others[0], Broken(), others[1]], flusher=flusher, deflater=Deflater(threshold=512)
    )
    task = asyncio.create_task(notices.run())
    for number in (1, 2):
        notices.on_message(NOTICE, "", 0, 0, notice_message(None, notice_frame(str(number), b"{}")).body)
    await until(lambda: all(len(one.got) == 2 for one in others))
    assert not flusher.in_batch
    task.cancel()


async def test_more_notices_than_can_wait_are_dropped() -> None:
    receiver = Receiver()
    notices = Notices(
        receivers=lambda: [receiver], flusher=Flusher(asyncio.get_running_loop()), deflater=Deflater(threshold=512)
    )
    for number in range(WAITING_MAX + 10):
        notices.on_message(NOTICE, "", 0, 0, notice_message(None, notice_frame(str(number), b"{}")).body)
    notices.on_message(NOTICE, "", 0, 0, b"nonsense")
    notices.on_message(NOTICE, "", 0, 0, notice_message(None, notice_frame("large", b'"%b"' % (b"x" * 9000))).body)
    task = asyncio.create_task(notices.run())
    await until(lambda: len(receiver.got) == WAITING_MAX)
    assert repr(notices) == "Notices(0 wait)"
    task.cancel()


# With a hub


async def test_a_notice_reaches_all_devices_or_one_class_of_every_hub(start_hub: StartHub, fleet: Fleet) -> None:
    hubs = [await start_hub("hub-1"), await start_hub("hub-2")]
    connected = {}
    for number, device_class in enumerate(["truck", "office", "truck"]):
        device_id = f"{await fleet.new_device()}-{device_class}"
        bearer = token(device_id, device_class=device_class)
        connected[device_id] = await fleet.connect(hubs[number % 2].url, device_id, bearer=bearer)
        await connected[device_id].welcome()
    long = json.dumps({"text": "the gate is closed " * 100}).encode()
    fleet.publisher.offer_to(notice_channel(), notice_message("truck", notice_frame("n1", b'{"gate":7}')))
    fleet.publisher.offer_to(notice_channel(), notice_message(None, notice_frame("n2", long)))
    for device_id, device in connected.items():
        if device_id.endswith("truck"):
            assert await device.frame() == {"type": "notice", "id": "n1", "data": {"gate": 7}}
        assert (await device.frame())["id"] == "n2"


async def test_a_device_that_has_enough_to_do_is_spared(start_hub: StartHub, fleet: Fleet) -> None:
    hub = await start_hub(FLEETWIRE_HUB_WINDOW_EVENTS="16")
    busy, idle = await fleet.new_device(), await fleet.new_device()
    devices = {one: await fleet.connect(hub.url, one) for one in (busy, idle)}
    for device in devices.values():
        await device.welcome()
    await fleet.record(busy, 40)
    await devices[busy].seqs(16)
    connection = hub.running.hub.registry.get(busy)
    assert connection is not None
    await until(lambda: connection.session.behind)
    fleet.publisher.offer_to(notice_channel(), notice_message(None, notice_frame("n1", b"{}")))
    assert (await devices[idle].frame())["id"] == "n1"
    await devices[busy].ack(16)
    assert await devices[busy].seqs(16) == list(range(17, 33))
    await devices[busy].ack(32)
    assert await devices[busy].seqs(8) == list(range(33, 41))
    await devices[busy].ack(40)
    await until(lambda: not connection.session.behind and not connection.session.window.used_events)
    fleet.publisher.offer_to(notice_channel(), notice_message(None, notice_frame("n2", b"{}")))
    assert (await devices[busy].frame())["id"] == "n2", "and not n1 late"
