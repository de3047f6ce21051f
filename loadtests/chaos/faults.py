"""The faults, one function each: what is done to a running machine, and until when.

A fault returns the names of processes whose devices may have had to wait; everybody else is held to the bound.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import uuid4

import asyncpg

from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.machine import Machine

__all__ = ["FAULTS", "Fault", "Note"]

STOP_S: Final = 40.0
REDIS_S: Final = 30.0
_TRIES: Final = 40


@dataclass
class Note:
    """What a fault did, for the report: `hub` is the hub it concerned, if any."""

    hub: str | None = None
    everyone: bool = False
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A name for the report and what to do."""

    name: str
    do: Callable[[Machine], Note]


def query(machine: Machine, statement: str, *arguments: object) -> list[asyncpg.Record]:
    """One statement on the machine's Postgres."""

    async def work() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(machine.database_url, timeout=10)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return rows
        finally:
            await connection.close()

    return asyncio.run(work())


def _kill(name: str) -> Callable[[Machine], Note]:
    def do(machine: Machine) -> Note:
        before = machine.kill(name)
        start = time.monotonic()
        while machine.pid(name) == before:
            time.sleep(0.02)
        time.sleep(5)
        return Note(
            hub=name if name.startswith("hub") else None, facts={"back_s": round(time.monotonic() - start - 5, 2)}
        )

    return do


def _pause(name: str, *, inside_transaction: bool = False) -> Callable[[Machine], Note]:
    def do(machine: Machine) -> Note:
        pid = _pause_inside(machine, name) if inside_transaction else machine.pause(name)
        note = Note(hub=name if name.startswith("hub") else None)
        if inside_transaction:
            note.facts["inside_transaction"] = pid is not None
        if pid is None:
            pid = machine.pause(name)
        time.sleep(STOP_S)
        machine.resume(pid)
        time.sleep(5)
        return note

    return do


def _pause_inside(machine: Machine, name: str) -> int | None:
    """Stop a process while it has a transaction open. None when that could not be hit."""
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE $1 AND state = 'idle in transaction' "
        "AND xact_start < clock_timestamp() - interval '20 ms'"
    )

    async def work() -> int | None:
        connection = await asyncpg.connect(machine.database_url, timeout=10)
        try:
            for _ in range(_TRIES):
                pid = machine.pause(name)
                await asyncio.sleep(0.05)  # what was on its way to Postgres has arrived
                if await connection.fetchval(asked, f"fleetwire-{name.partition('-')[0]}%"):
                    return pid
                machine.resume(pid)
                await asyncio.sleep(0.05)
            return None
        finally:
            await connection.close()

    return asyncio.run(work())


def _kill_worker_before_commit(machine: Machine) -> Note:
    """kill -9 both workers the moment a response.json appears, until one is caught before its commit."""
    hits = 0
    responses = machine.cloud / "Responses"
    known = set(responses.glob("*/*/response.json"))
    for _ in range(_TRIES):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            fresh = set(responses.glob("*/*/response.json")) - known
            if fresh:
                pid = machine.kill("worker-1")
                known |= fresh
                folders = [f"Responses/{path.parent.parent.name}/{path.parent.name}" for path in fresh]
                open_ = query(
                    machine,
                    "SELECT count(*) FROM responses WHERE folder = ANY($1) AND completed_at IS NULL",
                    folders,
                )
                hits += int(open_[0][0])
                while machine.pid("worker-1") == pid:
                    time.sleep(0.02)
                break
        if hits >= 3:
            break
    time.sleep(3)
    return Note(facts={"caught_before_commit": hits})


def _redis_killed(machine: Machine) -> Note:
    """No Redis for 30 s: killed again each time it comes back."""
    start = time.monotonic()
    kills, newcomer_s = 0, None
    while time.monotonic() < start + REDIS_S:
        if newcomer_s is None and time.monotonic() > start + REDIS_S / 3:
            newcomer_s = _newcomer(machine)
        pid = machine.pids().get("valkey")
        if pid is not None:
            machine.kill("valkey")
            kills += 1
        time.sleep(0.1)
    machine.pid("valkey")
    time.sleep(3)
    return Note(everyone=True, facts={"kills": kills, "newcomer_welcomed_s": newcomer_s})


def _redis_paused(machine: Machine) -> Note:
    pid = machine.pause("valkey")
    time.sleep(REDIS_S / 3)
    newcomer_s = _newcomer(machine)
    time.sleep(REDIS_S * 2 / 3)
    machine.resume(pid)
    time.sleep(3)
    return Note(everyone=True, facts={"newcomer_welcomed_s": newcomer_s})


def _newcomer(machine: Machine) -> float | None:
    """Seconds until a device that nobody knew is welcomed; None when it is not, within 15 s."""
    name = f"newcomer-{uuid4().hex[:8]}"
    address = f"{machine.hubs[0]}/v1/socket", machine.token(name, "device", device_class="truck")

    async def work() -> float | None:
        fleet = Fleet([name], lambda _: address, FleetOptions(jitter_s=0.02), Random(1))
        start = time.monotonic()
        fleet.start_all()
        welcomed = await fleet.all_welcomed(15)
        took = time.monotonic() - start
        await fleet.stop()
        return round(took, 2) if welcomed else None

    return asyncio.run(work())


def _redis_flushed(machine: Machine) -> Note:
    with machine.redis() as client:
        client.flushall()
    time.sleep(5)
    return Note(everyone=True)


def _nothing(machine: Machine) -> Note:
    time.sleep(5)
    return Note(everyone=True, facts={"processes": len(machine.pids())})


FAULTS: Final = (
    Fault("nothing (baseline)", _nothing),
    Fault("kill -9 hub-1", _kill("hub-1")),
    Fault("kill -9 worker with a response written, not committed", _kill_worker_before_commit),
    Fault("kill -9 watcher", _kill("watcher-1")),
    Fault("kill -9 api", _kill("api")),
    Fault("SIGSTOP hub-2 40 s", _pause("hub-2")),
    Fault("SIGSTOP watcher 40 s inside a transaction", _pause("watcher-1", inside_transaction=True)),
    Fault("SIGSTOP worker 40 s inside a transaction", _pause("worker-1", inside_transaction=True)),
    Fault("Redis killed 30 s", _redis_killed),
    Fault("Redis SIGSTOP 30 s", _redis_paused),
    Fault("Redis flushed", _redis_flushed),
)
