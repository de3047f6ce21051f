"""A real worker that asks an emulated model, in fair weather and in every kind of foul."""

import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from PIL import Image

from loadtests.emulators.faults import Fault
from loadtests.emulators.model import EmulatedModel
from loadtests.emulators.serving import serving
from shared.store import model_usage
from tests.worker.rig import DEVICE, Cloud, WorkerProcess, until

Start = Callable[..., WorkerProcess]
pytestmark = pytest.mark.processes


@pytest.fixture
def model() -> EmulatedModel:
    return EmulatedModel()


@pytest.fixture
async def start(model: EmulatedModel, worker_process: Start) -> AsyncIterator[Start]:
    async with serving(model.app) as address:

        def begin(**settings: object) -> WorkerProcess:
            given = {
                "model_url": f"{address}/v1",
                "model_key": model.key,
                "model_name": "small",
                "model_price_in": "1",
                "model_price_out": "2",
                "model_max_tokens": "20",
                "model_image_tokens": "100",
                "model_silence_s": "0.5",
                "model_first_s": "5",
                **settings,
            }
            return worker_process(**given)

        yield begin


async def done(cloud: Cloud, name: str, content: bytes | str, kind: str = "model") -> dict[str, Any]:
    job_id = await cloud.request(name, content, kind=kind)
    job = await cloud.ended(job_id)
    assert job.current_status == "done", job.error
    cloud.verify(await cloud.event_of(job_id), job_id)
    return cloud.document(job_id)


async def test_a_text_is_asked_and_the_answer_and_its_cost_are_told(
    cloud: Cloud, start: Start, model: EmulatedModel
) -> None:
    worker = start()
    document = await done(cloud, "a.prompt", "hello", kind="unknown")
    assert (document["handler"], document["outcome"]) == ("model", "processed")
    assert [file["name"] for file in document["files"]] == ["answer.txt"]
    # 5 bytes and two frames of 16 tokens at 1, 20 words at 2.
    assert document["summary"] == {
        "model": "small",
        "finish_reason": "stop",
        "tokens_in": 37,
        "tokens_out": 20,
        "cost": "0.000077",
        "estimated": False,
    }
    used = await model_usage.usage(cloud.pool, DEVICE)
    assert used is not None
    assert used[2:] == (1, 37, 20, 77, 0)
    assert model.key not in worker.log()


async def test_a_photo_is_made_small_before_it_is_sent(cloud: Cloud, start: Start, model: EmulatedModel) -> None:
    start()
    file = io.BytesIO()
    Image.new("RGB", (4000, 3000), (200, 10, 10)).save(file, "JPEG")
    document = await done(cloud, "a.jpg", file.getvalue())
    assert document["outcome"] == "processed"
    question, picture = model.asked[0]["messages"][0]["content"]
    assert question["type"] == "text"
    sent = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2])))
    assert sent.size == (1024, 768)


async def test_a_conversation_is_sent_as_it_is_and_an_address_of_an_image_is_refused(
    cloud: Cloud, start: Start, model: EmulatedModel
) -> None:
    start()
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    await done(cloud, "a.chat", json.dumps({"messages": messages, "max_tokens": 4}))
    assert (model.asked[0]["messages"], model.asked[0]["max_tokens"]) == (messages, 4)
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/secret.jpg"}}
    document = await done(cloud, "b.chat", json.dumps({"messages": [{"role": "user", "content": [picture]}]}))
    assert document["outcome"] == "unsupported"
    assert len(model.asked) == 1


async def test_without_a_key_the_response_says_so(cloud: Cloud, worker_process: Start) -> None:
    worker_process()
    document = await done(cloud, "a.prompt", "hello")
    assert document["outcome"] == "unavailable"
    assert "FLEETWIRE_MODEL_KEY" in document["detail"]


