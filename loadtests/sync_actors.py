"""Devices and operators that send batches of operations until they are answered, whatever is cut under them.

What an actor does is a plan, made beforehand; what it was told is kept, to be held against `sync_model.Model`. A batch
whose answer was lost is sent again, whole, by REST to any instance or over a socket.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from loadtests.sync_model import Model

__all__ = ["TEMPLATE", "VERBS", "Actor", "Plan", "Sender", "effect_of", "in_order_of_versions", "states"]

TEMPLATE: Final = "00000000-0000-4000-8000-0000000000c1"
VERBS: Final = ("create", "update", "submit", "approve", "reject", "reopen", "delete")

# What becomes of one attempt: it is let be, cut while the request or the answer is on its way, or disturbed otherwise.
_FATES: Final = ("whole", "whole", "request", "request", "answer", "answer", "answer", "disturbed")
_ROUGH_TRIES: Final = 3
_ANSWER_S: Final = 30.0
_EFFECTS: Final = {"applied": "done", "conflict": "conflict", "rejected": "refused", "retry": "retry"}

Operation = dict[str, Any]
Result = dict[str, Any]


class Plan(NamedTuple):
    """One operation to come. `which` inspection; `behind`: how far its author's knowledge of the version is behind;
    `repeat`: send that one of the batch before again instead.

    Nobody names a version that he has not been told or brought about: where a cut batch is still being applied while
    its repetition was answered, one from the future might meet its version later.
    """

    verb: str
    which: int
    behind: int
    answers: dict[str, int | None]
    repeat: int | None = None


@dataclass
class Sender:
    """Sends a batch until it is answered, over links that are cut.

    `apis` and `hubs` are addresses; `token_of(kind, subject)` makes bearers; `disturb` does what else may be done to an
    attempt that is under way.
    """

    apis: Sequence[str]
    hubs: Sequence[str]
    token_of: Callable[[str, str], str]
    disturb: Callable[[], Awaitable[None]]
    rand: Random
    patience_s: float = 60.0
    attempts: int = 0
    cut: int = 0

    async def send(self, who: str, operations: list[Operation]) -> list[Result]:
        """The results.

        Raises AssertionError when there are none for too long, or an answer is none that was foreseen.
        """
        kind, subject = who.split(":")
        bearer = self.token_of(kind, subject)
        end = time.monotonic() + self.patience_s
        tried = 0
        while time.monotonic() < end:
            fate = self.rand.choice(_FATES) if tried < _ROUGH_TRIES else "whole"
            tried += 1
            self.attempts += 1
            if kind == "device" and self.hubs and self.rand.random() < 0.4:
                results = await self._by_socket(subject, bearer, operations, fate)
            else:
                results = await self._by_rest(bearer, operations, fate)
            if results is not None:
                codes = {one["error"]["code"] for one in results if one["status"] == "retry"}
                if codes <= {"dependency"}:
                    return results
            if tried > _ROUGH_TRIES:
                await asyncio.sleep(self.rand.uniform(0, 0.1))
        raise AssertionError(f"{who} was not answered in {tried} tries")

    async def _by_rest(self, bearer: str, operations: list[Operation], fate: str) -> list[Result] | None:
        parts = urlsplit(self.rand.choice(self.apis))
        body = json.dumps({"operations": operations}).encode()
        head = (
            f"POST /api/v1/sync/batch/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            return None
        try:
            writer.write(request[: self.rand.randrange(len(request))] if fate == "request" else request)
            if await self._meets(fate):
                return None
            async with asyncio.timeout(_ANSWER_S):
                raw = await reader.read()
        except (OSError, TimeoutError):
            return None
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        answered, _, content = raw.partition(b"\r\n\r\n")
        if not answered.startswith(b"HTTP/1.1 200"):
            assert not raw or answered.startswith(b"HTTP/1.1 503"), raw
            return None
        try:
            results: list[Result] = json.loads(content)["results"]
        except ValueError:
            return None  # half an answer
        return results

    async def _by_socket(
        self, device_id: str, bearer: str, operations: list[Operation], fate: str
    ) -> list[Result] | None:
        try:
            socket = await connect(
                f"{self.rand.choice(self.hubs)}?device_id={device_id}",
                subprotocols=[Subprotocol("fleetwire.v1")],
                additional_headers={"Authorization": f"Bearer {bearer}"},
                ping_interval=None,
                proxy=None,
            )
        except (InvalidHandshake, ConnectionClosed, OSError, EOFError, TimeoutError):
            return None
        try:
            await socket.send(json.dumps({"type": "sync", "ref": "r", "operations": operations}))
            if await self._meets(fate):
                return None
            async with asyncio.timeout(_ANSWER_S):
                while True:
                    frame: dict[str, Any] = json.loads(await socket.recv())
                    if frame["type"] == "sync_result":
                        results: list[Result] = frame["results"]
                        return results
                    if frame["type"] == "error":
                        assert frame["code"] in ("unavailable", "busy"), frame
                        return None
        except (ConnectionClosed, TimeoutError):
            return None
        finally:
            socket.transport.abort()
            await socket.wait_closed()

    async def _meets(self, fate: str) -> bool:
        """Whether the attempt ends here."""
        if fate == "whole":
            return False
        # Somewhere in the handling of the request.
        for _ in range(self.rand.randrange(40)):
            await asyncio.sleep(0)
        await asyncio.sleep(self.rand.choice([0, 0, 0.002, 0.005, 0.01]))
        self.cut += 1
        if fate == "disturbed":
            await self.disturb()
        return fate != "disturbed"


@dataclass
class Actor:
    """Sends its plan, and learns versions from what it is told, as a client does."""

    who: str
    entities: Sequence[str]
    sender: Sender
    versions: dict[str, int] = field(default_factory=dict)
    sent: list[tuple[list[Operation], list[Result]]] = field(default_factory=list)
    _before: list[Operation] = field(default_factory=list)

    async def run(self, batches: Sequence[Sequence[Plan]]) -> None:
        """Batch after batch."""
        for batch in batches:
            await self.send(batch)

    async def send(self, batch: Sequence[Plan]) -> None:
        """One batch, until it is answered."""
        ahead = dict(self.versions)
        operations: list[Operation] = []
        for plan in batch:
            if plan.repeat is not None and len(self._before) > plan.repeat:
                operations.append(self._before[plan.repeat])
                continue
            operation = self._operation(plan, ahead)
            ahead[operation["entity_id"]] = operation.get("base_version", 0) + 1
            operations.append(operation)
        results = await self.sender.send(self.who, operations)
        assert [one["op_id"] for one in results] == [one["op_id"] for one in operations]
        self.sent.append((operations, results))
        pairs = list(zip(operations, results, strict=True))
        self._before = [operation for operation, result in pairs if result["status"] != "retry"]
        for operation, result in pairs:
            if "version" in result:
                known = self.versions.get(operation["entity_id"], 0)
                self.versions[operation["entity_id"]] = max(known, result["version"])

    def _operation(self, plan: Plan, versions: dict[str, int]) -> Operation:
        op_id = str(UUID(int=self.sender.rand.getrandbits(128), version=4))
        entity = self.entities[plan.which]
        operation: Operation = {"op_id": op_id, "type": f"inspection.{plan.verb}", "entity_id": entity}
        if plan.verb == "create":
            return {**operation, "data": {"template_id": TEMPLATE, "title": "T", "answers": plan.answers}}
        operation["base_version"] = max(1, versions.get(entity, 0) - plan.behind)
        if plan.verb == "update":
            operation["data"] = {"answers": plan.answers, "title": f"T{plan.behind}"}
        elif plan.verb == "reject":
            operation["data"] = {"note": "again"}
        return operation


def effect_of(result: Result) -> tuple[Any, ...]:
    """A result as the model says it. A repetition is told what the first time was, whichever that is."""
    status = result["status"]
    if status == "duplicate":
        status = "rejected" if "error" in result else "applied"
    code = result.get("version") if status in ("applied", "conflict") else result["error"]["code"]
    return (_EFFECTS[status], result["http"], code)


def in_order_of_versions(actors: Sequence[Actor]) -> Model:
    """What was applied to inspections that the actors share, in the order that the versions tell.

    Raises AssertionError when two operations were told the same version, one was told two, or the model refuses one.
    """
    steps: dict[tuple[str, int], tuple[str, Operation]] = {}
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


async def states(connection: asyncpg.Connection, entities: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What Postgres holds, as the model says it."""
    rows = await connection.fetch("SELECT * FROM inspections WHERE inspection_id = ANY ($1::uuid[])", entities)
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
