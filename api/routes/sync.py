"""Sync batches by REST: what a device did while it was away, each operation judged by itself."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.responses import Response

from api.bodies import convert_body, decode_body
from api.descriptions.sync import SYNC
from api.idempotency import keys_spent
from api.resource import Call, Guard, Operation, Resource
from shared.protocol import operations
from shared.protocol.operations import BATCH_MAX_BYTES, Invalid, SyncBatch, SyncResults, decode_operation
from shared.store.pool import Pool
from shared.sync.engine import KeysSpent, apply_decoded, results_of

__all__ = ["Sync"]

INLINE_MAX_BYTES: Final = 64 * 1024


class Sync:
    """`POST /api/v1/sync/batch`"""

    def __init__(self, pool: Pool, *, keys_per_day: int) -> None:
        self._pool = pool
        self._keys_per_day = keys_per_day

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operation = Operation(
            self.apply,
            frozenset({"device", "operator"}),
            body=SyncBatch,
            decode=False,
            body_max_bytes=BATCH_MAX_BYTES,
            body_deadline_s=60.0,
            deadline_s=15.0,
            idempotency="optional",
            cost=2.0,
            description=SYNC,
        )
        return Resource(guard, "/api/v1/sync/batch", {"POST": operation})

    async def apply(self, call: Call) -> Response:
        """Always 200 with a result for each, unless the batch itself cannot be read."""
        # A large body is decoded beside the loop, so that it does not hold up the others.
        if len(call.body) <= INLINE_MAX_BYTES:
            batch = _decoded(call.body)
        else:
            batch = await asyncio.to_thread(_decoded, call.body)
        try:
            outcomes = await apply_decoded(self._pool, call.claims.principal, batch, keys_per_day=self._keys_per_day)
        except KeysSpent as error:
            raise keys_spent(error) from None
        answer = SyncResults(results_of(outcomes))
        return Response(msgspec.json.encode(answer), media_type="application/json")


def _decoded(raw: bytes) -> Sequence[operations.Operation | Invalid]:
    batch = convert_body(decode_body(raw), SyncBatch)
    return [decode_operation(one) for one in batch.operations]
