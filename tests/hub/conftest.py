"""Real hubs on real ports, in the test's own loop or as processes, devices that speak the wire, and a log to fill."""

import asyncio
import base64
import itertools
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from hub.app import Keys, Running, serve
from hub.settings import Settings
from loadtests.ports import free_port
from shared.bus.message import EVENT, Message
from shared.bus.publisher import Publisher
from shared.clock import iso
from shared.hash_slots import slot_of
from shared.lifecycle import Stop
from shared.protocol.event import body_hash, encode_event
from shared.settings import load
from shared.store import devices, log
from shared.store.log import Appended, NewEvent
from shared.store.pool import Pool, open_pool
from shared.tokens import KeyRing


def _key_set(kid: str) -> str:
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return json.dumps({"keys": [{"kty": "oct", "kid": kid, "alg": "HS256", "k": secret}]})


TOKEN_KEYS = _key_set("tokens-1")
TICKET_KEYS = _key_set("tickets-1")
TOKENS = KeyRing.from_jwks(TOKEN_KEYS)
TICKETS = KeyRing.from_jwks(TICKET_KEYS)

# Every lease, heartbeat and deadline a twentieth of what it is in life, or less.
QUICK = {
    "FLEETWIRE_HUB_HEARTBEAT_S": "1.0",
    "FLEETWIRE_HUB_PONG_S": "0.4",
    "FLEETWIRE_HUB_PATIENCE_S": "3.0",
    "FLEETWIRE_HUB_CLOSE_S": "0.5",
    "FLEETWIRE_HUB_ACK_WRITE_S": "0.02",
    "FLEETWIRE_HUB_SWEEP_S": "0.2",
    "FLEETWIRE_HUB_SWEEP_DOUBT_S": "0.05",
    "FLEETWIRE_HUB_MEMBER_S": "0.25",
    "FLEETWIRE_HUB_SILENCE_S": "0.9",
    "FLEETWIRE_HUB_REBALANCE": "off",  # a device stays where a test has put it
    "FLEETWIRE_HUB_MOVE_WAVE_S": "0.1",
    "FLEETWIRE_HUB_LINGER_S": "2.0",
    "FLEETWIRE_HUB_CANARY_S": "0.1",
    "FLEETWIRE_HUB_SUBSCRIBE_S": "0.2",
    "FLEETWIRE_HUB_DRAIN_RATE": "200",
    "FLEETWIRE_HUB_DRAIN_S": "1.0",
    "FLEETWIRE_REDIS_DEADLINE_S": "0.2",
}


def token(device_id: str, *, scope: str = "device", lifetime_s: float = 600, device_class: str | None = None) -> str:
    return TOKENS.mint(
        subject=device_id,
        scopes=frozenset(scope.split()),
        now=time.time(),
        lifetime_s=lifetime_s,
        device_class=device_class,
    )


def ticket(device_id: str, *, session_s: float = 600, lifetime_s: float = 60, jti: str | None = None) -> str:
    return TICKETS.mint_ticket(
        subject=device_id,
        token_id=jti or secrets.token_hex(8),
        now=time.time(),
        lifetime_s=lifetime_s,
        session_expires_at=time.time() + session_s,
    )


async def until(condition: Callable[[], Any], deadline_s: float = 10.0) -> Any:
    """Wait for a condition that nothing signals, on the loop's own turns, within a deadline."""
    async with asyncio.timeout(deadline_s):
        while not (found := condition()):
            await asyncio.sleep(0.005)
    return found