async def test_a_key_that_is_refused_is_told_to_nobody(cloud: Cloud, start: Start) -> None:
    worker = start(model_key="sk-wrong-0123456789")
    document = await done(cloud, "a.prompt", "hello")
    assert document["outcome"] == "unavailable"
    assert "answered 401" in worker.log()
    assert "sk-wrong" not in worker.log() + json.dumps(document)
    used = await model_usage.usage(cloud.pool, DEVICE)
    assert used is not None
    assert used.cost_micros == used.reserved_micros == 0


@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (Fault("chat", status=429, retry_after="0"), 1),
        (Fault("chat", status=500), 1),
        (Fault("chat", "cut_answer", after_bytes=300), 2),
        (Fault("stream", "hang", delay_s=60), 2),
    ],
    ids=["429", "500", "cut", "silence"],
)
async def test_a_fault_is_outlived_and_what_it_may_have_cost_is_counted(
    cloud: Cloud, start: Start, model: EmulatedModel, fault: Fault, billed: int
) -> None:
    model.script.add(fault)
    start()
    document = await done(cloud, "a.prompt", "hello")
    assert document["outcome"] == "processed"
    assert len(model.billed) == billed
    used = await model_usage.usage(cloud.pool, DEVICE)
    assert used is not None
    assert (used.cost_micros, used.reserved_micros) == (77 * billed, 0)


async def test_a_budget_that_is_spent_is_an_answer_and_costs_nothing(
    cloud: Cloud, start: Start, model: EmulatedModel
) -> None:
    start(model_budget_device="0.000231")
    outcomes = [(await done(cloud, f"{n}.prompt", "hello"))["outcome"] for n in range(4)]
    assert outcomes == ["processed"] * 3 + ["over_budget"]
    assert len(model.billed) == 3
    used = await model_usage.usage(cloud.pool, DEVICE)
    assert used is not None
    assert used.cost_micros == 231


async def test_an_answer_that_was_paid_for_is_not_asked_for_again(
    cloud: Cloud, start: Start, model: EmulatedModel
) -> None:
    job_id = await cloud.request("a.prompt", "hello", kind="model")
    blocked = cloud.root / "Responses" / DEVICE
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("no folder can be made here")
    start()
    await until(lambda: model.billed)
    await until_settled(cloud)
    blocked.unlink()
    assert (await cloud.ended(job_id)).current_status == "done"
    assert len(model.billed) == 1
    assert cloud.document(job_id)["summary"]["cost"] == "0.000077"


async def test_a_worker_that_is_told_to_stop_hands_the_request_back_and_hangs_up(
    cloud: Cloud, start: Start, model: EmulatedModel
) -> None:
    model.script.add(Fault("stream", "hang", delay_s=60))
    worker = start(model_silence_s="60", worker_drain_s="0")
    job_id = await cloud.request("a.prompt", "hello", kind="model")
    await until(lambda: model.under_way)
    worker.terminate()
    assert await worker.wait() == 0
    assert (await cloud.job(job_id)).current_status in ("queued", "retry")
    await until(lambda: not model.under_way)
    await until_settled(cloud)
    start(name="w2")
    assert (await cloud.ended(job_id)).current_status == "done"


async def test_a_request_whose_lease_is_another_s_hangs_up_on_the_model(
    cloud: Cloud, start: Start, model: EmulatedModel
) -> None:
    model.script.add(Fault("stream", "hang", delay_s=60))
    worker = start(model_silence_s="60")
    await cloud.request("a.prompt", "hello", kind="model")
    await until(lambda: model.under_way)
    await cloud.pool.fetch("UPDATE jobs SET lease_token = lease_token + 1, lease_until = 'infinity'")
    await until(lambda: not model.under_way)
    await until_settled(cloud)
    assert "lease of job lost" in worker.log()


async def until_settled(cloud: Cloud) -> None:
    async def settled() -> bool:
        used = await model_usage.usage(cloud.pool, DEVICE)
        return used is not None and used.calls > 0 and used.reserved_micros == 0

    await until(settled)
