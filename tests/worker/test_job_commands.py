"""What people do to jobs, as a worker meets it: requests without a file, and dead jobs that are queued anew."""

from collections.abc import Callable
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from shared.store import devices, jobs, response_list
from shared.store.jobs import InlineJob
from tests.worker.rig import DEVICE, Cloud, WorkerProcess

Start = Callable[..., WorkerProcess]
pytestmark = pytest.mark.processes


async def ask(cloud: Cloud, name: str, kind: str, text: str) -> UUID:
    """A request by REST."""
    await devices.ensure(cloud.pool, DEVICE, "truck")
    content = text.encode()
    job = InlineJob(
        uuid4(), "requests", kind, DEVICE, "local", "", name, len(content), sha256(content).hexdigest(), text,
        f"device:{DEVICE}",
    )  # fmt: skip
    assert await jobs.insert_inline(cloud.pool, job) == "made"
    return job.job_id


async def test_a_request_without_a_file_is_answered_like_one_with_a_file(cloud: Cloud, worker_process: Start) -> None:
    inline = await ask(cloud, "weights.csv", "table", "a,b\n1,2\n3,ü\n")
    filed = await cloud.request("weights.csv", "a,b\n1,2\n3,ü\n", kind="table")
    unknown = await ask(cloud, "order", "unheard-of", '{"pallets": 3}')
    worker_process()
    documents = []
    for job_id in (inline, filed, unknown):
        assert (await cloud.ended(job_id)).current_status == "done"
        cloud.verify(await cloud.event_of(job_id), job_id)
        documents.append(cloud.document(job_id))
    assert documents[0]["summary"] == documents[1]["summary"]
    assert documents[0]["request"] == documents[1]["request"]
    assert [document["outcome"] for document in documents] == ["processed", "processed", "unknown"]
    assert not (cloud.root / "Requests" / DEVICE / "order").exists()


async def test_a_dead_job_queued_anew_gives_its_device_one_more_end_each_time(
    cloud: Cloud, worker_process: Start
) -> None:
    gate = cloud.root.parent / "gate"
    worker_process(worker_max_attempts=1)
    job_id = await cloud.request("a.late", str(gate))

    async def dead() -> bool:
        return (await cloud.ended(job_id)).current_status == "dead"

    assert await dead()
    folder = cloud.root / "Responses" / DEVICE / f"a.{job_id}"
    assert await jobs.redrive(cloud.pool, job_id, detail="queued anew by operator:olga") == "requests"
    assert await dead()
    gate.touch()
    assert await jobs.redrive(cloud.pool, job_id, detail="queued anew by operator:olga") == "requests"
    assert (await cloud.ended(job_id)).current_status == "done"
    assert cloud.folder(job_id) == folder
    events = await cloud.events()
    assert [event["type"] for event in events] == ["RequestFailed", "RequestFailed", "ResponseReady"]
    assert {event["data"]["job_id"] for event in events} == {str(job_id)}
    cloud.verify(events[-1], job_id)
    (row,) = await response_list.page(cloud.pool, DEVICE, before=None, limit=5)
    assert (row.outcome, row.reason, row.event_id) == ("ready", None, events[-1]["id"])
    changes = [(row.status, row.detail) for row in reversed(await jobs.history(cloud.pool, job_id))]
    assert changes[:2] == [("queued", None), ("running", "attempt 1")]
    # Each time the attempts are counted from one.
    assert [change for change in changes if change[0] == "running"] == [("running", "attempt 1")] * 3
    assert changes.count(("queued", "queued anew by operator:olga")) == 2
    # A job that is not dead is left alone.
    assert await jobs.redrive(cloud.pool, job_id, detail="again") is None
