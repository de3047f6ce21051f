"""Watchers over an empty cloud folder, a database of their own and an emptied Valkey."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.watcher.rig import InLoop, Process, Rig


@pytest.fixture
async def rig(tmp_path: Path, database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    connection = await asyncpg.connect(database_url)
    yield Rig(tmp_path, database_url, redis_url, connection)
    await connection.close()


@pytest.fixture
async def watch(rig: Rig) -> AsyncIterator[Callable[..., InLoop]]:
    """Starts a watcher in the test's loop; settings by name."""
    started: list[InLoop] = []

    def start(**settings: Any) -> InLoop:
        started.append(InLoop(rig.settings(**settings)))
        return started[-1]

    yield start
    for watcher in started:
        await watcher.kill()


@pytest.fixture
async def watcher_process(rig: Rig, tmp_path: Path) -> AsyncIterator[Callable[..., Process]]:
    """Starts a watcher process; environment by name."""
    started: list[Process] = []

    def start(**environment: str) -> Process:
        started.append(Process(rig.environment(**environment), tmp_path / f"watcher-{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.kill()
