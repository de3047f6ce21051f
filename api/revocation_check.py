"""Whether a token that is good by its signature was revoked: asked for every request, remembered for none.

Requests that come at the same time ask together, and those with the same token as one, so a thousand requests a second
cost a few hundred small statements.
"""

from collections.abc import Mapping, Sequence

from api.asked_together import AskedTogether
from shared.store import revocations
from shared.store.pool import Pool
from shared.store.revocations import Presented
from shared.tokens import Claims

__all__ = ["RevocationCheck"]


class RevocationCheck:
    """`is_revoked` answers for one token."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._asked: AskedTogether[Presented, bool] = AskedTogether(self._revoked, name="revocation check")

    def __repr__(self) -> str:
        return f"RevocationCheck({self._asked!r})"

    async def is_revoked(self, claims: Claims) -> bool:
        """Raises what the statement raised. A token that nothing can revoke costs nothing."""
        device_id = claims.subject if claims.allows("device") else None
        if device_id is None and claims.token_id is None:
            return False
        return bool(await self._asked.ask(Presented(claims.subject, device_id, claims.issued_at, claims.token_id)))

    async def _revoked(self, presented: Sequence[Presented]) -> Mapping[Presented, bool]:
        return dict.fromkeys(await revocations.revoked(self._pool, presented), True)