class Device:
    """A connected device, as the wire has it."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def frame(self, deadline_s: float = 10.0) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(deadline_s):
            text = await self.socket.recv()
        assert isinstance(text, str)
        value: dict[str, Any] = json.loads(text)
        return value

    async def welcome(self) -> dict[str, Any]:
        frame = await self.frame()
        assert frame["type"] == "welcome", frame
        return frame

    async def seqs(self, count: int, deadline_s: float = 10.0) -> list[int]:
        """The seqs of the next `count` frames, all of them events."""
        found = []
        for _ in range(count):
            frame = await self.frame(deadline_s)
            assert frame["type"] == "event", frame
            assert frame["event"]["data"]["n"] == frame["seq"], frame
            found.append(frame["seq"])
        return found

    async def ack(self, seq: int) -> None:
        await self.socket.send(json.dumps({"type": "ack", "seq": seq}))

    async def close_code(self, deadline_s: float = 10.0) -> int:
        """Read on until the hub closes; with which code."""
        with suppress(ConnectionClosed):
            async with asyncio.timeout(deadline_s):
                while True:
                    await self.socket.recv()
        code = self.socket.close_code
        assert code is not None
        return code


@dataclass
class Refused:
    """What a refused handshake was answered."""

    status: int
    headers: Any
    problem: dict[str, Any]


@dataclass
class RunningHub:
    """A hub in this loop."""

    name: str
    settings: Settings
    stop: Stop
    task: "asyncio.Task[int]"
    running: Running

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.running.port}/v1/socket"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.running.ops_port}"

    async def ready(self) -> tuple[int, list[str]]:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self.ops_url}/ready")
            return answer.status_code, answer.json()["reasons"]

    async def leave(self) -> int:
        self.stop.request("test")
        async with asyncio.timeout(20):
            return await self.task


@dataclass
class HubProcess:
    """A hub as a process, to be signalled."""

    process: asyncio.subprocess.Process
    url: str
    ops_url: str

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    async def wait(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()


class Fleet:
    """Devices, and the log and bus they are served from."""

    def __init__(self, pool: Pool, publisher: Publisher) -> None:
        self.pool = pool
        self.publisher = publisher
        self.sockets: list[ClientConnection] = []
        self._numbers = itertools.count(1)
        self._run = secrets.token_hex(3)
        self._recorded: dict[str, int] = {}

    async def new_device(self) -> str:
        """A device of this test's own: servers are shared between tests, device ids are not."""
        device_id = f"truck-{self._run}-{next(self._numbers)}"
        await devices.ensure(self.pool, device_id, "truck")
        return device_id

    async def record(self, device_id: str, count: int = 1, *, size: int = 0, publish: bool = True) -> list[Appended]:
        """Append events numbered like their seq, and publish them after the commit."""
        first = self._recorded.get(device_id, 0) + 1
        self._recorded[device_id] = first + count - 1
        items = []
        for number in range(first, first + count):
            data = {"n": number, "fill": "." * size}
            event_id = f"{device_id}:{number}:{secrets.token_hex(4)}"
            body = encode_event(event_id=event_id, event_type="Test", source="/test", time=iso(time.time()), data=data)
            items.append(NewEvent(device_id, event_id, "Test", body, body_hash("Test", data)))
        results = []
        for start in range(0, count, 500):
            results += await log.append_committed(self.pool, items[start : start + 500])
        if publish:
            for item, result in zip(items, results, strict=True):
                self.publisher.offer(Message(EVENT, device_id, result.epoch, result.seq, item.body))
        return results

    async def connect(
        self,
        url: str,
        device_id: str,
        *,
        bearer: str | None = None,
        subprotocols: list[str] | None = None,
        query: str | None = None,
        headers: dict[str, str] | None = None,
        **parameters: object,
    ) -> Device:
        """Shake hands. Raises InvalidStatus when refused."""
        text = "&".join([f"device_id={device_id}", *(f"{name}={value}" for name, value in parameters.items())])
        sent = dict(headers or {})
        if bearer is None and subprotocols is None:
            bearer = token(device_id)
        if bearer:
            sent["Authorization"] = f"Bearer {bearer}"
        socket = await connect(
            f"{url}?{query if query is not None else text}",
            subprotocols=[Subprotocol(name) for name in (["fleetwire.v1"] if subprotocols is None else subprotocols)],
            additional_headers=sent,
            compression=None,
            ping_interval=None,
            max_size=2**20,
            max_queue=None,
            open_timeout=10,
            proxy=None,
        )
        self.sockets.append(socket)
        return Device(socket)

    async def refused(self, url: str, device_id: str, **arguments: Any) -> Refused:
        """Shake hands in vain."""
        with pytest.raises(InvalidStatus) as caught:
            await self.connect(url, device_id, **arguments)
        response = caught.value.response
        return Refused(response.status_code, response.headers, json.loads(response.body or b"null"))

    async def acked(self, device_id: str) -> int:
        state = await devices.get(self.pool, device_id)
        assert state is not None
        return state.acked

    async def until_acked(self, device_id: str, seq: int) -> None:
        async with asyncio.timeout(10):
            while await self.acked(device_id) < seq:
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for socket in self.sockets:
            socket.transport.abort()
        await asyncio.gather(*(socket.wait_closed() for socket in self.sockets))


