"""Handlers that are coroutines: their deadline, their end when they are cancelled, and what they may not do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from shared.cloud.threads import FileThreads
from shared.store.jobs import Claimed
from worker.coroutines import Coroutines, load_async_handlers
from worker.errors import HandlerFailed, HandlerTimedOut, ServiceAway
from worker.handlers.async_contract import Context, TryAgain
from worker.handlers.contract import Answer, ResponseFile, Task, Unsupported
from worker.pool import HandlerPool
from worker.scratch import JobFolder

JOB_ID = UUID(int=7)
JOB = Claimed(
    JOB_ID, "unknown", "truck-7", "local", "p", "a.ask", 1, "v", None, 1, 1, 60.0, 0.0, JOB_ID, "Responses/truck-7/a"
)


class Asks:
    """A handler that does what it is told."""

    kind = "ask"
    extensions = frozenset({".ask"})

    def __init__(self, body: Callable[[Task, Context], Awaitable[Any]] | None = None) -> None:
        self._body = body

    async def handle(self, task: Task, context: Context) -> Answer:
        assert self._body is not None
        answer: Answer = await self._body(task, context)
        return answer


@pytest.fixture
async def processes(environ: dict[str, str]) -> AsyncIterator[HandlerPool]:
    pool = HandlerPool(1, environ=environ, noop=True, rand=Random(1))
    yield pool
    await pool.close()


async def run(
    body: Callable[[Task, Context], Awaitable[Any]],
    processes: HandlerPool,
    tmp_path: Path,
    *,
    timeout_s: float = 20,
    grace_s: float = 5,
) -> Answer:
    folder = JobFolder(tmp_path / "job")
    folder.output.mkdir(parents=True)
    folder.input.write_text("x")
    threads = FileThreads(1)
    coroutines = Coroutines([Asks(body)], processes=processes, threads=threads, grace_s=grace_s)
    handler = coroutines.choose("unknown", "a.ask")
    assert handler is not None
    try:
        return (await coroutines.run(handler, JOB, folder, {"ask.n": 3}, timeout_s=timeout_s)).answer
    finally:
        await threads.close()


async def test_it_is_told_of_its_job_and_its_answer_is_the_worker_s(processes: HandlerPool, tmp_path: Path) -> None:
    async def body(task: Task, context: Context) -> Answer:
        assert (task.option("ask.n", 0), context.device_id, context.job_id) == (3, "truck-7", JOB_ID)
        assert 0 < context.remaining_s() <= 20
        (task.output / "a.txt").write_text(task.path.read_text())
        return Answer("processed", files=(ResponseFile("a.txt", "text/plain"),))

    assert (await run(body, processes, tmp_path)).files[0].name == "a.txt"


async def test_what_computes_runs_in_a_process_and_is_no_part_of_the_response(
    processes: HandlerPool, tmp_path: Path
) -> None:
    await processes.start()

    async def body(task: Task, context: Context) -> Answer:
        task.path.write_text("a,b\n1,2\n")
        processed = await context.process("table")
        assert (processed.folder / "summary.json").is_file()
        assert list(task.output.iterdir()) == []
        return Answer(processed.answer.outcome, summary={"rows": processed.answer.summary["rows"]})

    assert (await run(body, processes, tmp_path)).summary == {"rows": 1}


async def test_a_file_that_was_not_written_fails_the_attempt(processes: HandlerPool, tmp_path: Path) -> None:
    async def body(_: Task, __: Context) -> Answer:
        return Answer("processed", files=(ResponseFile("a.txt", "text/plain"),))

    with pytest.raises(HandlerFailed, match="was not written"):
        await run(body, processes, tmp_path)


async def test_refusals_outages_and_errors_are_told_apart(processes: HandlerPool, tmp_path: Path) -> None:
    async def refuses(_: Task, __: Context) -> Answer:
        raise Unsupported("not this")

    async def is_away(_: Task, __: Context) -> Answer:
        raise TryAgain("come back", after_s=9)

    async def fails(_: Task, __: Context) -> Answer:
        raise KeyError("mine")

    assert (await run(refuses, processes, tmp_path / "1")).outcome == "unsupported"
    with pytest.raises(ServiceAway, match="come back") as caught:
        await run(is_away, processes, tmp_path / "2")
    assert caught.value.after_s == 9
    with pytest.raises(HandlerFailed, match="KeyError"):
        await run(fails, processes, tmp_path / "3")


async def test_at_its_deadline_it_is_cancelled_and_may_tidy_up(processes: HandlerPool, tmp_path: Path) -> None:
    tidied = asyncio.Event()

    async def body(_: Task, __: Context) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.set()
        raise AssertionError("never")

    with pytest.raises(HandlerTimedOut):
        await run(body, processes, tmp_path, timeout_s=0.05)
    assert tidied.is_set()


async def test_one_that_will_not_end_is_left_behind(processes: HandlerPool, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def body(_: Task, __: Context) -> Answer:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return Answer("processed")

    with pytest.raises(HandlerTimedOut):
        await run(body, processes, tmp_path, timeout_s=0.05, grace_s=0.05)
    release.set()


async def test_whoever_cancels_the_job_cancels_the_handler(processes: HandlerPool, tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def body(_: Task, __: Context) -> Answer:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("never")

    job = asyncio.create_task(run(body, processes, tmp_path))
    await begun.wait()
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert ended.is_set()


def test_a_plug_in_that_is_none_is_left_out_and_the_others_go_on() -> None:
    def entry(name: str, value: str) -> EntryPoint:
        return EntryPoint(name, value, "fleetwire.async_handlers")

    here = "tests.worker.test_coroutines"
    found = load_async_handlers(
        [], [entry("ask", f"{here}:Asks"), entry("other", f"{here}:Asks"), entry("gone", "no.such:Handler")]
    )
    assert [handler.kind for handler in found] == ["ask"]


def test_a_kind_decides_before_an_extension_does(processes: HandlerPool) -> None:
    coroutines = Coroutines([Asks()], processes=processes, threads=FileThreads(1))
    assert coroutines.choose("ask", "a.jpg") is not None
    assert coroutines.choose("photo", "a.ask") is None
    assert coroutines.choose("unknown", "A.ASK") is not None
    assert coroutines.choose("unknown", "ask") is None
