"""Acks by REST move the cursor that the socket moves, by the same statement; hubs learn of it by their sweep."""

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.responses import Response

from api.answers import typed_answer
from api.descriptions.devices import ACK, AckBody, Acked
from api.gathering import Gathering
from api.known_device import of_known_device
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from shared.protocol.position import InvalidPosition, Position, parse_position
from shared.protocol.resume import acked_position
from shared.store import cursors
from shared.store.cursors import Ack, AckResult
from shared.store.pool import Pool

__all__ = ["Acks"]

BATCH_MAX: Final = 500


class Acks:
    """`POST /api/v1/devices/{device_id}/acks`"""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._acks: Gathering[Ack, AckResult] = Gathering(self._write, batch_max=BATCH_MAX)

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operation = Operation(
            self.record, frozenset({"device"}), body=AckBody, description=ACK, cost=0.2, shed=Shed.NEVER
        )
        return Resource(guard, "/api/v1/devices/{device_id}/acks", {"POST": operation})

    async def record(self, call: Call) -> Response:
        """Everything up to the position is done with. Answers where the cursor stands."""
        position = _position_of(call.body)
        ack = Ack(call.device_id, position.epoch, position.seq)
        now = await of_known_device(self._pool, call, lambda: self._acks.ask(call.device_id, ack))
        if now.epoch != position.epoch:
            current = acked_position(epoch=now.epoch, floor=now.floor, head=now.head, acked=now.acked)
            raise Problem("epoch-changed", f"the log is in epoch {now.epoch}", position=str(current))
        if position.seq > max(now.head, now.acked):
            raise Problem("ack-above-head", f"the log's head is {now.head}", field="position", head=now.head)
        return typed_answer(Acked(f"{now.epoch}:{now.acked}", max(now.head, now.acked)))

    async def _write(self, acks: Sequence[Ack]) -> Mapping[str, AckResult]:
        return {result.device_id: result for result in await cursors.record_acks(self._pool, acks)}


def _position_of(body: AckBody) -> Position:
    try:
        return parse_position(body.position)
    except InvalidPosition as error:
        raise Problem("invalid-body", f"position: {error}", field="position") from None
