"""What alerts are fired in: a whole Fleetwire with all that can fail, devices, requests and files, and Prometheus.

One Redis behind a relay, SharePoint (emulated) as the place of responses, a model that says nothing, a streaming copy
of Postgres that a second API reads from, a second watcher, a worker for the queue `ai`, and a second files gateway in a
control group of its own where the system lets one be made.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from infra.onebox.home import Home
from infra.onebox.spawn import launch_arguments
from loadtests.emulators.graph import DRIVE, running_graph
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT
from loadtests.machine import Machine, running_machine
from loadtests.mute_relay import Relays, running_relays
from loadtests.ports import free_port
from loadtests.prometheus_server import Prometheus, running_prometheus
from loadtests.standby import StandbyPostgres
from loadtests.stream import Stream
from loadtests.valkey_cluster import Node

__all__ = ["CAPACITY", "Scene", "running_scene"]

CAPACITY: Final = 50
STREAMING: Final = 24
OTHERS: Final = 40
RATE: Final = 60.0
_DEPOTS: Final = 8
_REQUESTS_PER_S: Final = 12.0
_FILES_PER_S: Final = 2.0
_GROUPS: Final = Path("/sys/fs/cgroup/memory")


@dataclass
class Scene:
    """`ports` are the operations ports by process. `group` is the control group, None where none could be made."""

    folder: Path
    machine: Machine
    prometheus: Prometheus
    redis: Node
    relays: Relays
    graph: AsyncExitStack
    stream: Stream
    others: Stream
    standby_url: str
    ports: dict[str, int]
    model_url: str
    depots: Sequence[str] = ()  # devices of requests by file; nobody connects as them
    group: Path | None = None
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def watch(self) -> None:
        """Tell Prometheus which processes there are."""
        for job in ("api", "files", "hub", "watcher", "worker"):
            self.prometheus.watch(job, [port for name, port in self.ports.items() if name.startswith(job)])

    def add(self, name: str, like: str, package: str, *, group: Path | None = None, **settings: str) -> int:
        """One more process beside another, with its environment and other settings; Prometheus is told. Its pid."""
        port = free_port()
        environment = self.environment_of(like) | settings | {"FLEETWIRE_OPS_PORT": str(port)}
        environment["FLEETWIRE_PARENT_PID"] = str(os.getpid())
        command = [sys.executable, "-m", package]
        if group is not None:
            command = ["/bin/sh", "-c", 'echo $$ > "$0"; exec "$@"', str(group / "cgroup.procs"), *command]
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                launch_arguments(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )
        self.started.append(process)
        self.ports[name] = port
        self.watch()
        return process.pid

    def remove(self, name: str, pid: int) -> None:
        """End a process that was added, in order; Prometheus is told first."""
        del self.ports[name]
        self.watch()
        process = next(one for one in self.started if one.pid == pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)

    def environment_of(self, name: str) -> dict[str, str]:
        """What a process of the machine was told."""
        raw = Path(f"/proc/{self.machine.pid(name)}/environ").read_bytes()
        return dict(os.fsdecode(entry).split("=", 1) for entry in raw.split(b"\0") if b"=" in entry)

    async def control(self, name: str, action: str) -> None:
        """Ask a hub's operations port."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            answer = await client.post(f"http://127.0.0.1:{self.ports[name]}/control/{action}", json={})
            answer.raise_for_status()

    async def until(self, condition: Callable[[], bool], what: str, deadline_s: float = 60.0) -> None:
        """Wait for it. Raises RuntimeError."""
        end = time.monotonic() + deadline_s
        while not await asyncio.to_thread(condition):
            if time.monotonic() > end:
                raise RuntimeError(f"not within {deadline_s:.0f} s: {what}")
            await asyncio.sleep(0.1)

    # What goes on all the time.

    async def requests(self) -> None:
        """Lists by an operator, events by trucks, at a steady rate; whatever is answered."""
        operator = {"Authorization": f"Bearer {self.machine.token('olga', 'operator')}"}
        trucks = [
            (name, {"Authorization": f"Bearer {self.machine.token(name, 'device', device_class='truck')}"})
            for name in self.stream.names
        ]
        pending: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(base_url=self.machine.api, trust_env=False, timeout=30) as client:

            async def one(path: str, headers: Mapping[str, str]) -> None:
                with suppress(httpx.HTTPError):
                    await client.get(path, headers=headers)

            number = 0
            while True:
                name, truck = trucks[number % len(trucks)]
                path, headers = (
                    ("/api/v1/jobs?limit=5", operator)
                    if number % 2
                    else (f"/api/v1/devices/{name}/events?limit=1", truck)
                )
                if len(pending) < 200:
                    task = asyncio.create_task(one(path, headers))
                    pending.add(task)
                    task.add_done_callback(pending.discard)
                number += 1
                await asyncio.sleep(1 / _REQUESTS_PER_S)

    async def files(self) -> None:
        """Small tables, moved into devices' folders at a steady rate."""
        drafts = self.machine.cloud.parent / f"{self.machine.cloud.name}-drafts-of-the-run"
        drafts.mkdir(exist_ok=True)
        number = 0
        while True:
            name = self.depots[number % len(self.depots)]
            where = self.machine.cloud / "Requests" / name
            where.mkdir(parents=True, exist_ok=True)
            draft = drafts / f"load-{number}.csv"
            draft.write_text("place,weight\nharbour,12\n")
            draft.rename(where / draft.name)
            number += 1
            await asyncio.sleep(1 / _FILES_PER_S)


