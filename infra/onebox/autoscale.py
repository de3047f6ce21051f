"""Hubs and workers come and go with their load on one machine, by the policies that the manifests of a cluster express.

It looks, decides and says why in one line. Adding is awaited; a removal takes as long as what it holds needs to be
moved or ended, so looking goes on meanwhile.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Generic, Protocol, TypeVar

from infra.onebox.errors import OneboxError
from infra.onebox.process_set import ProcessSet
from shared.backoff import Backoff
from shared.clock import monotonic

__all__ = ["Autoscale", "Policy"]


class _Decision(Protocol):
    @property
    def change(self) -> int: ...

    @property
    def why(self) -> str: ...


D_co = TypeVar("D_co", bound=_Decision, covariant=True)
D = TypeVar("D", bound=_Decision)


class Policy(Protocol[D_co]):
    """Looks and decides; `ready` says what a new process does once it is there."""

    @property
    def ready(self) -> str:
        """What is said of a process that was added, after its name."""

    async def decide(self, now: float) -> D_co:
        """What to do now."""

    def changed(self, count: int, now: float) -> None:
        """So many were added, or removed when negative."""


class Autoscale(Generic[D]):
    """`run()` is a loop until cancelled; `look()` is one turn of it."""

    def __init__(
        self, processes: ProcessSet, policy: Policy[D], *, period_s: float, say: Callable[[str], None], rand: Random
    ) -> None:
        self._processes = processes
        self._policy = policy
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
            await self._processes.close()

    async def look(self) -> D:
        """Read, decide, begin."""
        decision = await self._policy.decide(monotonic())
        if decision.change > 0:
            await self._add(decision)
        elif decision.change < 0:
            self._remove(decision)
        return decision

    async def _add(self, decision: D) -> None:
        if self._processes.leaving or monotonic() < self._not_before:
            return  # its number is the next one's; and what failed is not tried at every look
        noun = self._processes.noun
        for _ in range(decision.change):
            self._say(f"adding a {noun}: {decision.why}")
            try:
                name = await self._processes.add()
            except OneboxError as error:
                delay = self._backoff.next()
                self._not_before = monotonic() + delay
                self._say(f"no {noun} was added, the next try is in {delay:.0f} s or later: {error}")
                return
            self._backoff.reset()
            self._policy.changed(1, monotonic())
            self._say(f"{name} {self._policy.ready}")

    def _remove(self, decision: D) -> None:
        for _ in range(-decision.change):
            name = self._processes.begin_removal(self._on_gone)
            if name is None:
                return
            self._policy.changed(-1, monotonic())
            self._say(f"removing {name}: {decision.why}")

    def _on_gone(self, name: str, seconds: float) -> None:
        self._say(f"{name} has gone after {seconds:.1f} s")
