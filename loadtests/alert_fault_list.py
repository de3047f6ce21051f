"""The faults that alerts are fired by: what is really done, for as long as the block lasts, and which alerts must fire.

Each is undone when its block ends. `beside` ones take minutes to tell and go on while others come and go.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from infra.onebox.spawn import launch_arguments
from loadtests.alert_scene import CAPACITY, Scene
from loadtests.ports import free_port
from shared.store import jobs
from shared.store.jobs import InlineJob
from shared.store.pool import open_pool

__all__ = ["FAULTS", "Fault"]

_WAITING: Final = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """`alerts` without the prefix of all; `within_s` is how long they may take."""

    name: str
    during: Callable[[Scene], AbstractAsyncContextManager[None]]
    alerts: tuple[str, ...]
    within_s: float = 60.0
    beside: bool = False


def _quick(*promises: str) -> tuple[str, ...]:
    """The alerts that wake somebody."""
    return tuple(f"{one}Burns{word}" for one in promises for word in ("Fast", "Steadily"))


def _burns(*promises: str) -> tuple[str, ...]:
    return (*_quick(*promises), *(f"{one}BurnsSlowly" for one in promises))


@asynccontextmanager
async def _gateway_stopped(scene: Scene) -> AsyncIterator[None]:
    """All files gateways, so that none of their job is left."""
    pids = [await asyncio.to_thread(scene.machine.pause, "files")]
    others = [process.pid for process in scene.started if "files-2" in scene.ports and _runs(process.pid, "files")]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            scene.machine.resume(pid)
        for pid in others:
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def _redis_stopped(scene: Scene) -> AsyncIterator[None]:
    scene.redis.pause()
    try:
        yield
    finally:
        scene.redis.resume()


@asynccontextmanager
async def _hub_deaf(scene: Scene) -> AsyncIterator[None]:
    """Whatever connection the hub subscribes by falls silent; those of the other hub do not."""

    async def mute() -> None:
        while True:
            await asyncio.to_thread(scene.relays.mute, scene.redis.port, "hub-1")
            await asyncio.sleep(0.1)

    async with _going_on(mute()):
        yield


@asynccontextmanager
async def _hubs_stutter(scene: Scene) -> AsyncIterator[None]:
    """Hubs stand still for two seconds and go on for less than one, as on a machine without CPU to give."""
    pids = [await asyncio.to_thread(scene.machine.pid, name) for name in ("hub-1", "hub-2")]
    async with _stuttering(pids, 2.0, 0.7):
        yield


@asynccontextmanager
async def _table_locked(scene: Scene) -> AsyncIterator[None]:
    """Somebody changes the table of jobs by hand, again and again: who lists them waits."""
    connection = await asyncpg.connect(scene.machine.database_url)

    async def lock() -> None:
        await connection.execute("SET lock_timeout = 0")
        while True:
            async with connection.transaction():
                await connection.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
                await asyncio.sleep(4.0)
            await asyncio.sleep(0.1)

    try:
        async with _going_on(lock()):
            yield
    finally:
        connection.terminate()


@asynccontextmanager
async def _postgres_stopped(scene: Scene) -> AsyncIterator[None]:
    """For half a minute at a time: what was seen meanwhile is recorded when it goes on, late."""
    paused: list[int] = []

    async def stop_and_go() -> None:
        while True:
            paused.append(await asyncio.to_thread(scene.machine.pause, "postgres"))
            await asyncio.sleep(28)
            scene.machine.resume(paused.pop())
            await asyncio.sleep(8)

    try:
        async with _going_on(stop_and_go()):
            yield
    finally:
        for pid in paused:
            scene.machine.resume(pid)


@asynccontextmanager
async def _devices_leave(scene: Scene) -> AsyncIterator[None]:
    await scene.others.fleet.stop()
    yield


@asynccontextmanager
async def _too_many_devices(scene: Scene) -> AsyncIterator[None]:
    """As many sockets as fit, and more that try again and again."""
    opened: list[ClientConnection] = []

    async def one(number: int) -> None:
        name = f"crowd-{number}"
        url = f"{scene.machine.hubs[number % 2]}/v1/socket?device_id={name}"
        headers = {"Authorization": f"Bearer {scene.machine.token(name, 'device')}"}
        with suppress(InvalidStatus, OSError, TimeoutError):
            opened.append(
                await connect(url, additional_headers=headers, subprotocols=[Subprotocol("fleetwire.v1")], proxy=None)
            )

    async def crowd() -> None:
        number = 0
        while True:
            await asyncio.gather(*(one(number + more) for more in range(4)))
            number += 4
            await asyncio.sleep(0.2 if len(opened) < 2 * CAPACITY else 1.0)

    try:
        async with _going_on(crowd()):
            yield
    finally:
        await asyncio.gather(*(socket.close() for socket in opened), return_exceptions=True)


@asynccontextmanager
async def _moves_paused(scene: Scene) -> AsyncIterator[None]:
    """Moves are paused, and a hub comes that most devices of the others do not get to."""
    for name in ("hub-1", "hub-2"):
        await scene.control(name, "pause")
    port = free_port()
    pid = scene.add(
        "hub-3",
        "hub-1",
        "hub",
        FLEETWIRE_HUB_NAME="hub-3",
        FLEETWIRE_HUB_PORT=str(port),
        FLEETWIRE_HUB_URL=f"ws://127.0.0.1:{port}",
    )
    try:
        yield
    finally:
        for name in ("hub-1", "hub-2"):
            await scene.control(name, "resume")
        await asyncio.to_thread(scene.remove, "hub-3", pid)


@asynccontextmanager
async def _copy_stands_still(scene: Scene) -> AsyncIterator[None]:
    connection = await asyncpg.connect(scene.standby_url)
    try:
        await connection.execute("SELECT pg_wal_replay_pause()")
        yield
        await connection.execute("SELECT pg_wal_replay_resume()")
    finally:
        await connection.close()


@asynccontextmanager
async def _log_lost(scene: Scene) -> AsyncIterator[None]:
    """As after a restore from a backup."""
    command = [str(Path(sys.executable).with_name("fleetwire")), "log", "raise-epoch", "--reason", "a drill"]
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | {"FLEETWIRE_HOME": str(scene.machine.home.path)}, stdout=subprocess.DEVNULL
    )
    if await process.wait() != 0:
        raise RuntimeError("fleetwire log raise-epoch failed")
    yield


@asynccontextmanager
async def _keys_broken(scene: Scene) -> AsyncIterator[None]:
    file = Path((await asyncio.to_thread(scene.environment_of, "hub-1"))["FLEETWIRE_TOKEN_KEYS_FILE"])
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2])
    try:
        yield
    finally:
        file.write_bytes(good)


@asynccontextmanager
async def _memory_short(scene: Scene) -> AsyncIterator[None]:
    """The bound of a gateway's control group is brought down to little more than what it uses."""
    if scene.group is None:
        raise RuntimeError("no control group for memory can be made here")
    used = int((scene.group / "memory.usage_in_bytes").read_text())
    bound = scene.group / "memory.limit_in_bytes"
    bound.write_text(str(int(used / 0.9)))
    try:
        yield
    finally:
        bound.write_text("-1")