@asynccontextmanager
async def running_scene(folder: Path, *, scale: float) -> AsyncIterator[Scene]:
    """For the length of a block; `folder` is the run's own."""
    async with AsyncExitStack() as closing:
        model = await asyncio.start_server(_say_nothing, "127.0.0.1", 0)
        closing.callback(model.close)
        model_url = f"http://127.0.0.1:{model.sockets[0].getsockname()[1]}/v1"
        graph = await closing.enter_async_context(AsyncExitStack())
        emulator = await graph.enter_async_context(running_graph(folder / "graph"))
        password, seen = os.urandom(16).hex(), free_port()
        redis = Node(folder / "redis", (free_port(), free_port()), password, {"cluster-enabled": "no"})
        redis.start()
        closing.callback(redis.kill)
        closing.callback(redis.resume)
        relays = closing.enter_context(running_relays({seen: redis.port}))
        settings: dict[str, Any] = {
            "FLEETWIRE_REDIS_URL": f"redis://:{password}@127.0.0.1:{seen}/0",
            "FLEETWIRE_GRAPH_TENANT": TENANT,
            "FLEETWIRE_GRAPH_CLIENT_ID": CLIENT_ID,
            "FLEETWIRE_GRAPH_CLIENT_SECRET": CLIENT_SECRET,
            "FLEETWIRE_GRAPH_DRIVES": DRIVE,
            "FLEETWIRE_GRAPH_URL": emulator.url,
            "FLEETWIRE_GRAPH_LOGIN_URL": emulator.url,
            "FLEETWIRE_CLOUD_PLACEMENT": "sharepoint=1,local=0",
            "FLEETWIRE_HUB_CAPACITY": str(CAPACITY),
            "FLEETWIRE_HUB_MEMBER_S": "1",
            "FLEETWIRE_KEYS_RELOAD_S": "1",
            "FLEETWIRE_WORKER_QUEUES": "requests",
        }
        machine_of = running_machine(hubs=2, **settings)
        # In a thread: while it starts it asks the emulator, which answers in this one.
        machine = await asyncio.to_thread(machine_of.__enter__)
        closing.push_async_callback(asyncio.to_thread, machine_of.__exit__, None, None, None)
        prometheus = await closing.enter_async_context(running_prometheus(folder / "prometheus", scale=scale))
        names = ("api", "files", "hub-1", "hub-2", "watcher-1", "worker-1")
        ports = {name: await asyncio.to_thread(machine.ops_port, name) for name in names}
        scene = Scene(
            folder=folder,
            machine=machine,
            prometheus=prometheus,
            redis=redis,
            relays=relays,
            graph=graph,
            stream=Stream(machine, STREAMING, RATE),
            others=Stream(machine, OTHERS, 1.0),
            standby_url=await _running_standby(closing, folder, machine),
            ports=ports,
            model_url=model_url,
        )
        scene.group = _made_group()
        if scene.group is not None:
            closing.callback(_remove_group, scene.group)
        closing.callback(_end_all, scene.started)
        scene.depots = [f"depot-{number}" for number in range(_DEPOTS)]
        await _make_devices(machine, scene.depots)
        await _add_more(scene)
        for stream in (scene.stream, scene.others):
            await stream.connect()
            closing.push_async_callback(stream.fleet.stop)
        load = [asyncio.create_task(work) for work in (scene.stream.run(), scene.requests(), scene.files())]
        closing.push_async_callback(_cancelled, load)
        yield scene


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A model that takes requests and does not answer."""
    with suppress(OSError, asyncio.IncompleteReadError):
        while await reader.read(65536):
            pass
    writer.close()


async def _make_devices(machine: Machine, names: Sequence[str]) -> None:
    headers = {"Authorization": f"Bearer {machine.token('olga', 'operator')}"}
    async with httpx.AsyncClient(base_url=machine.api, trust_env=False, timeout=30, headers=headers) as client:
        for name in names:
            (await client.put(f"/api/v1/devices/{name}", json={"class": "truck"})).raise_for_status()


async def _running_standby(closing: AsyncExitStack, folder: Path, machine: Machine) -> str:
    home = Home(folder / "copy")
    home.prepare()
    primary = machine._postgres
    standby = StandbyPostgres(home, port=free_port(), durable=False, primary=primary)
    closing.callback(shutil.rmtree, f"/var/tmp/fleetwire-{home.fingerprint}", ignore_errors=True)
    await asyncio.to_thread(standby.prepare)
    with (folder / "copy.log").open("ab") as log:
        process = subprocess.Popen(
            standby.launch_arguments(),
            cwd="/",
            env=standby.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    closing.callback(_end_all, [process], standby.stop_signal)
    await standby.wait_ready(60)
    return standby.url


async def _add_more(scene: Scene) -> None:
    """The processes beside those of one machine."""
    scene.add(
        "api-2",
        "api",
        "api",
        FLEETWIRE_API_PORT=str(free_port()),
        FLEETWIRE_DATABASE_REPLICA_URL=scene.standby_url,
    )
    scene.add("watcher-2", "watcher-1", "watcher", FLEETWIRE_WATCHER_NAME="watcher-2")
    scene.add(
        "worker-ai",
        "worker-1",
        "worker",
        FLEETWIRE_WORKER_NAME="worker-ai",
        FLEETWIRE_WORKER_QUEUES="ai",
        FLEETWIRE_WORKER_MAX_ATTEMPTS="1",
        FLEETWIRE_MODEL_KEY="a-key-of-the-emulated-model",
        FLEETWIRE_MODEL_URL=scene.model_url,
        FLEETWIRE_MODEL_NAME="silent",
        FLEETWIRE_MODEL_PRICE_IN="0",
        FLEETWIRE_MODEL_PRICE_OUT="0",
        FLEETWIRE_MODEL_FIRST_S="20",
    )
    if scene.group is not None:
        scene.add("files-2", "files", "files", group=scene.group, FLEETWIRE_FILES_PORT=str(free_port()))

    def all_ready() -> bool:
        with httpx.Client(trust_env=False, timeout=2) as client:
            for port in scene.ports.values():
                try:
                    if client.get(f"http://127.0.0.1:{port}/ready").status_code != 200:
                        return False
                except httpx.HTTPError:
                    return False
        return True

    await scene.until(all_ready, "all processes are ready", 90)


def _made_group() -> Path | None:
    """A control group for memory below our own, None where the system lets none be made."""
    try:
        lines = Path("/proc/self/cgroup").read_text("ascii").splitlines()
        path = next(line.split(":", 2)[2] for line in lines if line.split(":", 2)[1] == "memory")
        group = _GROUPS / path.lstrip("/") / f"fleetwire-alerts-{os.getpid()}"
        group.mkdir()
    except (OSError, StopIteration):
        return None
    return group


def _remove_group(group: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            group.rmdir()
        except OSError:  # the last of it is still going
            time.sleep(0.1)
        else:
            return


def _end_all(processes: Sequence["subprocess.Popen[Any]"], signum: int = signal.SIGTERM) -> None:
    for process in processes:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.send_signal(signum)
    for process in processes:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _cancelled(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
