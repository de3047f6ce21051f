"""Hubs come and go with the devices on one machine, by the policy that the manifests of a cluster express.

It looks, decides and says why in one line. Adding is awaited; a removal takes as long as its devices need to be moved,
so looking goes on meanwhile.
"""

import asyncio
from collections.abc import Callable
from random import Random

from infra.onebox.errors import OneboxError
from infra.onebox.hub_set import HubSet
from infra.scaling.policy import Autoscaler, Decision
from shared.backoff import Backoff
from shared.clock import monotonic

__all__ = ["Autoscale"]


class Autoscale:
    """`run()` is a loop until cancelled; `look()` is one turn of it."""

    def __init__(
        self, hubs: HubSet, scaler: Autoscaler, *, period_s: float, say: Callable[[str], None], rand: Random
    ) -> None:
        self._hubs = hubs
        self._scaler = scaler
        self._period_s = period_s
        self._say = say
        self._backoff = Backoff(rand, base=max(1.0, 2 * period_s), cap=60.0)
        self._not_before = 0.0

    async def run(self) -> None:
        """Look every period until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._period_s)
                await self.look()
        finally:
            await self._hubs.close()

    async def look(self) -> Decision:
        """Read, decide, begin."""
        decision = self._scaler.decide(await self._hubs.read(), monotonic())
        if decision.change > 0:
            await self._add(decision)
        elif decision.change < 0:
            self._remove(decision)
        return decision

    async def _add(self, decision: Decision) -> None:
        if self._hubs.leaving or monotonic() < self._not_before:
            return  # its number is the next one's; and what failed is not tried at every look
        for _ in range(decision.change):
            self._say(f"adding a hub: {decision.why}")
            try:
                name = await self._hubs.add()
            except OneboxError as error:
                delay = self._backoff.next()
                self._not_before = monotonic() + delay
                self._say(f"no hub was added, the next try is in {delay:.0f} s or later: {error}")
                return
            self._backoff.reset()
            self._scaler.changed(1, monotonic())
            self._say(f"{name} is ready and takes its devices")

    def _remove(self, decision: Decision) -> None:
        for _ in range(-decision.change):
            name = self._hubs.begin_removal(self._on_gone)
            if name is None:
                return
            self._scaler.changed(-1, monotonic())
            self._say(f"removing {name}: {decision.why}")

    def _on_gone(self, name: str, seconds: float) -> None:
        self._say(f"{name} has gone after {seconds:.1f} s")
