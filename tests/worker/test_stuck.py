"""A worker that is stopped in the middle of a job is named as the one that holds it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from api.whereabouts import At, Bounds, where
from shared.store import whereabouts
from tests.worker.rig import Cloud, WorkerProcess, until

pytestmark = pytest.mark.processes

BOUNDS = Bounds(lease_s=2, heartbeat_s=0.6, hub_silence_s=15)


async def test_a_stopped_worker_is_seen_to_hold_its_job_and_once_it_goes_on_the_job_is_not_stuck(
    cloud: Cloud, worker_process: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    worker = worker_process("w1")
    await worker.ready()
    gate = tmp_path / "gate"
    job_id = await cloud.request("slow.bin", str(gate), kind="gated")

    async def place() -> At:
        found = where(await whereabouts.job(cloud.pool, job_id), None, BOUNDS)
        assert found is not None
        return found

    await until(gate.with_suffix(".waiting").exists)
    assert (await place()).stuck is None
    worker.pause()

    async def silent() -> At | None:
        at = await place()
        return at if at.stuck is not None else None

    at: At = await until(silent)
    assert (at.place, at.holder) == ("running", "w1")
    assert str(at.stuck).startswith("w1 has been silent for ")

    gate.touch()
    worker.resume()
    await cloud.ended(job_id)
    assert (await place()).stuck is None
