"""Whether a token that is good by its signature was revoked: asked for every request, remembered for none.

Requests that come at the same time ask together, and those with the same token as one, so a thousand requests a second
cost a few hundred small statements. One that comes while a statement runs waits for the next: no answer is older than
its request.
"""

import asyncio
from typing import Final

from shared.store import revocations
from shared.store.pool import Pool
from shared.store.revocations import Presented
from shared.tokens import Claims

__all__ = ["RevocationCheck"]

BATCH_MAX: Final = 500
AT_ONCE: Final = 2


class RevocationCheck:
    """`is_revoked` answers for one token. Bounded by the bound on requests in flight."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[Presented, asyncio.Future[bool]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"RevocationCheck({len(self._waiting)} waiting, {len(self._running)} running)"

    async def is_revoked(self, claims: Claims) -> bool:
        """Raises what the statement raised. A token that nothing can revoke costs nothing."""
        device_id = claims.subject if claims.allows("device") else None
        if device_id is None and claims.token_id is None:
            return False
        presented = Presented(claims.subject, device_id, claims.issued_at, claims.token_id)
        answer = self._waiting.get(presented)
        if answer is None:
            answer = self._waiting[presented] = asyncio.get_running_loop().create_future()
            # Nobody may be left to hear of it when it fails.
            answer.add_done_callback(lambda done: done.cancelled() or done.exception())
            if len(self._running) < AT_ONCE:
                task = asyncio.create_task(self._work(), name="revocation check")
                self._running.add(task)
                task.add_done_callback(self._ended)
        return await asyncio.shield(answer)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)

    async def _work(self) -> None:
        batch: dict[Presented, asyncio.Future[bool]] = {}
        try:
            while self._waiting:
                batch = {presented: self._waiting.pop(presented) for presented in list(self._waiting)[:BATCH_MAX]}
                try:
                    revoked = await revocations.revoked(self._pool, list(batch))
                except Exception as error:  # noqa: BLE001 - it is raised again where it was asked
                    for answer in batch.values():
                        answer.set_exception(error)
                else:
                    for presented, answer in batch.items():
                        answer.set_result(presented in revoked)
        finally:
            # In the same step as the last look at who waits: a request that comes after it must find a place free.
            task = asyncio.current_task()
            if task is not None:
                self._running.discard(task)
            for answer in batch.values():
                answer.cancel()
