"""How the queues of jobs stand: for operators, who look at them while something is wrong."""

from starlette.responses import Response

from api.answers import typed_answer
from api.descriptions.queues import LIST_QUEUES, Queue, Queues, Rates
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from shared.store import queues
from shared.store.pool import Pool

__all__ = ["QueueList"]


class QueueList:
    """`GET /api/v1/queues`"""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        read = Operation(self.read, frozenset({"operator"}), description=LIST_QUEUES, shed=Shed.FIRST)
        return Resource(guard, "/api/v1/queues", {"GET": read})

    async def read(self, call: Call) -> Response:
        """All of them: there are few."""
        del call
        found = await queues.states(self._pool)
        return typed_answer(
            Queues(
                [
                    Queue(one.queue, one.waiting, one.delayed, one.running, round(one.oldest_s, 3), Rates(**one.per_s))
                    for one in found
                ]
            )
        )
