"""What people do to jobs, as a worker meets it: requests without a file, and dead jobs that are queued anew."""

import json
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from uuid import UUID, uuid4

import pytest

from shared.store import devices, jobs, response_list
from shared.store.jobs import InlineJob
from tests.worker.rig import DEVICE, Cloud, WorkerProcess, until

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


async def test_a_small_request_is_answered_by_the_event_alone(cloud: Cloud, worker_process: Start) -> None:
    asked = [await ask(cloud, "a", "small", text) for text in ("x", "long", "file", "fail")]
    ping = await ask(cloud, "p", "ping", "{}")
    filed = await cloud.request("b", "from a file", kind="small")
    worker_process(worker_max_attempts=1)
    ends = [(await cloud.ended(job_id)).current_status for job_id in [*asked, ping, filed]]
    assert ends == ["done", "done", "dead", "dead", "done", "done"]
    short, long, wrong, failed = [(await cloud.event_of(job_id)) for job_id in asked]
    assert short["data"]["files"] == []
    assert short["data"]["answer"] == {
        "handler": "small", "outcome": "processed", "detail": None, "summary": {"told": "x"},
    }  # fmt: skip
    assert not list((cloud.root / "Responses" / DEVICE).glob(f"*.{asked[0]}"))
    # Whoever lost the event finds the answer among the responses.
    answers = {
        row.job_id: row.answer for row in await response_list.page(cloud.pool, DEVICE, before=None, limit=9)
    }  # fmt: skip
    assert json.loads(answers[asked[0]] or "")["summary"] == {"told": "x"}
    assert answers[asked[1]] is None
    # What an event does not carry is written as ever, and a request that is a file is read from it.
    cloud.verify(long, asked[1])
    assert cloud.document(asked[1])["summary"] == {"told": "long" * 5000}
    cloud.verify(await cloud.event_of(filed), filed)
    assert cloud.document(filed)["summary"] == {"read": "from a file"}
    assert "was not written" in wrong["data"]["reason"]
    assert "as it was told" in failed["data"]["reason"]
    assert (await cloud.event_of(ping))["data"]["answer"]["summary"]["at"] > 1e9


async def test_small_jobs_end_once_each_though_their_worker_is_killed_among_them(
    cloud: Cloud, worker_process: Start
) -> None:
    asked = [await ask(cloud, "a", "small", str(n)) for n in range(60)]
    first = worker_process("w1", worker_concurrency=10)
    await until(partial(_ended, cloud))
    first.kill()
    second = worker_process("w2", worker_concurrency=50)
    for job_id in asked:
        assert (await cloud.ended(job_id)).current_status == "done"
    second.terminate()
    assert await second.wait() == 0
    events = await cloud.events()
    told = {event["data"]["job_id"]: event["data"]["answer"]["summary"]["told"] for event in events}
    assert len(events) == len(asked)
    assert told == {str(job_id): str(n) for n, job_id in enumerate(asked)}
    rows = await cloud.pool.fetch("SELECT count(*) FROM job_status WHERE status = 'done'")
    assert rows[0][0] == len(asked)


async def _ended(cloud: Cloud) -> int:
    rows = await cloud.pool.fetch("SELECT count(*) FROM jobs WHERE current_status = 'done'")
    return int(rows[0][0])


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
