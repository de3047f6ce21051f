"""Devices for operators: make one, see how far behind it is and where it is connected."""

from starlette.responses import Response

from api.answers import moment, typed_answer
from api.descriptions.devices import PUT_DEVICE, READ_DEVICE, Connected, Device, DeviceBody
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.protocol.ids import device_class_problem
from shared.store import devices
from shared.store.devices import DeviceState
from shared.store.pool import Pool
from shared.tokens import Scope

__all__ = ["Devices"]


class Devices:
    """`GET | PUT /api/v1/devices/{device_id}`"""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operator: frozenset[Scope] = frozenset({"operator"})
        read = Operation(self.read, operator, description=READ_DEVICE)
        put = Operation(self.put, operator, body=DeviceBody, description=PUT_DEVICE)
        return Resource(guard, "/api/v1/devices/{device_id}", {"GET": read, "PUT": put})

    async def read(self, call: Call) -> Response:
        """The device as it is now."""
        state = await devices.get(self._pool, call.device_id)
        if state is None:
            raise Problem("not-found", "there is no such device")
        return typed_answer(_shown(state))

    async def put(self, call: Call) -> Response:
        """Make the device, or change its class. Saying it twice changes nothing more."""
        device_class = call.body.device_class
        if problem := device_class_problem(device_class):
            raise Problem("invalid-body", problem, field="class")
        made = await devices.put(self._pool, call.device_id, device_class)
        state = await devices.get(self._pool, call.device_id)
        if state is None:
            raise AssertionError("a device row is never deleted")
        return typed_answer(_shown(state), 201 if made else 200)


def _shown(state: DeviceState) -> Device:
    connection = None
    if state.hub is not None:
        connection = Connected(state.hub, state.hub_alive, moment(state.connected_at))
    return Device(
        device_id=state.device_id,
        device_class=state.device_class,
        created_at=moment(state.created_at),
        position=f"{state.epoch}:{state.acked}",
        acked_at=moment(state.acked_at),
        head=state.head,
        floor=state.floor,
        lag=max(0, state.head - state.acked),
        connection=connection,
        disconnected_at=moment(state.disconnected_at),
    )