@asynccontextmanager
async def _cores_busy(scene: Scene) -> AsyncIterator[None]:
    """By work that gives way to everything else, so that the processes can still say how busy the cores are."""
    del scene
    busy = [
        subprocess.Popen(launch_arguments([sys.executable, "-c", "import os; os.nice(10)\nwhile True: pass"]))
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@asynccontextmanager
async def _disk_busy(scene: Scene) -> AsyncIterator[None]:
    """Small writes, each of which must reach the disk, some at once."""
    stop = asyncio.Event()

    def write(number: int) -> None:
        descriptor = os.open(scene.folder / f"disk-{number}", os.O_WRONLY | os.O_CREAT | os.O_DSYNC, 0o600)
        try:
            while not stop.is_set():
                for at in range(64):
                    os.pwrite(descriptor, os.urandom(4096), at * 4096)
        finally:
            os.close(descriptor)

    writers = [asyncio.create_task(asyncio.to_thread(write, number)) for number in range(6)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*writers)


@asynccontextmanager
async def _model_silent(scene: Scene) -> AsyncIterator[None]:
    """More requests than a worker can have at once for a model that does not answer: they wait, and die."""
    pool = await open_pool(scene.machine.database_url, name="alerts", min_size=1, max_size=2)
    try:
        body = "what weighs a harbour?"
        version = sha256(body.encode()).hexdigest()
        for number in range(_WAITING):
            device, name = scene.depots[number % len(scene.depots)], f"ask-{number}.prompt"
            path = f"Requests/{device}/{name}"
            job = InlineJob(
                uuid4(), "ai", "model", device, "local", path, name, len(body), version, body, "alert-faults"
            )
            if await jobs.insert_inline(pool, job) != "made":
                raise RuntimeError("a request was not queued")
        yield
        await pool.fetch("DELETE FROM jobs WHERE queue = 'ai' AND current_status = 'queued'")
    finally:
        await pool.close()


@asynccontextmanager
async def _provider_down(scene: Scene) -> AsyncIterator[None]:
    """SharePoint is gone, for good: it is not asked with success, and responses go elsewhere."""
    await scene.graph.aclose()
    yield


@asynccontextmanager
async def _watchers_stopped(scene: Scene) -> AsyncIterator[None]:
    """Both watchers stand still; one goes on after longer than a takeover may take, the other does not."""
    first = await asyncio.to_thread(scene.machine.pause, "watcher-1")
    second = next(process.pid for process in scene.started if _runs(process.pid, "watcher"))
    os.kill(second, signal.SIGSTOP)

    async def wake() -> None:
        await asyncio.sleep(36)
        os.kill(second, signal.SIGCONT)

    try:
        async with _going_on(wake()):
            yield
    finally:
        os.kill(second, signal.SIGCONT)
        scene.machine.resume(first)


@asynccontextmanager
async def _stuttering(pids: Sequence[int], stopped_s: float, going_s: float) -> AsyncIterator[None]:
    def signal_all(signum: int) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signum)

    async def stutter() -> None:
        while True:
            signal_all(signal.SIGSTOP)
            await asyncio.sleep(stopped_s)
            signal_all(signal.SIGCONT)
            await asyncio.sleep(going_s)

    try:
        async with _going_on(stutter()):
            yield
    finally:
        signal_all(signal.SIGCONT)


