"""Sync against a plain model: two instances and a hub at once, batches repeated, links cut and sessions ended anywhere.

Each actor sends its batches one after another and a cut one again, whole, to whichever of them. One device has its
inspections for itself, so all that it is told is known beforehand. The others share theirs with an operator: there the
versions say in which order things happened, and the model must get to the same state in that order.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from hub.app import Keys, Running, serve
from hub.settings import Settings as HubSettings
from shared.lifecycle import Stop
from shared.settings import load
from tests.api.conftest import TOKEN_KEYS, RunningApi, StartApi, token
from tests.api.sync_model import Model
from tests.hub.conftest import environment as hub_environment
from tests.shared.sync.samples import TEMPLATE, add_template, an_id

VERBS = ("create", "update", "submit", "approve", "reject", "reopen", "delete")
EFFECTS = {"applied": "done", "conflict": "conflict", "rejected": "refused", "retry": "retry"}
TRIES = 25
ALONE, *TOGETHER = "device:alone", "device:shared", "operator:olga", "operator:otto"
FATES = ("whole", "whole", "request", "request", "answer", "answer", "answer", "database")
# Each takes about half a second; many more are for a machine that has nothing else to do.
EXAMPLES = int(os.environ.get("FLEETWIRE_TEST_SYNC_EXAMPLES", "7"))


@st.composite
def plans(draw: st.DrawFn) -> dict[str, list[list[tuple[Any, ...]]]]:
    """For each actor batches of (verb, which entity, how far its version is behind, answers, repeat which before).

    Nobody names a version that he has not been told or brought about: where a cut batch is still being applied while
    its repetition was answered, one from the future might meet its version later.
    """
    item = st.tuples(
        st.sampled_from((*VERBS, "update", "update", "submit", "create")),
        st.integers(0, 2),
        st.sampled_from([0, 0, 0, 0, 0, 1]),
        st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 9), max_size=2),
        st.sampled_from([None, None, None, 0, 1]),
    )
    batch = st.lists(item, min_size=1, max_size=8)
    return {actor: draw(st.lists(batch, min_size=1, max_size=4)) for actor in (ALONE, *TOGETHER)}


def an_operation(plan: tuple[Any, ...], entities: list[str], versions: dict[str, int]) -> dict[str, Any]:
    verb, which, behind, answers, _ = plan
    operation: dict[str, Any] = {"op_id": an_id(), "type": f"inspection.{verb}", "entity_id": entities[which]}
    if verb == "create":
        operation["data"] = {"template_id": str(TEMPLATE), "title": "T", "answers": answers}
        return operation
    operation["base_version"] = max(1, versions.get(entities[which], 0) - behind)
    if verb == "update":
        operation["data"] = {"answers": answers, "title": f"T{behind}"}
    elif verb == "reject":
        operation["data"] = {"note": "again"}
    return operation


@dataclass
class Sender:
    """Sends a batch until it is answered, over links that are cut."""

    apis: list[RunningApi]
    hub: str
    killer: asyncpg.Connection
    rand: Random
    cut: int = 0
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def send(self, who: str, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kind, subject = who.split(":")
        bearer = token(subject, kind)
        for number in range(TRIES):
            rough = number < 3
            if kind == "device" and self.rand.random() < 0.4:
                answer = await self._by_socket(subject, bearer, operations, rough=rough)
            else:
                answer = await self._by_rest(bearer, operations, self.rand.choice(self.apis), rough=rough)
            if answer is None:
                continue
            results: list[dict[str, Any]] = answer["results"]
            codes = {one["error"]["code"] for one in results if one["status"] == "retry"}
            if codes <= {"dependency"}:
                return results
        raise AssertionError(f"{who} was never answered")

    async def _by_rest(
        self, bearer: str, operations: list[dict[str, Any]], api: RunningApi, *, rough: bool
    ) -> dict[str, Any] | None:
        body = json.dumps({"operations": operations}).encode()
        head = (
            f"POST /api/v1/sync/batch/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        fate = self.rand.choice(FATES) if rough else "whole"
        reader, writer = await asyncio.open_connection("127.0.0.1", api.settings.port)
        try:
            if fate == "request":
                writer.write(request[: self.rand.randrange(len(request))])
                await self._pause()
                self.cut += 1
                return None
            writer.write(request)
            if fate == "answer":
                await self._pause()
                self.cut += 1
                return None
            if fate == "database":
                await self._end_sessions()
            async with asyncio.timeout(30):
                raw = await reader.read()
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        answered, _, content = raw.partition(b"\r\n\r\n")
        if not answered.startswith(b"HTTP/1.1 200"):
            assert answered.startswith(b"HTTP/1.1 503"), raw
            return None
        found: dict[str, Any] = json.loads(content)
        return found

    async def _by_socket(
        self, device_id: str, bearer: str, operations: list[dict[str, Any]], *, rough: bool
    ) -> dict[str, Any] | None:
        fate = self.rand.choice(FATES) if rough else "whole"
        try:
            socket = await connect(
                f"{self.hub}?device_id={device_id}",
                subprotocols=[Subprotocol("fleetwire.v1")],
                additional_headers={"Authorization": f"Bearer {bearer}"},
                ping_interval=None,
                proxy=None,
            )
        except (InvalidStatus, OSError, TimeoutError):
            return None
        try:
            await socket.send(json.dumps({"type": "sync", "ref": "r", "operations": operations}))
            if fate in ("request", "answer"):
                await self._pause()
                self.cut += 1
                return None
            if fate == "database":
                await self._end_sessions()
            async with asyncio.timeout(30):
                while True:
                    frame: dict[str, Any] = json.loads(await socket.recv())
                    if frame["type"] == "sync_result":
                        return frame
                    if frame["type"] == "error":
                        assert frame["code"] == "unavailable", frame
                        return None
        except ConnectionClosed:
            return None
        finally:
            socket.transport.abort()
            await socket.wait_closed()

    async def _end_sessions(self) -> None:
        await self._pause()
        async with self.one_at_a_time:
            await self.killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'fleetwire-%' AND datname = current_database()"
            )
        self.cut += 1

    async def _pause(self) -> None:
        """Somewhere in the handling of the request."""
        for _ in range(self.rand.randrange(40)):
            await asyncio.sleep(0)
        await asyncio.sleep(self.rand.choice([0, 0, 0.002, 0.005, 0.01]))


class Actor:
    """Sends its plan, and learns versions from what it is told, as a client does."""

    def __init__(self, who: str, entities: list[str], sender: Sender) -> None:
        self.who = who
        self.entities = entities
        self.sender = sender
        self.versions: dict[str, int] = {}
        self.sent: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = []

    async def run(self, batches: list[list[tuple[Any, ...]]]) -> None:
        before: list[dict[str, Any]] = []
        for batch in batches:
            ahead = dict(self.versions)
            operations: list[dict[str, Any]] = []
            for plan in batch:
                repeat = plan[4]
                if repeat is not None and len(before) > repeat:
                    operations.append(before[repeat])
                    continue
                operation = an_operation(plan, self.entities, ahead)
                ahead[operation["entity_id"]] = operation.get("base_version", 0) + 1
                operations.append(operation)
            results = await self.sender.send(self.who, operations)
            before = [
                operation for operation, result in zip(operations, results, strict=True) if result["status"] != "retry"
            ]
            assert [one["op_id"] for one in results] == [one["op_id"] for one in operations]
            self.sent.append((operations, results))
            for operation, result in zip(operations, results, strict=True):
                if "version" in result:
                    known = self.versions.get(operation["entity_id"], 0)
                    self.versions[operation["entity_id"]] = max(known, result["version"])


def effect_of(result: dict[str, Any]) -> tuple[Any, ...]:
    """A result as the model says it. A repetition is told what the first time was, whichever that is."""
    status = result["status"]
    if status == "duplicate":
        status = "rejected" if "error" in result else "applied"
    code = result.get("version") if status in ("applied", "conflict") else result["error"]["code"]
    return (EFFECTS[status], result["http"], code)


async def states(sql: asyncpg.Connection, entities: list[str]) -> dict[str, dict[str, Any]]:
    rows = await sql.fetch("SELECT * FROM inspections WHERE inspection_id = ANY ($1::uuid[])", entities)
    return {
        str(row["inspection_id"]): {
            "inspector": row["inspector_id"],
            "status": row["status"],
            "title": row["title"],
            "answers": json.loads(row["answers"]),
            "version": row["version"],
            "deleted": row["is_deleted"],
        }
        for row in rows
    }


def in_order_of_versions(actors: list[Actor]) -> Model:
    """What was applied to shared inspections, in the order that the versions tell."""
    steps: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
    for actor in actors:
        told: dict[str, tuple[Any, ...]] = {}
        for operations, results in actor.sent:
            for operation, result in zip(operations, results, strict=True):
                effect = effect_of(result)
                if effect[0] != "done":
                    continue
                assert told.setdefault(operation["op_id"], effect) == effect
                step = (operation["entity_id"], effect[2])
                assert steps.setdefault(step, (actor.who, operation)) == (actor.who, operation)
    model = Model()
    for (_, version), (who, operation) in sorted(steps.items(), key=lambda entry: entry[0]):
        assert model.apply(who, operation)[::2] == ("done", version)
    return model


@pytest.fixture
async def apis(start_api: StartApi, sql: asyncpg.Connection) -> list[RunningApi]:
    await add_template(sql)
    return [await start_api(), await start_api()]


@pytest.fixture
async def hub_url(database_url: str, redis_url: str) -> AsyncIterator[str]:
    changes = {"FLEETWIRE_TOKEN_KEYS": TOKEN_KEYS, "FLEETWIRE_HUB_FLAPS_MAX": "0"}
    hub_settings = load(HubSettings, hub_environment("hub-1", database_url, redis_url, changes))
    stop = Stop()
    running: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(hub_settings, Keys(hub_settings), stop, on_running=running.set_result))
    async with asyncio.timeout(20):
        port = (await running).port
    yield f"ws://127.0.0.1:{port}/v1/socket"
    stop.request("test is over")
    await task


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans(), seed=st.integers(0, 2**32))
async def test_whatever_is_cut_and_repeated_two_instances_get_where_the_model_gets(
    apis: list[RunningApi],
    hub_url: str,
    sql: asyncpg.Connection,
    plan: dict[str, list[list[tuple[Any, ...]]]],
    seed: int,
) -> None:
    sender = Sender(apis, hub_url, sql, Random(seed))
    alone, shared = [an_id() for _ in range(3)], [an_id() for _ in range(3)]
    actors = {who: Actor(who, alone if who == ALONE else shared, sender) for who in plan}
    await asyncio.gather(*(actors[who].run(batches) for who, batches in plan.items()))

    model = Model()
    for operations, results in actors[ALONE].sent:
        assert [effect_of(one) for one in results] == model.batch(ALONE, operations)
    assert await states(sql, alone) == model.inspections
    together = in_order_of_versions([actors[who] for who in TOGETHER])
    assert await states(sql, shared) == together.inspections
