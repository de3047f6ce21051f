import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from shared.backoff import Backoff
from tests.worker.rig import ROOT, alive, until
from worker.errors import HandlerCrashed, HandlerFailed, HandlerTimedOut, PoolUnavailable
from worker.pool import Done, HandlerPool, PoolLimits
from worker.pool_wire import Order


@asynccontextmanager
async def running(environ: dict[str, str], size: int = 1, **limits: Any) -> AsyncIterator[HandlerPool]:
    pool = HandlerPool(size, environ=environ, limits=PoolLimits(**limits), noop=True, rand=Random(1))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def order(folder: Path, kind: str, content: str = "x", **options: Any) -> Order:
    source, output = folder / f"in.{kind}", folder / f"out-{kind}"
    source.write_text(content)
    output.mkdir(exist_ok=True)
    return Order(kind, f"file.{kind}", str(source), str(output), options)


async def test_a_file_is_handled_in_another_process(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ) as pool:
        done = await pool.run(order(tmp_path, "table", "a,b\n1,2\n"), timeout_s=10)
        assert (done.handler, done.answer.outcome, done.answer.summary["rows"]) == ("table", "processed", 1)
        assert (tmp_path / "out-table" / "summary.json").exists()
        noop = await pool.run(order(tmp_path, "noop"), timeout_s=10)
        assert noop.handler == "noop"
        assert "absent" not in pool.kinds


async def test_a_refusal_is_an_answer(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ) as pool:
        done = await pool.run(order(tmp_path, "photo", "no photo"), timeout_s=10)
        assert done.answer.outcome == "unreadable"
        done = await pool.run(order(tmp_path, "dwg", "drawing"), timeout_s=10)
        assert done.answer.outcome == "unknown"


async def test_a_killed_process_costs_its_attempt_and_the_pool_heals(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ, size=2) as pool:
        await until(lambda: pool.ready == 2)
        results = await asyncio.gather(
            pool.run(order(tmp_path, "crash"), timeout_s=10),
            pool.run(order(tmp_path, "table", "a,b\n1,2\n"), timeout_s=10),
            return_exceptions=True,
        )
        assert isinstance(results[0], HandlerCrashed)
        assert "SIGKILL" in str(results[0])
        assert isinstance(results[1], Done)
        with pytest.raises(HandlerCrashed, match="status 3"):
            await pool.run(order(tmp_path, "exit"), timeout_s=10)
        await until(lambda: pool.ready == 2)
        assert (await pool.run(order(tmp_path, "noop"), timeout_s=10)).handler == "noop"