@asynccontextmanager
async def _going_on(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _runs(pid: int, package: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")[-2:] == [b"-m", package.encode()]
    except OSError:
        return False


FAULTS: Final = (
    Fault("a model says nothing", _model_silent, ("QueueDeep", "QueueOld", "JobsDie"), 420.0, beside=True),
    Fault("SharePoint is gone", _provider_down, (*_burns("Freshness"), "StoreAvoided"), 300.0, beside=True),
    Fault("files gateways stopped", _gateway_stopped, ("JobLost", "ProcessLost")),
    Fault("Redis stopped", _redis_stopped, ("BusDegraded",)),
    Fault("a hub hears nothing", _hub_deaf, ("HubDeaf",)),
    Fault("hubs stutter", _hubs_stutter, (*_burns("Delivery"), "LoopLate"), 120.0),
    Fault(
        "a table is locked",
        _table_locked,
        (*_burns("ApiLatency"), "ApiErrorsBurnsSlowly", "LocalFilesBurnsSlowly"),
        150.0,
    ),
    Fault(
        "Postgres stopped",
        _postgres_stopped,
        (*_quick("ApiErrors", "LocalFiles"), "DatabaseLost", "DatabaseCrowded", "ProcessNotReady"),
        150.0,
    ),
    Fault("devices leave", _devices_leave, ("DevicesGone",)),
    Fault("too many devices", _too_many_devices, ("HubsFull", "HubsNearlyFull"), 90.0),
    Fault("moves paused, a hub comes", _moves_paused, ("HubMovesStuck",), 90.0),
    Fault("a copy of Postgres stands still", _copy_stands_still, ("ReplicaLate",)),
    Fault("the log is lost", _log_lost, ("LogLost",)),
    Fault("a key set is cut in half", _keys_broken, ("KeysUnreadable",)),
    Fault("a bound on memory", _memory_short, ("MemoryHigh",)),
    Fault("cores busy", _cores_busy, ("CpuBusy",), 90.0),
    Fault("disk busy", _disk_busy, ("DiskBusy",), 90.0),
    Fault("watchers stopped", _watchers_stopped, _burns("Takeover"), 120.0),
)
