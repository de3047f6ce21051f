"""One whole Fleetwire for all end-to-end tests: `fleetwire up` in a home of its own, its hub behind an address that
tests put a fault proxy on.

Tests share it, so each takes devices of its own. The hub's patience is short, so that a slow line is slow to it too.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.onebox.home import Home
from infra.onebox.running import Running
from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port

HUB_PATIENCE_S = 3.0
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Site:
    """The machine, and where devices are told to reach its hub."""

    machine: Machine
    hub_port: int
    running: Running

    @property
    def hub(self) -> str:
        """The hub itself, behind whatever is on `hub_port`."""
        return self.machine.hubs[0]

    def ops(self, process: str) -> str:
        """The operations address of a process."""
        return f"http://127.0.0.1:{self.running.ops[process]}"

    async def count(self, process: str, name: str, **labels: str) -> float:
        """A metric of a running process: the sum of all samples that have these labels."""
        async with httpx.AsyncClient(timeout=10) as client:
            text = (await client.get(f"{self.ops(process)}/metrics")).raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(one.value for one in samples if one.name == name and _has(one.labels, labels))

    async def counts(self, process: str, name: str, label: str) -> dict[str, float]:
        """A counter of a running process by one of its labels."""
        async with httpx.AsyncClient(timeout=10) as client:
            text = (await client.get(f"{self.ops(process)}/metrics")).raise_for_status().text
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name:
                    found[sample.labels[label]] = found.get(sample.labels[label], 0) + sample.value
        return found

    def new_device(self, name: str) -> str:
        """A device id that no other test uses."""
        return f"{name}-{next(_NUMBERS)}"

    def drop(self, path: str, content: bytes) -> Path:
        """Move a file into the cloud folder, as something that uploads does."""
        target = self.machine.cloud / path
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.parent / f".draft-{next(_NUMBERS)}"
        draft.write_bytes(content)
        return draft.rename(target)


def _has(given: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(given.get(name) == value for name, value in wanted.items())


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = 20.0) -> None:
    """Wait for something that can only be asked for."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s:.0f} s: {what}") from None


@pytest.fixture(scope="package")
def site() -> Iterator[Site]:
    port = free_port()
    settings: dict[str, Any] = {
        "FLEETWIRE_PROXY_URL": f"ws://127.0.0.1:{port}",
        "FLEETWIRE_HUB_HEARTBEAT_S": "1.5",
        "FLEETWIRE_HUB_PONG_S": "1",
        "FLEETWIRE_HUB_PATIENCE_S": str(HUB_PATIENCE_S),
        "FLEETWIRE_HUB_JITTER_S": "0.1",
        "FLEETWIRE_WATCHER_RESCAN_S": "2",
        "FLEETWIRE_WORKER_NOOP": "1",
    }
    with running_machine(hubs=1, **settings) as machine:
        running = Running.read(Home(machine.folder / "home"))
        assert running is not None
        yield Site(machine, port, running)
