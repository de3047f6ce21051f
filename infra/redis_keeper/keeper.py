"""Looks every few seconds and takes what steps are planned; tells whether all is settled and how full each shard is."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from infra.redis_keeper.plan import KEY_SLOTS, Server, plan
from infra.redis_keeper.servers import Servers, resolved
from shared.clock import monotonic
from shared.telemetry.metrics import REDIS_MEMORY_RATIO, REDIS_SETTLED

__all__ = ["Keeper"]

_QUICK_S: Final = 0.2

_log = structlog.get_logger(__name__)


class Keeper:
    """One at a time. Two of them would take the same steps twice, which changes nothing."""

    def __init__(self, names: Sequence[str], servers: Servers, *, least: int, period_s: float, stuck_s: float) -> None:
        """`least` servers must be there before a cluster is made of them; masters failed for `stuck_s` are replaced."""
        self._names = names
        self._servers = servers
        self._least = least
        self._period_s = period_s
        self._stuck_s = stuck_s
        self._failed_since: dict[str, float] = {}
        self.settled = False

    def __repr__(self) -> str:
        return f"Keeper({', '.join(self._names)}, {'settled' if self.settled else 'at work'})"

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            acted = await self.look()
            await asyncio.sleep(_QUICK_S if acted else self._period_s)

    async def look(self, now: Callable[[], float] = monotonic) -> bool:
        """Look once; whether something was done."""
        addresses = await resolved(self._names)
        servers = await self._servers.look(addresses)
        steps = plan(servers, expected=len(addresses), least=self._least, stuck=self._stuck(servers, now()))
        for step in steps:
            taken = await self._servers.take(step)
            _log.info("redis_step", step=type(step).__name__, at=getattr(step, "at", None), taken=taken)
        self.settled = not steps and len(servers) == len(addresses) >= self._least and _agree(servers)
        REDIS_SETTLED.set(self.settled)
        self._tell_memory(servers)
        return bool(steps)

    def _stuck(self, servers: Sequence[Server], now: float) -> frozenset[str]:
        """Masters that have been failed for longer than an election takes, by what any server says."""
        failed = {known.id for server in servers for known in server.table if known.failed and known.slots}
        self._failed_since = {one: self._failed_since.get(one, now) for one in failed}
        return frozenset(one for one, since in self._failed_since.items() if now - since >= self._stuck_s)

    def _tell_memory(self, servers: Sequence[Server]) -> None:
        # A shard that cannot be asked is left out, not called empty.
        REDIS_MEMORY_RATIO.clear()
        for server in servers:
            if server.own.slots and server.address in self._servers.memory:
                REDIS_MEMORY_RATIO.labels(server.address).set(self._servers.memory[server.address])


def _agree(servers: Sequence[Server]) -> bool:
    """All know all and have one picture: somebody has each key slot, and nobody has failed."""
    pictures = {frozenset((known.id, known.slots) for known in server.table if known.slots) for server in servers}
    [picture] = pictures if len(pictures) == 1 else [frozenset[tuple[str, frozenset[int]]]()]
    whole = sum(len(slots) for _, slots in picture) == KEY_SLOTS
    alike = all(server.knows == {other.id for other in servers} for server in servers)
    return whole and alike and not any(known.failed for server in servers for known in server.table)
