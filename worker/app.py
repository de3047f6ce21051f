"""Builds a worker, runs it, and ends it in order.

Ending: not ready, no new claims, jobs at work get a while and are then given back, endings under way are committed,
their events are flushed to the bus, and everything is closed in the reverse order of its opening. Nothing that is
lost by dying earlier is more than time: leases end by themselves and the next attempt adopts what was written.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from random import Random, SystemRandom
from typing import Any, Final

import structlog

from shared import lifecycle
from shared.bus.hints import HintWaits
from shared.bus.publisher import Publisher
from shared.bus.redis_client import LazyRedis
from shared.clock import monotonic
from shared.cloud.large_puts import LargePuts
from shared.cloud.local import LocalStore
from shared.cloud.placement import Placement
from shared.cloud.provider import Provider
from shared.cloud.store import Store
from shared.cloud.stores import open_stores
from shared.cloud.threads import FileThreads
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_plan import Patience
from shared.cloud.upload_rows import RowJournal
from shared.hint_servers import open_waits
from shared.job_kinds import REQUESTS
from shared.lifecycle import Stop
from shared.settings import SettingsError, load
from shared.store import jobs, log, responses
from shared.store.pool import Pool
from shared.telemetry import logs
from shared.telemetry.health import OpsServer, Readiness
from shared.telemetry.metrics import CLOUD_AVOIDED
from shared.telemetry.traces import Tracer, open_tracer
from worker.cloud_leftovers import CloudLeftovers
from worker.coroutines import Coroutines, load_async_handlers
from worker.endings import Endings
from worker.handlers.model.client import ModelClient
from worker.handlers.model.handler import ModelHandler
from worker.handlers.ping import PingHandler
from worker.held_jobs import HeldJobs
from worker.homes import Homes
from worker.job_loop import JobLoop, LoopLimits
from worker.job_runner import JobRunner, RunnerLimits
from worker.left_places import LeftPlaces
from worker.model_calls_kept import ModelCallsKept
from worker.old_jobs import OldJobs
from worker.pool import HandlerPool, PoolLimits
from worker.retention_loop import RetentionLoop
from worker.retry import RetryPolicy
from worker.schedule_loop import ScheduleLoop
from worker.scratch import Scratch
from worker.settings import Settings
from worker.stall_guard import StallGuard

__all__ = ["main"]

_log = structlog.get_logger(__name__)

_LEFTOVER_DRAFTS_S: Final = 3600.0
_END_S: Final = 3.0
# For a part of a large file: a store that is down should lose the response to another before the job's time is over.
_PATIENCE: Final = Patience(tries=4, total_s=120.0)


def main() -> int:
    """Run a worker until it is told to stop. Returns the exit status."""
    environ = dict(os.environ)
    try:
        settings = load(Settings, environ)
    except SettingsError as error:
        print(f"worker: settings are wrong\n{error}", file=sys.stderr)  # noqa: T201 - logs are not set up yet
        return 2
    logs.configure(settings.name, settings.log_level, json=settings.log_format == "json")
    return lifecycle.run(lambda stop: _serve(settings, environ, stop), environ=environ)


async def _serve(settings: Settings, environ: Mapping[str, str], stop: Stop) -> int:
    rand = SystemRandom()
    async with AsyncExitStack() as closing:
        store = settings.open_local_store()
        threads = FileThreads(4, deadline_s=settings.cloud_deadline_s)
        closing.push_async_callback(threads.close)
        scratch = await threads.run(str(settings.scratch), Scratch, settings.scratch)
        closing.push_async_callback(threads.run_always, "", scratch.close)
        pool = await settings.open_pool(
            settings.name,
            prepared=(*jobs.TRANSACTION_STATEMENTS, *responses.TRANSACTION_STATEMENTS, *log.APPEND_STATEMENTS),
        )
        closing.push_async_callback(pool.close, timeout_s=2.0)
        if (tracer := open_tracer(settings, process="worker", name=settings.name)) is not None:
            closing.push_async_callback(tracer.close)
        publisher = Publisher(settings.redis_url, name=settings.name, on_taken=tracer.published if tracer else None)
        publishing = asyncio.create_task(publisher.run(), name="publisher")
        closing.push_async_callback(_end_publisher, publisher, publishing)
        handlers = HandlerPool(
            settings.handler_processes,
            environ=environ,
            limits=PoolLimits(
                memory=settings.memory_bytes,
                recycle_resident=settings.memory_bytes // 2,
                recycle_after=settings.recycle_after,
                nice=settings.nice,
            ),
            noop=settings.noop,
            rand=rand,
        )
        closing.push_async_callback(handlers.close)
        model = _open_model(settings, pool, threads, closing, rand)
        coroutines = Coroutines(load_async_handlers([PingHandler(), model]), processes=handlers, threads=threads)
        redis = LazyRedis(settings.redis_url, deadline_s=1.0, connections=4, name="worker-budgets")
        closing.push_async_callback(redis.aclose)
        opened = open_stores(settings, local=store, pool=pool, redis=redis)
        closing.push_async_callback(opened.close)
        providers = {one.name: one for one in opened}
        transfer = Transfer(patience=_PATIENCE, rand=rand)
        closing.push_async_callback(transfer.close)
        # The disk takes a large file in one go; what goes out over a line may break off and is gone on with.
        journal = RowJournal(pool)
        stores: dict[str, Store] = {
            name: one if one is store else LargePuts(one, transfer, journal) for name, one in providers.items()
        }
        placement = Placement(settings.cloud_placement, spread=rand.random())
        for name, _ in settings.cloud_placement:
            CLOUD_AVOIDED.labels(name).set_function(partial(_is_avoided, placement, name))
        homes = Homes(placement, first=settings.cloud_placement[0][0], rand=rand)
        held = HeldJobs(
            pool,
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            look_s=settings.cancel_look_s,
            rand=rand,
        )
        # As long as the lease is ours: a response that stands should not wait for the next attempt to find it.
        tries = max(4, int(settings.lease_s / 2))
        endings = Endings(
            pool,
            publisher,
            rand=rand,
            tries=tries,
            gather_s=settings.gather_s,
            at_work=lambda: len(held),
            tracer=tracer,
        )
        loop = _build_loop(
            settings=settings,
            pool=pool,
            sources=providers,
            stores=stores,
            homes=homes,
            handlers=handlers,
            coroutines=coroutines,
            held=held,
            endings=endings,
            scratch=scratch,
            threads=threads,
            rand=rand,
            tracer=tracer,
        )
        ops = OpsServer(
            settings.ops_host,
            settings.ops_port,
            process="worker",
            readiness=lambda: _readiness(stop, handlers, loop, held, homes),
            token=settings.ops_token,
        )
        await ops.start()
        closing.push_async_callback(ops.close)
        if not await _unless_stopped(stop, handlers.start()):
            return 0
        await _tidy(store, scratch, threads)
        hints = [open_waits(settings.hints_url, queue, consumer=settings.name) for queue in settings.queues]
        for reader in hints:
            closing.push_async_callback(reader.close)
        keeper = RetentionLoop(
            pool,
            settings.retention,
            [
                LeftPlaces(pool, providers),
                CloudLeftovers(pool, providers),
                ModelCallsKept(pool),
                OldJobs(pool, ended_h=settings.retention_jobs_h, dead_h=settings.retention_dead_h),
            ],
            owner=settings.name,
            period_s=settings.retention_period_s,
            rand=rand,
        )
        kinds = settings.job_kinds(REQUESTS)
        clockwork = ScheduleLoop(pool, kinds, store=store.name, fired=loop.wake, rand=rand)
        await _work(
            settings, stop, loop=loop, held=held, endings=endings, hints=hints, keeper=keeper, clockwork=clockwork
        )
    return 0


def _open_model(
    settings: Settings, pool: Pool, threads: FileThreads, closing: AsyncExitStack, rand: Random
) -> ModelHandler:
    client = None
    if settings.model_key is not None:
        deadlines, most = settings.model_deadlines, settings.concurrency
        client = ModelClient(settings.model_url, settings.model_key, deadlines=deadlines, connections=most)
        closing.push_async_callback(client.close)
    handler = ModelHandler(pool, threads, client, settings.model_plan, rand=rand)
    closing.push_async_callback(handler.close)
    return handler


def _build_loop(
    *,
    settings: Settings,
    pool: Pool,
    sources: Mapping[str, Provider],
    stores: Mapping[str, Store],
    homes: Homes,
    handlers: HandlerPool,
    coroutines: Coroutines,
    held: HeldJobs,
    endings: Endings,
    scratch: Scratch,
    threads: FileThreads,
    rand: Random,
    tracer: Tracer | None,
) -> JobLoop:
    runner = JobRunner(
        pool=pool,
        sources=sources,
        stores=stores,
        handlers=handlers,
        coroutines=coroutines,
        held=held,
        homes=homes,
        endings=endings,
        scratch=scratch,
        threads=threads,
        limits=RunnerLimits(handler_s=settings.handler_s, input_bytes=settings.input_bytes),
        policy=RetryPolicy(settings.max_attempts, settings.retry_base_s, settings.retry_cap_s),
        options=settings.options,
        rand=rand,
        tracer=tracer,
    )
    return JobLoop(
        pool=pool,
        queues=settings.queues,
        worker=settings.name,
        runner=runner,
        held=held,
        handlers=handlers,
        limits=LoopLimits(
            settings.concurrency,
            settings.lease_s,
            settings.ttl_s,
            settings.poll_s,
            device_running=settings.device_running,
            claim=settings.claim,
        ),
        homes=homes,
        rand=rand,
    )


async def _work(
    settings: Settings,
    stop: Stop,
    *,
    loop: JobLoop,
    held: HeldJobs,
    endings: Endings,
    hints: Sequence[HintWaits],
    keeper: RetentionLoop,
    clockwork: ScheduleLoop,
) -> None:
    """Claim until told to stop, then finish. A loop that fails ends the process: it must not only look alive."""
    stopping = asyncio.create_task(stop.wait(), name="stop")
    loops = [
        asyncio.create_task(loop.run(), name="claims"),
        asyncio.create_task(held.run(), name="heartbeat"),
        asyncio.create_task(loop.watch_depth(), name="depth"),
        asyncio.create_task(StallGuard(settings.stall_s).run(), name="stall"),
        asyncio.create_task(keeper.run(), name="retention"),
        asyncio.create_task(clockwork.run(), name="schedules"),
        *(asyncio.create_task(loop.listen(reader), name="hints") for reader in hints),
    ]
    _log.info("worker ready", queues=list(settings.queues), processes=settings.handler_processes)
    try:
        await asyncio.wait([stopping, *loops], return_when=asyncio.FIRST_COMPLETED)
        loop.stop_claiming()
        try:
            async with asyncio.timeout(settings.drain_s + _END_S):
                await loop.finish(settings.drain_s)
                await endings.close()
        except TimeoutError:
            _log.warning("the database does not answer: jobs are left to their leases")
    finally:
        for task in [stopping, *loops]:
            task.cancel()
        ended, _ = await asyncio.wait([stopping, *loops], timeout=_END_S)
    for task in ended:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _unless_stopped(stop: Stop, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, unless the process is told to stop first. Whether it was done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    await asyncio.wait([working], timeout=_END_S)
    return False


def _is_avoided(placement: Placement, store: str) -> bool:
    return placement.states(monotonic())[store] != "closed"


async def _tidy(store: LocalStore, scratch: Scratch, threads: FileThreads) -> None:
    """Remove what killed processes left."""
    runs = await threads.run("", scratch.sweep)
    drafts = await store.remove_leftovers(older_than_s=_LEFTOVER_DRAFTS_S)
    if runs or drafts:
        _log.info("leftovers removed", runs=runs, drafts=drafts)


async def _end_publisher(publisher: Publisher, publishing: "asyncio.Task[None]") -> None:
    await publisher.close()
    await asyncio.wait([publishing], timeout=2.0)
    publishing.cancel()


def _readiness(stop: Stop, handlers: HandlerPool, loop: JobLoop, held: HeldJobs, homes: Homes) -> Readiness:
    reasons = []
    if stop.requested:
        reasons.append("stopping")
    if not handlers.ready:
        reasons.append(handlers.problem or "no handler process is ready")
    if loop.database_problem is not None:
        reasons.append(loop.database_problem)
    detail = {"jobs": len(held), "processes": handlers.ready, "kinds": list(handlers.kinds), "stores": homes.states()}
    return Readiness(not reasons, tuple(reasons), detail)
