"""The hub process, from its settings to its exit status. What it is made of and how it leaves: `hub/parts.py`.

It starts before Postgres and Redis are there and outlives their restarts: the operations port answers from the first
moment on, and says what is waited for.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random, SystemRandom

import structlog

from hub.census import Census
from hub.control import Control
from hub.gate import Gate
from hub.hub import Hub
from hub.mover import Mover
from hub.neighbours import Neighbours
from hub.parts import Parts
from hub.settings import Settings
from hub.store_watch import StoreWatch
from hub.sweep import Sweeper
from shared import lifecycle
from shared.backoff import Backoff
from shared.bus.canary import Canary
from shared.bus.canary_judge import BusState
from shared.heap import give_back_large_blocks
from shared.lifecycle import Stop, cancelled, until_stop_or_failure
from shared.settings import SettingsError, load
from shared.store.errors import StoreError
from shared.store.operations import TRANSACTION_STATEMENTS
from shared.store.pool import Pool
from shared.telemetry import logs
from shared.telemetry.health import OpsServer, Readiness
from shared.telemetry.traces import open_tracer
from shared.tokens import KeyRing

__all__ = ["Keys", "Running", "main", "serve"]

_log = structlog.get_logger(__name__)


class Keys:
    """The key sets a hub verifies with, read and checked before anything starts. Raises SettingsError."""

    def __init__(self, settings: Settings) -> None:
        self.tokens: KeyRing = settings.token_key_ring()
        self.tickets: KeyRing = settings.ticket_key_ring()


@dataclass(frozen=True, slots=True)
class Running:
    """A hub that takes devices, as those see it who watch it from inside its own process."""

    port: int
    ops_port: int
    hub: Hub
    gate: Gate
    canary: Canary
    sweeper: Sweeper
    mover: Mover
    neighbours: Neighbours
    census: Census


def main() -> int:
    """Run until SIGTERM. Exit status 2: the settings are wrong."""
    try:
        settings = load(Settings, os.environ)
        keys = Keys(settings)
    except SettingsError as error:
        sys.stderr.write(f"fleetwire hub: {len(error.problems)} setting(s) to mend\n{error}\n")
        return 2
    give_back_large_blocks()
    logs.configure(settings.name, settings.log_level, json=settings.log_format == "json")
    return lifecycle.run(lambda stop: serve(settings, keys, stop, on_running=_spare_the_collector), environ=os.environ)


def _spare_the_collector(running: Running) -> None:
    """What was built at the start lives to the end, and thousands of devices that come at once are no garbage.

    Hardly anything here forms cycles, so looking for them seldom costs little memory and saves long pauses.
    """
    del running
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def serve(
    settings: Settings, keys: Keys, stop: Stop, *, on_running: Callable[[Running], None] = lambda running: None
) -> int:
    """Everything from the first connection to the last."""
    rand = SystemRandom()
    watch = StoreWatch(rand, deadline_s=settings.store_s)
    states: list[BusState] = []
    gate = Gate(watch, lambda: states[-1] if states else BusState.DOUBT)
    control = Control(settings.name, drain=lambda: stop.request("drained by an operator"))
    async with AsyncExitStack() as leaving:
        ops = OpsServer(
            settings.ops_host,
            settings.ops_port,
            process=settings.name,
            readiness=lambda: Readiness(not gate.reasons, gate.reasons),
            token=settings.ops_token,
            routes=control.routes(),
        )
        await ops.start()
        leaving.push_async_callback(ops.close)
        pool = await _open_pool_when_there(settings, stop, watch, rand)
        if pool is None:
            return 0
        leaving.push_async_callback(pool.close, timeout_s=2.0)
        if (tracer := open_tracer(settings, process="hub", name=settings.name)) is not None:
            leaving.push_async_callback(tracer.close)
        parts = Parts(
            settings,
            pool=pool,
            tokens=keys.tokens,
            tickets=keys.tickets,
            watch=watch,
            gate=gate,
            states=states,
            rand=rand,
            ops_url=settings.reach_ops_at(ops.port),
            tracer=tracer,
        )
        loops = {asyncio.create_task(loop, name=name) for name, loop in parts.loops().items()}
        leaving.push_async_callback(cancelled, loops)
        leaving.push_async_callback(parts.key_url.aclose)
        if not await parts.key_url.first(stop):
            return 0
        await parts.endpoint.start()
        leaving.callback(parts.endpoint.close)
        gate.phase = "open"
        control.open(parts.hub.registry, parts.neighbours, parts.strangers, parts.mover, gate)
        on_running(
            Running(
                parts.endpoint.port,
                ops.port,
                parts.hub,
                gate,
                parts.canary,
                parts.sweeper,
                parts.mover,
                parts.neighbours,
                parts.endpoint.census,
            )
        )
        _log.info("hub takes devices", host=settings.host, port=parts.endpoint.port, ops_port=ops.port)
        failed = await until_stop_or_failure(stop, loops)
        await parts.leave()
        return 1 if failed else 0


async def _open_pool_when_there(settings: Settings, stop: Stop, watch: StoreWatch, rand: Random) -> Pool | None:
    """The pool, however long Postgres takes to come. None when the process was asked to stop meanwhile."""
    backoff = Backoff(rand, base=0.2, cap=3.0)
    while not stop.requested:
        try:
            pool = await settings.open_pool(settings.name, prepared=TRANSACTION_STATEMENTS)
        except StoreError as error:
            watch.failed(error)
            await stop.wait_for(backoff.next())
        else:
            watch.answered()
            return pool
    return None
