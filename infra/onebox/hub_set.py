"""The hubs of one machine by number: started, read, ended. The highest number goes first, as in a cluster.

A hub that is asked to go is still one of these until its process has ended, and its number is not given out before.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from infra.onebox.errors import OneboxError
from infra.onebox.plan import Process
from infra.onebox.readiness import ask
from infra.onebox.supervisor import Supervisor
from infra.scaling.policy import Reading
from shared.clock import monotonic

__all__ = ["HubSet", "connections_in"]

# Sending devices away takes 20 s, the last of them 10 s more to be welcomed elsewhere.
REMOVE_DEADLINE_S: Final = 60.0
_METRICS_MAX: Final = 4 * 1024 * 1024
_CONNECTIONS: Final = "fleetwire_hub_connections "


class HubSet:
    """Hubs 1 to n without a hole, but for those that are on their way out."""

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
    ) -> None:
        """`started` run already, 1 to n; `make(number)` plans one more and may raise OneboxError.

        `on_change(hubs)` is called when hubs came or went; an OSError of it is said and it is called again later.
        `say` takes a line for people.
        """
        self._supervisor = supervisor
        self._environment = environment
        self._make = make
        self._tier = tier
        self._on_change = on_change
        self._say = say
        self._is_told = True
        self._token = environment.get("FLEETWIRE_OPS_TOKEN") or None
        self._hubs = list(started)
        self._leaving: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"HubSet({len(self._hubs)} hubs, {len(self._leaving)} leaving)"

    @property
    def leaving(self) -> list[str]:
        """Those asked to go whose processes have not ended."""
        return list(self._leaving)

    async def read(self) -> list[Reading]:
        """How many devices each holds now, from the metric that a cluster's autoscaler reads."""
        if not self._is_told:
            self._tell_change()
        hubs = list(self._hubs)
        numbers = await asyncio.gather(*(self._connections(hub.ops_port) for hub in hubs))
        return [Reading(hub.name, number, hub.name in self._leaving) for hub, number in zip(hubs, numbers, strict=True)]

    async def add(self) -> str:
        """Start the next hub and return its name once it is ready. Raises OneboxError, and then there is none more."""
        hub = self._make(len(self._hubs) + 1)
        try:
            await self._supervisor.start(hub.spec(self._environment), tier=self._tier)
        except OneboxError:
            await self._supervisor.end(hub.name, 1.0)
            raise
        self._hubs.append(hub)
        self._tell_change()
        return hub.name

    def begin_removal(self, on_gone: Callable[[str, float], None]) -> str | None:
        """Ask the highest hub that stays to go, and return its name. `on_gone(name, seconds)` is called at its end."""
        staying = [hub for hub in self._hubs if hub.name not in self._leaving]
        if len(staying) < 2:
            return None  # the last hub stays, whatever a rule says
        name, began = staying[-1].name, monotonic()

        async def removal() -> None:
            try:
                await self._supervisor.end(name, REMOVE_DEADLINE_S)
            except Exception as error:  # noqa: BLE001 - said; the hub stays and is ended later
                self._say(f"{name} could not be ended and stays: {type(error).__name__} {error}")
                return
            finally:
                del self._leaving[name]
            self._hubs = [hub for hub in self._hubs if hub.name != name]
            self._tell_change()
            on_gone(name, monotonic() - began)

        self._leaving[name] = asyncio.create_task(removal(), name=f"end {name}")
        return name

    async def close(self) -> None:
        """Wait for no removal any more: whoever stops everything ends those hubs too."""
        removals = list(self._leaving.values())
        for task in removals:
            task.cancel()
        await asyncio.gather(*removals, return_exceptions=True)

    def _tell_change(self) -> None:
        try:
            self._on_change(self._hubs)
        except OSError as error:
            if self._is_told:
                self._say(f"the list of hubs cannot be kept up to date, other commands may not find them: {error}")
            self._is_told = False
        else:
            self._is_told = True

    async def _connections(self, ops_port: int) -> int | None:
        status, body = await ask(ops_port, "/metrics", token=self._token, answer_max=_METRICS_MAX)
        return connections_in(body) if status == 200 else None


def connections_in(metrics: str) -> int | None:
    """The number of open device sockets in a page of metrics; None when it does not say."""
    for line in metrics.splitlines():
        if line.startswith(_CONNECTIONS):
            try:
                return int(float(line.removeprefix(_CONNECTIONS)))
            except (ValueError, OverflowError):
                return None
    return None
