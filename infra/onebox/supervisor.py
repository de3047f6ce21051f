"""Keeps the processes of one machine: started in order, each awaited until ready, stopped in the opposite order.

Only the main thread starts processes, because the kernel ends a child with the thread that forked it. Children are
stopped tier by tier: what uses a server ends before the server does.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final

from infra.onebox.child import Child, ChildSpec
from infra.onebox.log_lines import LogLines

__all__ = ["SERVERS_STOP_S", "Supervisor"]

SERVERS_STOP_S: Final = 3.0


class Supervisor:
    """The children in the order they were started. One loop, one thread."""

    def __init__(self, lines: LogLines, rand: Random) -> None:
        self._lines = lines
        self._rand = rand
        self._tiers: dict[int, list[Child]] = {}

    def __repr__(self) -> str:
        return f"Supervisor({', '.join(f'{child.spec.name} {child.state}' for child in self.children)})"

    @property
    def children(self) -> list[Child]:
        """All children, servers first."""
        return [child for tier in sorted(self._tiers) for child in self._tiers[tier]]

    async def start(self, *specs: ChildSpec, tier: int, on_ready: Callable[[Child], None] | None = None) -> None:
        """Start these together and return when all are ready. Raises ServerNotReady."""
        children = [Child(spec, self._lines, self._rand) for spec in specs]
        self._tiers.setdefault(tier, []).extend(children)
        for child in children:
            child.start()
        for child in children:
            await child.wait_ready()
            if on_ready is not None:
                on_ready(child)

    async def end(self, name: str, deadline_s: float) -> None:
        """End one child within `deadline_s` and know nothing of it any more. What `stop()` meets meanwhile, it ends."""
        for tier in self._tiers.values():
            for child in [child for child in tier if child.spec.name == name]:
                await child.stop(deadline_s)
                tier.remove(child)

    async def stop(self, deadline_s: float) -> None:
        """End all: the processes within `deadline_s`, then the servers (tier 0) within SERVERS_STOP_S."""
        upper = [tier for tier in sorted(self._tiers, reverse=True) if tier > 0]
        for tier in upper:
            share = deadline_s / len(upper)
            await asyncio.gather(*(child.stop(share) for child in self._tiers[tier]))
        await asyncio.gather(*(child.stop(SERVERS_STOP_S) for child in self._tiers.get(0, [])))
