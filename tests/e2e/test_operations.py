"""A device process is killed with operations on its disk and under way: each is applied once, and told once."""

import asyncio
import json
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import contextmanager
from os import urandom
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from device import Client, State, StateChange, new_id
from loadtests.fault_proxy import FaultProxy, Way
from loadtests.process import start_python
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

ENTITIES, CHANGES = 50, 4
OPERATIONS = ENTITIES * (1 + CHANGES)
BATCH_ROUTE = "/api/v1/sync/batch"


@pytest.fixture
async def sql(site: Site) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(site.machine.database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def template(sql: asyncpg.Connection) -> UUID:
    made = uuid4()
    await sql.execute("INSERT INTO templates (template_id, name, version, body) VALUES ($1, 'Daily', 1, '{}')", made)
    return made


class Device:
    """A process; `said` are its lines."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    async def until(self, what: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until it has said this so often."""
        async with asyncio.timeout(60):
            while len(found := self.all(what)) < count:
                await self._listen()
        return found

    async def kill(self) -> None:
        """kill -9, and hear what it said before."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        while await self._listen(ended=True):
            pass

    def all(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.said if line["what"] == what]

    async def _listen(self, *, ended: bool = False) -> bool:
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        if line.endswith("\n"):
            self.said.append(json.loads(line))
            return True
        assert ended, f"the device ended: {self.process.wait()}"
        return False


class Truck:
    """One device that is started again and again over the same folder."""

    def __init__(self, site: Site, folder: Path, template: UUID, name: str) -> None:
        self.site = site
        self.device_id = site.new_device(name)
        self._plan = {
            "device": self.device_id,
            "folder": str(folder),
            "token": site.machine.token(self.device_id, "device", device_class="truck"),
            "template": str(template),
            "changes": CHANGES,
            "rapid": 10,
        }

    @contextmanager
    def started(self, api: str, *, entities: int = 0, take: int = OPERATIONS) -> Any:
        process = start_python(
            "loadtests.offline_device", [json.dumps({**self._plan, "api": api, "entities": entities, "take": take})]
        )
        with process:
            try:
                yield Device(process)
            finally:
                process.kill()

    async def batches(self) -> float:
        """How many the servers took, by whichever way."""
        by_rest = await self.site.count("api", "fleetwire_api_requests_total", route=BATCH_ROUTE, method="POST")
        return by_rest + await self.site.count("hub-1", "fleetwire_hub_sync_seconds_count")

    async def operations(self) -> dict[str, float]:
        """What they became."""
        found: dict[str, float] = {}
        for process in ("api", "hub-1"):
            for status, count in (await self.site.counts(process, "fleetwire_sync_operations_total", "status")).items():
                found[status] = found.get(status, 0) + count
        return found

    async def versions(self, sql: asyncpg.Connection) -> list[int]:
        rows = await sql.fetch("SELECT version FROM inspections WHERE inspector_id = $1", self.device_id)
        return [row["version"] for row in rows]


async def test_250_operations_of_a_killed_device_go_in_three_batches_and_are_applied_once(
    site: Site, sql: asyncpg.Connection, template: UUID, tmp_path: Path
) -> None:
    truck = Truck(site, tmp_path, template, "offline")
    async with FaultProxy(site.machine.api) as network:
        await network.become(Way.REFUSE)
        with truck.started(f"http://127.0.0.1:{network.port}", entities=ENTITIES) as device:
            (submitted,) = await device.until("submitted")
            assert submitted["waiting"] == OPERATIONS
            await device.kill()
    assert await truck.versions(sql) == []
    batches, before = await truck.batches(), await truck.operations()
    with truck.started(site.machine.api) as device:
        (done,) = await device.until("done")
        results = device.all("result")
    assert done == {"what": "done", "waiting": 0, "results": 0}
    assert await truck.batches() - batches == 3
    after = await truck.operations()
    assert {
        status: count - before.get(status, 0) for status, count in after.items() if count != before.get(status)
    } == {"applied": OPERATIONS}
    assert await truck.versions(sql) == [1 + CHANGES] * ENTITIES
    assert len({one["op_id"] for one in results}) == len(results) == OPERATIONS
    assert {one["status"] for one in results} == {"applied"}
    assert not any(one["redelivered"] for one in results)


async def test_a_live_device_sends_over_its_socket_and_never_above_its_rate(
    site: Site, template: UUID, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device_id = site.new_device("live")
    token = site.machine.token(device_id, "device", device_class="truck")
    before = await site.count("hub-1", "fleetwire_hub_sync_seconds_count")
    states: list[StateChange] = []
    async with (
        FaultProxy(site.hub, port=site.hub_port),
        Client(device_id, api=site.machine.api, token=token, folder=tmp_path, on_state=states.append) as client,
    ):
        async with asyncio.timeout(60):
            await client.wait_for_state(State.LIVE)
            entity = new_id()
            data = {"template_id": str(template), "title": "Brakes", "answers": {}}
            created = await client.submit({"type": "inspection.create", "entity_id": entity, "data": data})
            results = client.results()
            first = await anext(results)
            assert (first.op_id, first.status, first.version) == (created, "applied", 1)
            assert await site.count("hub-1", "fleetwire_hub_sync_seconds_count") == before + 1
            last = created
            for number in range(40):  # one at a time, so that each fits into a frame
                change = {"answers": {f"{number % 2}": b64encode(urandom(15_000)).decode()}}
                operation = {"type": "inspection.update", "entity_id": entity, "data": change}
                last = await client.submit(operation, after=last)
                assert (await anext(results)).version == number + 2
        assert [change.state for change in states].count(State.LIVE) == 1
    assert "over_rate" not in caplog.text
    assert await site.count("hub-1", "fleetwire_hub_sync_seconds_count") > before + 3


async def test_killed_and_cut_at_any_moment_each_operation_is_applied_once_and_told_once(
    site: Site, sql: asyncpg.Connection, template: UUID, tmp_path: Path
) -> None:
    truck = Truck(site, tmp_path, template, "killed")
    told: list[dict[str, Any]] = []
    async with FaultProxy(site.machine.api) as network:
        api = f"http://127.0.0.1:{network.port}"
        await network.become(Way.REFUSE)
        with truck.started(api, entities=ENTITIES) as device:
            await device.until("submitted")
            await device.kill()
        # In the middle of an answer: it was applied, and the device does not know.
        await network.become(Way.FORWARD)
        network.cut_after = 4000
        with truck.started(api) as device:
            async with asyncio.timeout(60):
                while not await truck.versions(sql):
                    await asyncio.sleep(0.02)
            await device.kill()
            told += device.all("result")
        network.cut_after = None
        for count in (1, 90):
            with truck.started(api) as device:
                await device.until("result", count)
                await device.kill()
                told += device.all("result")
        with truck.started(api, take=0) as device:
            async with asyncio.timeout(60):
                while len({one["op_id"] for one in told + device.all("result")}) < OPERATIONS:
                    await device.until("result", len(device.all("result")) + 1)
            await device.kill()
            told += device.all("result")
    assert await truck.versions(sql) == [1 + CHANGES] * ENTITIES
    statuses = {one["status"] for one in told}
    assert "duplicate" in statuses, "the answer that was cut"
    assert statuses <= {"applied", "duplicate"}
    first = [one for one in told if not one["redelivered"]]
    assert len({one["op_id"] for one in first}) == len(first) == OPERATIONS
    assert len(told) - len(first) <= 5, "only what was in hand at a kill is given again"
    for entity in {one["entity"] for one in first}:
        assert [one["version"] for one in first if one["entity"] == entity] == list(range(1, CHANGES + 2))