async def test_files_that_kill_every_process_keep_no_other_waiting_for_one(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Patience(Backoff):
        def next(self) -> float:
            return 3600.0

    monkeypatch.setattr("worker.pool.Backoff", Patience)
    monkeypatch.setattr("worker.pool._SHORT_LIFE_S", 3600.0)
    async with running(environ) as pool:
        for _ in range(3):
            with pytest.raises(HandlerCrashed):
                await pool.run(order(tmp_path, "crash"), timeout_s=30)
        assert (await pool.run(order(tmp_path, "noop"), timeout_s=30)).handler == "noop"


async def test_a_process_killed_while_idle_is_replaced_and_not_given_work(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    async with running(environ) as pool:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.pids not in ([], [pid]))
        done = await pool.run(order(tmp_path, "noop"), timeout_s=10)
        assert done.handler == "noop"


async def test_a_handler_that_hangs_is_killed_in_time(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ) as pool:
        (pid,) = pool.pids
        with pytest.raises(HandlerTimedOut, match=r"0\.3 s"):
            await pool.run(order(tmp_path, "hang"), timeout_s=0.3)
        await until(lambda: not alive(pid))
        assert (await pool.run(order(tmp_path, "noop"), timeout_s=10)).handler == "noop"


async def test_cancelling_a_run_kills_its_process(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ) as pool:
        run = asyncio.create_task(pool.run(order(tmp_path, "hang"), timeout_s=60))
        await until(lambda: bool(pool.busy_pids))
        (pid,) = pool.busy_pids
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await until(lambda: not alive(pid))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds the memory of a process")
async def test_a_handler_that_needs_too_much_memory_is_answered(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ, memory=500_000_000) as pool:
        (pid,) = pool.pids
        done = await pool.run(order(tmp_path, "greedy"), timeout_s=10)
        assert done.answer.outcome == "too_large"
        assert pool.pids == [pid]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what a process holds")
async def test_a_handler_that_takes_shared_memory_is_killed_and_answered(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    async with running(environ, memory=200_000_000, watch_s=0.05) as pool:
        (pid,) = pool.pids
        done = await pool.run(order(tmp_path, "sharer"), timeout_s=50)
        assert (done.answer.outcome, done.handler) == ("too_large", "sharer")
        await until(lambda: not alive(pid))
        assert (await pool.run(order(tmp_path, "noop"), timeout_s=10)).handler == "noop"


@pytest.mark.parametrize("how", ["hang", "crash", "cancel", "close", "recycle"])
async def test_what_a_handler_has_started_ends_with_its_process(
    tmp_path: Path, environ: dict[str, str], how: str
) -> None:
    async with running(environ, recycle_after=1 if how == "recycle" else 100) as pool:
        content = {"recycle": "answer", "crash": "crash"}.get(how, "hang")
        run = asyncio.create_task(pool.run(order(tmp_path, "family", content), timeout_s=0.3 if how == "hang" else 50))
        child = int(await until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text()))
        if how == "cancel":
            run.cancel()
        if how == "close":
            await pool.close()
        [result] = await asyncio.gather(run, return_exceptions=True)
        kinds = {"hang": HandlerTimedOut, "cancel": asyncio.CancelledError, "recycle": Done}
        assert isinstance(result, kinds.get(how, HandlerCrashed))
        await until(lambda: not alive(child))


async def test_a_process_that_keeps_memory_is_replaced(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ, recycle_resident=100_000_000) as pool:
        (first,) = pool.pids
        pids = [(await pool.run(order(tmp_path, "hoard"), timeout_s=10)).answer.summary["pid"] for _ in range(4)]
        assert pids[0] == first
        assert pids[-1] != first


async def test_a_process_is_replaced_after_so_many_files(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ, recycle_after=2) as pool:
        pids = [(await pool.run(order(tmp_path, "chatty"), timeout_s=10)).answer.summary["pid"] for _ in range(5)]
        assert (pids[0], pids[2]) == (pids[1], pids[3])
        assert len(set(pids)) == 3


async def test_processes_that_serve_in_turns_are_not_replaced_all_at_once(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    async with running(environ, size=2, recycle_after=2) as pool:
        async with asyncio.timeout(20):
            while pool.ready < 2:
                await asyncio.sleep(0.01)
        for _ in range(6):
            await pool.run(order(tmp_path, "chatty"), timeout_s=10)
            assert pool.ready


async def test_a_handler_that_raises_or_prints_harms_nothing(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ) as pool:
        (pid,) = pool.pids
        with pytest.raises(HandlerFailed, match="RuntimeError: broken handler"):
            await pool.run(order(tmp_path, "raise"), timeout_s=10)
        done = await pool.run(order(tmp_path, "chatty"), timeout_s=10)
        assert done.answer.summary["pid"] == pid
        assert "FLEETWIRE_DATABASE_URL" not in done.answer.summary["environ"]


async def test_an_answer_that_breaks_the_contract_fails_the_attempt(tmp_path: Path, environ: dict[str, str]) -> None:
    async with running(environ) as pool:
        pids = pool.pids
        for what in ("type", "summary", "missing", "traversal", "document", "twice", "many", "link"):
            (tmp_path / what).mkdir()
            with pytest.raises(HandlerFailed, match="BadAnswer"):
                await pool.run(order(tmp_path / what, "wrong", what), timeout_s=10)
        assert pool.pids == pids


async def test_a_pool_whose_processes_do_not_start_says_so(environ: dict[str, str]) -> None:
    pool = HandlerPool(1, environ=environ, limits=PoolLimits(), rand=Random(1), python="/bin/false")
    with pytest.raises(PoolUnavailable, match="did not become ready"):
        await pool.start(wait_s=1.0)
    assert pool.ready == 0
    await pool.close()


async def test_a_process_that_has_not_said_so_is_not_ready(environ: dict[str, str], tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o700)
    pool = HandlerPool(1, environ=environ, limits=PoolLimits(), rand=Random(1), python=str(silent))
    with pytest.raises(PoolUnavailable):
        await pool.start(wait_s=1.0)
    assert pool.ready == 0
    assert pool.pids == []
    await pool.close()


async def test_closing_leaves_no_process(tmp_path: Path, environ: dict[str, str]) -> None:
    pool = HandlerPool(2, environ=environ, limits=PoolLimits(), rand=Random(1))
    await pool.start()
    await until(lambda: pool.ready == 2)
    run = asyncio.create_task(pool.run(order(tmp_path, "hang"), timeout_s=60))
    await until(lambda: bool(pool.busy_pids))
    pids = pool.pids
    await pool.close()
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(HandlerCrashed):
        await run


PARENT = """
import asyncio, os, sys
from random import Random
from worker.pool import HandlerPool, PoolLimits
from worker.pool_wire import Order

async def main():
    pool = HandlerPool(2, environ=dict(os.environ), limits=PoolLimits(), rand=Random(1))
    await pool.start()
    while pool.ready < 2:
        await asyncio.sleep(0.01)
    asyncio.ensure_future(pool.run(Order("hang", "a.hang", sys.argv[1], "/nowhere", {}), timeout_s=60))
    while not pool.busy_pids:
        await asyncio.sleep(0.01)
    print("pids", *pool.pids, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_pool_processes_die_with_a_worker_that_is_killed(tmp_path: Path, environ: dict[str, str]) -> None:
    source = tmp_path / "in"
    source.write_text("x")
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(source), env=environ, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    while not (line := await parent.stdout.readline()).startswith(b"pids "):
        assert line
    pids = [int(pid) for pid in line.split()[1:]]
    assert len(pids) == 2
    parent.kill()
    await parent.wait()
    await until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.timeout(120)
async def test_a_pool_that_cannot_replace_its_process_fails_the_attempt_instead_of_waiting_for_ever(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    interpreter, moved = tmp_path / "python", tmp_path / "moved"
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    pool = HandlerPool(1, environ=environ, limits=PoolLimits(start_s=3.0), rand=Random(1), python=str(interpreter))
    await pool.start()
    try:
        interpreter.rename(moved)
        with pytest.raises(HandlerCrashed):
            await pool.run(order(tmp_path, "crash"), timeout_s=10)
        with pytest.raises(PoolUnavailable, match="can be started"):
            await pool.run(order(tmp_path, "table"), timeout_s=10)
        moved.rename(interpreter)

        async def handled() -> Done | None:
            try:
                return await pool.run(order(tmp_path, "table", "a,b\n1,2\n"), timeout_s=10)
            except PoolUnavailable:  # a busy machine needs longer than that for a start
                return None

        assert (await until(handled, 90)).handler == "table"
    finally:
        await pool.close()
