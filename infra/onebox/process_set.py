"""Processes of one kind on one machine by number: started and ended. The highest number goes first, as in a cluster.

One that is asked to go is still one of these until it has ended, and its number is not given out before.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from infra.onebox.errors import OneboxError
from infra.onebox.plan import Process
from infra.onebox.supervisor import Supervisor
from shared.clock import monotonic

__all__ = ["ProcessSet"]


class ProcessSet:
    """Processes 1 to n without a hole, but for those that are on their way out."""

    def __init__(
        self,
        supervisor: Supervisor,
        started: Sequence[Process],
        environment: Mapping[str, str],
        *,
        make: Callable[[int], Process],
        tier: int,
        on_change: Callable[[Sequence[Process]], None],
        say: Callable[[str], None],
        noun: str,
        remove_deadline_s: float,
    ) -> None:
        """`started` run already, 1 to n; `make(number)` plans one more and may raise OneboxError.

        `on_change(processes)` is called when some came or went; an OSError of it is said and it is called again
        later. `say` takes a line for people, in which each of them is a `noun`.
        """
        self._supervisor = supervisor
        self._environment = environment
        self._make = make
        self._tier = tier
        self._on_change = on_change
        self._say = say
        self._is_told = True
        self._remove_deadline_s = remove_deadline_s
        self.noun = noun
        self.processes = list(started)
        self._leaving: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"ProcessSet({len(self.processes)} {self.noun}s, {len(self._leaving)} leaving)"

    @property
    def leaving(self) -> list[str]:
        """Those asked to go whose processes have not ended."""
        return list(self._leaving)

    @property
    def staying(self) -> int:
        """How many there are besides."""
        return len(self.processes) - len(self._leaving)

    def keep_told(self) -> None:
        """Tell of the last change again if that failed."""
        if not self._is_told:
            self._tell_change()

    async def add(self) -> str:
        """Start the next and return its name once it is ready. Raises OneboxError, and then there is none more."""
        process = self._make(len(self.processes) + 1)
        try:
            await self._supervisor.start(process.spec(self._environment), tier=self._tier)
        except OneboxError:
            await self._supervisor.end(process.name, 1.0)
            raise
        self.processes.append(process)
        self._tell_change()
        return process.name

    def begin_removal(self, on_gone: Callable[[str, float], None]) -> str | None:
        """Ask the highest that stays to go, and return its name. `on_gone(name, seconds)` is called at its end."""
        staying = [process for process in self.processes if process.name not in self._leaving]
        if len(staying) < 2:
            return None  # the last one stays, whatever a rule says
        name, began = staying[-1].name, monotonic()

        async def removal() -> None:
            try:
                await self._supervisor.end(name, self._remove_deadline_s)
            except Exception as error:  # noqa: BLE001 - said; it stays and is ended later
                self._say(f"{name} could not be ended and stays: {type(error).__name__} {error}")
                return
            finally:
                del self._leaving[name]
            self.processes = [process for process in self.processes if process.name != name]
            self._tell_change()
            on_gone(name, monotonic() - began)

        self._leaving[name] = asyncio.create_task(removal(), name=f"end {name}")
        return name

    async def close(self) -> None:
        """Wait for no removal any more: whoever stops everything ends those too."""
        removals = list(self._leaving.values())
        for task in removals:
            task.cancel()
        await asyncio.gather(*removals, return_exceptions=True)

    def _tell_change(self) -> None:
        try:
            self._on_change(self.processes)
        except OSError as error:
            if self._is_told:
                what = f"the list of {self.noun}s cannot be kept up to date"
                self._say(f"{what}, other commands may not find them: {error}")
            self._is_told = False
        else:
            self._is_told = True
