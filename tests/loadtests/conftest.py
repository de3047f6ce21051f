"""A whole Fleetwire for the tests that drive one as a load run does, its hubs reached over a port of the test's own."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port


@dataclass(frozen=True)
class Driven:
    """The API tells devices to connect to `proxy_port`; what stands there is the test's to start."""

    machine: Machine
    proxy_port: int

    @property
    def home(self) -> str:
        return str(self.machine.folder / "home")

    @property
    def hub(self) -> str:
        return self.machine.hubs[0]


@pytest.fixture(scope="package")
def driven() -> Iterator[Driven]:
    port = free_port()
    with running_machine(hubs=1, FLEETWIRE_PROXY_URL=f"ws://127.0.0.1:{port}") as machine:
        yield Driven(machine, port)