def slot(device_id: str) -> int:
    return slot_of(device_id)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, name="test", max_size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def publisher(redis_url: str) -> AsyncIterator[Publisher]:
    made = Publisher(redis_url, name="test")
    task = asyncio.create_task(made.run())
    yield made
    await made.close()
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
async def fleet(pool: Pool, publisher: Publisher) -> AsyncIterator[Fleet]:
    made = Fleet(pool, publisher)
    yield made
    await made.close()


def environment(name: str, database_url: str, redis_url: str, changes: dict[str, str]) -> dict[str, str]:
    return {
        "FLEETWIRE_DATABASE_URL": database_url,
        "FLEETWIRE_REDIS_URL": redis_url,
        "FLEETWIRE_TOKEN_KEYS": TOKEN_KEYS,
        "FLEETWIRE_TICKET_KEYS": TICKET_KEYS,
        "FLEETWIRE_HUB_NAME": name,
        "FLEETWIRE_HUB_PORT": "0",
        "FLEETWIRE_OPS_PORT": "0",
        "FLEETWIRE_DB_POOL_MIN": "1",
        "FLEETWIRE_DB_POOL_MAX": "6",
        **QUICK,
        **changes,
    }


StartHub = Callable[..., Awaitable[RunningHub]]
SpawnHub = Callable[..., Awaitable[HubProcess]]


@pytest.fixture
async def start_hub(database_url: str, redis_url: str) -> AsyncIterator[StartHub]:
    """Starts hubs in this loop: `await start_hub("hub-a", FLEETWIRE_HUB_CAPACITY="2")`."""
    started: list[RunningHub] = []

    async def start(
        name: str = "hub-1", *, redis: str = redis_url, database: str = database_url, **changes: str
    ) -> RunningHub:
        settings = load(Settings, environment(name, database, redis, changes))
        stop = Stop()
        running: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(settings, Keys(settings), stop, on_running=running.set_result))
        async with asyncio.timeout(15):
            while not running.done() and not task.done():
                await asyncio.sleep(0.005)
        if task.done():
            raise AssertionError(f"the hub ended: {task.result()}")
        hub = RunningHub(name, settings, stop, task, running.result())
        started.append(hub)
        return hub

    yield start
    for hub in started:
        hub.stop.request("test is over")
    if started:
        done, pending = await asyncio.wait([hub.task for hub in started], timeout=20)
        assert not pending, "a hub did not end"
        assert all(task.result() == 0 for task in done), "a hub failed"


@pytest.fixture
async def spawn_hub(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[SpawnHub]:
    """Starts hubs as processes."""
    started: list[asyncio.subprocess.Process] = []

    async def spawn(
        name: str = "hub-1", *, redis: str = redis_url, database: str = database_url, **changes: str
    ) -> HubProcess:
        port, ops_port = free_port(), free_port()
        settings = environment(name, database, redis, changes)
        settings |= {"FLEETWIRE_HUB_PORT": str(port), "FLEETWIRE_OPS_PORT": str(ops_port)}
        log_file = (tmp_path / f"{name}.log").open("wb")
        with log_file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hub", env={**os.environ, **settings}, stderr=log_file
            )
        started.append(process)
        hub = HubProcess(process, f"ws://127.0.0.1:{port}/v1/socket", f"http://127.0.0.1:{ops_port}")
        async with httpx.AsyncClient() as client, asyncio.timeout(20):
            while True:
                assert process.returncode is None, (tmp_path / f"{name}.log").read_text()
                with suppress(httpx.TransportError):
                    if (await client.get(f"{hub.ops_url}/ready")).status_code == 200:
                        return hub
                await asyncio.sleep(0.02)

    yield spawn
    for process in started:
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            await process.wait()
