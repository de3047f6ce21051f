"""Claims of single jobs by their ids, for who was handed one and does not work through a queue.

Only a job that nobody took yet is claimed so: whatever failed before belongs to the workers of its queue, who know how
often and how late to try again.
"""

from typing import Final
from uuid import UUID

from shared.store import responses
from shared.store.jobs import Claimed
from shared.store.pool import Connection, Pool
from shared.store.queries import statements

__all__ = ["TRANSACTION_STATEMENTS", "claim_new"]

_SQL = statements("small_claims")

TRANSACTION_STATEMENTS: Final = (_SQL["claim_new"],)


async def claim_new(
    pool: Pool, job_id: UUID, worker: str, *, lease_s: float, ttl_s: float, reserve: responses.Reserve
) -> tuple[Claimed, str] | None:
    """The job, with its response reserved, and its queue; None when it is another's, has ended or was tried before."""

    async def work(connection: Connection) -> tuple[Claimed, str] | None:
        row = await connection.fetchrow(_SQL["claim_new"], job_id, worker, lease_s, ttl_s)
        if row is None:
            return None
        values = dict(row)
        queue: str = values.pop("queue")
        request = responses.Request(*(row[key] for key in responses.Request._fields))
        home = (await responses.reserve(connection, [request], reserve))[job_id]
        return Claimed(**values, response_id=home.response_id, folder=home.folder, response_store=home.store), queue

    return await pool.run(work)
