"""A cloud folder, a database and the plug-ins of the tests, for whole workers and for their parts."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from shared.cloud.local_provider import LocalProvider
from shared.store.pool import Pool, open_pool
from tests.worker import misbehaving
from tests.worker.rig import ROOT, Cloud, WorkerProcess


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=6)
    yield opened
    await opened.close()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What a process needs to find the project and the misbehaving handlers, and a secret it must not pass on."""
    misbehaving.install(tmp_path / "site")
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    return {"PYTHONPATH": path, "PATH": os.environ["PATH"], "FLEETWIRE_DATABASE_URL": "postgresql://u:secret@h/d"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalProvider]:
    (tmp_path / "cloud").mkdir()
    opened = LocalProvider(tmp_path / "cloud", tmp_path / "cloud-tmp")
    yield opened
    await opened.close()


@pytest.fixture
def cloud(pool: Pool, store: LocalProvider, tmp_path: Path) -> Cloud:
    return Cloud(pool, tmp_path / "cloud")


@pytest.fixture
def worker_process(
    tmp_path: Path, store: LocalProvider, environ: dict[str, str], database_url: str, redis_url: str
) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts real workers, with leases and heartbeats a thirtieth of the usual."""
    started: list[WorkerProcess] = []

    def start(name: str = "w1", **settings: object) -> WorkerProcess:
        given = {
            **environ,
            "FLEETWIRE_DATABASE_URL": database_url,
            "FLEETWIRE_REDIS_URL": redis_url,
            "FLEETWIRE_CLOUD_ROOT": str(tmp_path / "cloud"),
            "FLEETWIRE_CLOUD_TMP": str(tmp_path / "cloud-tmp"),
            "FLEETWIRE_WORKER_NAME": name,
            "FLEETWIRE_WORKER_PROCESSES": "1",
            "FLEETWIRE_WORKER_LEASE_S": "2",
            "FLEETWIRE_WORKER_HEARTBEAT_S": "0.6",
            "FLEETWIRE_WORKER_POLL_S": "0.1",
            "FLEETWIRE_WORKER_RETRY_BASE_S": "0.2",
            "FLEETWIRE_WORKER_NOOP": "1",
            "FLEETWIRE_WORKER_HANDLER_OPTIONS": f'{{"count.ledger": "{tmp_path / "ledger"}"}}',
            **{f"FLEETWIRE_{key.upper()}": str(value) for key, value in settings.items()},
        }
        process = WorkerProcess(given, tmp_path / f"{name}.log")
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
