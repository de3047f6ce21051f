"""An emulated Graph, an application there, and a provider for its drive."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtests.emulators.graph import GraphEmulator, running_graph
from shared.cloud.graph.provider import GraphProvider
from tests.shared.cloud.graph.tenant import Tenant


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[GraphEmulator]:
    async with running_graph(tmp_path / "graph") as emulator:
        yield emulator


@pytest.fixture
async def tenant(graph: GraphEmulator) -> AsyncIterator[Tenant]:
    made = Tenant(graph)
    yield made
    await made.close()


@pytest.fixture
def provider(tenant: Tenant) -> GraphProvider:
    return tenant.provider()
