"""Who was told to go is forgotten when it has gone, and ended when it stays too long."""

from hub.leavers import Leavers
from shared.protocol.close_codes import CloseCode
from tests.hub.test_drain import Device, House


def test_those_that_went_are_forgotten_and_those_that_stay_are_ended_at_their_time() -> None:
    outcomes: list[tuple[str, str]] = []
    leavers = Leavers(CloseCode.MOVED, lambda label, outcome: outcomes.append((label, outcome)))
    house = House(3)
    gone, early, late = house.devices
    for device, due in ((gone, 5.0), (early, 5.0), (late, 9.0)):
        leavers.add(device, due, device.device_id)
    gone.is_over = True
    leavers.look(4.0)
    assert (outcomes, len(leavers)) == ([("truck-0", "left")], 2)
    leavers.look(5.0)
    assert (ended(early), ended(late)) == ([CloseCode.MOVED], [])
    leavers.end_all()
    assert (ended(late), len(leavers)) == ([CloseCode.MOVED], 0)


def ended(device: Device) -> list[CloseCode]:
    return device.ended
