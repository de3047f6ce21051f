"""The hubs of one machine, and how many devices each of them holds."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from infra.onebox.plan import Process
from infra.onebox.process_set import ProcessSet
from infra.onebox.readiness import ask
from infra.onebox.supervisor import Supervisor
from infra.scaling.policy import Autoscaler, Decision, Reading

__all__ = ["HubPolicy", "HubSet", "connections_in"]

# Sending devices away takes 20 s, the last of them 10 s more to be welcomed elsewhere.
REMOVE_DEADLINE_S: Final = 60.0
_METRICS_MAX: Final = 4 * 1024 * 1024
_CONNECTIONS: Final = "fleetwire_hub_connections "


class HubSet(ProcessSet):
    """Hubs by number that can be read."""

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
        """As of any processes by number."""
        super().__init__(
            supervisor,
            started,
            environment,
            make=make,
            tier=tier,
            on_change=on_change,
            say=say,
            noun="hub",
            remove_deadline_s=REMOVE_DEADLINE_S,
        )
        self._token = environment.get("FLEETWIRE_OPS_TOKEN") or None

    async def read(self) -> list[Reading]:
        """How many devices each holds now, from the metric that a cluster's autoscaler reads."""
        self.keep_told()
        hubs = list(self.processes)
        numbers = await asyncio.gather(*(self._connections(hub.ops_port) for hub in hubs))
        return [Reading(hub.name, number, hub.name in self.leaving) for hub, number in zip(hubs, numbers, strict=True)]

    async def _connections(self, ops_port: int) -> int | None:
        status, body = await ask(ops_port, "/metrics", token=self._token, answer_max=_METRICS_MAX)
        return connections_in(body) if status == 200 else None


class HubPolicy:
    """Decides by what the hubs hold."""

    ready = "is ready and takes its devices"

    def __init__(self, hubs: HubSet, scaler: Autoscaler) -> None:
        self._hubs = hubs
        self._scaler = scaler

    async def decide(self, now: float) -> Decision:
        """Read and decide."""
        return self._scaler.decide(await self._hubs.read(), now)

    def changed(self, count: int, now: float) -> None:
        """So many came, or went when negative."""
        self._scaler.changed(count, now)


def connections_in(metrics: str) -> int | None:
    """The number of open device sockets in a page of metrics; None when it does not say."""
    for line in metrics.splitlines():
        if line.startswith(_CONNECTIONS):
            try:
                return int(float(line.removeprefix(_CONNECTIONS)))
            except (ValueError, OverflowError):
                return None
    return None
