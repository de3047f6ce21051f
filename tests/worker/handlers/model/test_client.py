"""One call of an emulated model: its deadlines, its cancellation, and what each failure is taken for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from loadtests.emulators.faults import Fault
from loadtests.emulators.model import EmulatedModel
from loadtests.emulators.serving import serving
from loadtests.ports import free_port
from tests.worker.rig import until
from worker.handlers.model.client import Deadlines, ModelAway, ModelBroken, ModelClient, ModelRefused
from worker.handlers.model.rules import Meaning
from worker.handlers.model.wire import Prepared, body_of

BODY = body_of(Prepared([{"role": "user", "content": "hello"}], 5), model="m", max_tokens=20)


@asynccontextmanager
async def asking(model: EmulatedModel, key: str = "", **seconds: float) -> AsyncIterator[ModelClient]:
    deadlines = Deadlines(**{"connect_s": 5.0, "first_s": 20.0, "silence_s": 20.0, "whole_s": 30.0, **seconds})
    async with serving(model.app) as address:
        client = ModelClient(f"{address}/v1", key or model.key, deadlines=deadlines)
        try:
            yield client
        finally:
            await client.close()


@pytest.mark.parametrize(("streams", "counts"), [(True, True), (True, False), (False, True)])
async def test_an_answer_is_put_together(streams: bool, counts: bool) -> None:
    async with asking(EmulatedModel(streams=streams, counts=counts)) as client:
        reply = await client.ask(BODY, within_s=20)
    assert reply.text == "word " * 20
    assert (reply.usage is not None) == counts


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Fault("stream", "hang", delay_s=60), {"silence_s": 0.2}),
        (Fault("chat", "hang"), {"first_s": 0.2, "connect_s": 0.1}),
        (Fault("stream", "hang", delay_s=60), {"whole_s": 0.3}),
        (Fault("chat", "cut_answer", after_bytes=300), {}),
        (Fault("chat", "lose_answer"), {}),
    ],
    ids=["silence", "first word", "whole", "cut", "lost"],
)
async def test_what_does_not_come_in_time_or_whole_is_broken(fault: Fault, seconds: dict[str, Any]) -> None:
    model = EmulatedModel()
    model.script.add(fault)
    async with asking(model, **seconds) as client:
        async with asyncio.timeout(10):
            with pytest.raises(ModelBroken):
                await client.ask(BODY, within_s=20)
        await until(lambda: not model.under_way)
        assert (await client.ask(BODY, within_s=20)).finish_reason == "stop"


async def test_a_server_that_asks_to_be_left_alone_is() -> None:
    model = EmulatedModel()
    model.script.add(Fault("chat", status=429, retry_after="30"))
    async with asking(model) as client:
        with pytest.raises(ModelAway) as refused:
            await client.ask(BODY, within_s=20)
        assert (refused.value.after_s, refused.value.may_cost) == (30, False)
        with pytest.raises(ModelAway) as left_alone:
            await client.ask(BODY, within_s=20)
        assert 0 < left_alone.value.after_s <= 30
    assert len(model.refused) == 1
    assert not model.billed


async def test_refusals_say_whose_they_are_and_no_key(caplog: pytest.LogCaptureFixture) -> None:
    async with asking(EmulatedModel(), key="sk-wrong-0123456789") as client:
        with pytest.raises(ModelRefused) as caught:
            await client.ask(BODY, within_s=20)
    assert caught.value.meaning is Meaning.SET_UP
    assert "sk-wrong" not in str(caught.value) + caplog.text
    async with asking(EmulatedModel()) as client:
        with pytest.raises(ModelRefused) as bad:
            await client.ask(b"{}", within_s=20)
    assert bad.value.meaning is Meaning.REFUSED


async def test_a_server_that_is_not_there_cost_nothing() -> None:
    client = ModelClient(f"http://127.0.0.1:{free_port()}/v1", "k", deadlines=Deadlines())
    with pytest.raises(ModelAway) as caught:
        await client.ask(BODY, within_s=20)
    assert not caught.value.may_cost
    await client.close()


async def test_whoever_cancels_hangs_up() -> None:
    model = EmulatedModel()
    model.script.add(Fault("stream", "hang", delay_s=60))
    async with asking(model) as client:
        asked = asyncio.create_task(client.ask(BODY, within_s=20))
        await until(lambda: model.under_way)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await until(lambda: not model.under_way)
