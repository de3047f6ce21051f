"""Who is connected here: the newest connection of each device, and the seats that handshakes under way have taken.

Everything is a plain call, so no other task runs between two lines of it; that is what makes it safe without a lock.
A device whose handshake is under way has a `Waiting` entry before the slot's subscription is asked for: what the bus
says of it meanwhile is remembered there, since no session can hear it yet.
"""

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

__all__ = ["Held", "Registry", "Waiting"]


class Held(Protocol):
    """A connection as the registry sees it."""

    @property
    def device_id(self) -> str: ...
    @property
    def conn_term(self) -> int: ...
    def on_event(self, epoch: int, seq: int, body: bytes) -> None: ...


C = TypeVar("C", bound=Held)


class Waiting:
    """A handshake under way: the newest position and the newest connection that the bus told of meanwhile.

    `is_doubted` says that tokens of the device were revoked since it began.
    """

    __slots__ = ("conn_term", "device_id", "heard", "is_doubted", "takes_seat")

    def __init__(self, device_id: str, *, takes_seat: bool) -> None:
        self.device_id = device_id
        self.takes_seat = takes_seat
        self.heard = (0, 0)
        self.conn_term = 0
        self.is_doubted = False

    def on_event(self, epoch: int, seq: int) -> None:
        """The bus told of an event of the device."""
        self.heard = max(self.heard, (epoch, seq))

    def on_connection(self, conn_term: int) -> None:
        """The bus told of a connection of the device."""
        self.conn_term = max(self.conn_term, conn_term)

    def on_revocation(self) -> None:
        """The bus told that tokens of the device were revoked."""
        self.is_doubted = True


class Registry(Generic[C]):
    """Connections by device, at most `capacity` devices.

    `by_device` and `handshakes` are for looking only, and so is `takers`: who takes the events of a device, by its id
    as it is on the bus. A device with a handshake under way is not in it: then there is more than one to tell.
    """

    def __init__(self, capacity: int, *, handshakes_per_device_max: int = 4) -> None:
        self.capacity = capacity
        self._per_device_max = handshakes_per_device_max
        self.by_device: dict[str, C] = {}
        self.handshakes: dict[str, list[Waiting]] = {}
        self.takers: dict[bytes, Callable[[int, int, bytes], None]] = {}
        self._seats = 0

    def __len__(self) -> int:
        return len(self.by_device)

    def __repr__(self) -> str:
        return f"Registry({len(self)} of {self.capacity} connected, {self._seats} seats taken by handshakes)"

    @property
    def connections(self) -> Iterable[C]:
        """All of them, in no order; make a list before anything that may end one."""
        return self.by_device.values()

    def get(self, device_id: str) -> C | None:
        """The newest connection of the device here."""
        return self.by_device.get(device_id)

    def waiting(self, device_id: str) -> Iterable[Waiting]:
        """Handshakes of the device that are under way."""
        return self.handshakes.get(device_id, ())

    def has_room(self, device_id: str) -> bool:
        """Whether the device may come: there is room, or it only replaces a connection of its own."""
        if device_id in self.by_device or device_id in self.handshakes:
            return True
        return len(self.by_device) + self._seats < self.capacity

    def is_crowded(self, device_id: str) -> bool:
        """Whether the device has too many handshakes under way already."""
        return len(self.handshakes.get(device_id, ())) >= self._per_device_max

    def begin(self, device_id: str) -> Waiting:
        """A handshake starts; it takes a seat unless the device is here already. End it by `leave`."""
        siblings = self.handshakes.setdefault(device_id, [])
        takes_seat = device_id not in self.by_device and not siblings
        waiting = Waiting(device_id, takes_seat=takes_seat)
        self._seats += takes_seat
        siblings.append(waiting)
        self._see_who_takes(device_id)
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """The handshake is over, whatever came of it."""
        siblings = self.handshakes[waiting.device_id]
        siblings.remove(waiting)
        if not siblings:
            del self.handshakes[waiting.device_id]
        elif waiting.takes_seat and waiting.device_id not in self.by_device:
            # The seat goes to the next handshake of the same device.
            waiting.takes_seat = False
            siblings[0].takes_seat = True
        self._seats -= waiting.takes_seat
        self._see_who_takes(waiting.device_id)

    def add(self, connection: C) -> C | None:
        """The device's newest connection is this one; returns the one before it, which has lost."""
        before = self.by_device.get(connection.device_id)
        self.by_device[connection.device_id] = connection
        self._see_who_takes(connection.device_id)
        return before

    def remove(self, connection: C) -> None:
        """The connection ends. Another one of the device stays."""
        if self.by_device.get(connection.device_id) is connection:
            del self.by_device[connection.device_id]
            siblings = self.handshakes.get(connection.device_id)
            if siblings and not any(waiting.takes_seat for waiting in siblings):
                # They came to replace this one; now they need the seat it leaves.
                siblings[0].takes_seat = True
                self._seats += 1
            self._see_who_takes(connection.device_id)

    def _see_who_takes(self, device_id: str) -> None:
        connection = self.by_device.get(device_id)
        if connection is None or device_id in self.handshakes:
            self.takers.pop(device_id.encode(), None)
        else:
            self.takers[device_id.encode()] = connection.on_event
