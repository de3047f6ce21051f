"""The examples of the published document, sent as they stand to a running instance."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import jsonschema
import pytest

from api.description import REQUEST_HEADERS
from infra.openapi import published
from loadtests.api_scene import draw, redraw
from tests.api.conftest import StartApi, token
from tests.api.ops_port import OPS_TOKEN, OpsPort

# Whoever the examples are of.
SUBJECTS = {"device": "truck-7", "operator": "olga", "service": "billing"}


@pytest.fixture
async def ops() -> AsyncIterator[OpsPort]:
    port = OpsPort()
    await port.server.start()
    yield port
    await port.server.close()


async def test_every_example_is_answered_as_the_document_says(
    start_api: StartApi, sql: asyncpg.Connection, ops: OpsPort
) -> None:
    api = await start_api(
        FLEETWIRE_HOOKS_S3_SECRET=REQUEST_HEADERS["Fleetwire-Hook-Secret"].example, FLEETWIRE_OPS_TOKEN=OPS_TOKEN
    )
    await draw(sql)
    await sql.execute("UPDATE hubs SET ops_url = $1", f"http://127.0.0.1:{ops.server.port}")
    document = published()
    clients = {scope: api.client(token(subject, scope)) for scope, subject in SUBJECTS.items()} | {"": api.client()}
    wrong = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            await redraw(sql, operation["operationId"])
            client, request = _caller(operation, clients), _request(path, operation)
            if operation["operationId"] == "carryOutPlan":
                plan = await client.post("/api/v1/hubs/plan", json={"action": request["json"]["action"]})
                request["json"]["confirm"] = plan.json()["confirm"]
            answer = await client.request(method, **request)
            if flaw := _flaw(answer, operation, document):
                wrong.append(f"{method.upper()} {path}: {flaw}")
    assert wrong == []


def _caller(operation: dict[str, Any], clients: dict[str, httpx.AsyncClient]) -> httpx.AsyncClient:
    """The device where it is let in: what is the truck's is in the examples."""
    return clients[min((scope for one in operation["security"] for scope in one["bearer"]), default="")]


def _request(path: str, operation: dict[str, Any]) -> dict[str, Any]:
    """The example request, as arguments of a client."""
    given: dict[str, dict[str, str]] = {"path": {}, "query": {}, "header": {}}
    for parameter in operation.get("parameters", []):
        if "example" in parameter:
            given[parameter["in"]][parameter["name"]] = str(parameter["example"])
    headers = given["header"]
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] += operation["operationId"]
    request: dict[str, Any] = {"url": path.format(**given["path"]), "params": given["query"], "headers": headers}
    if "requestBody" in operation:
        request["json"] = operation["requestBody"]["content"]["application/json"]["example"]
    return request


def _flaw(answer: httpx.Response, operation: dict[str, Any], document: dict[str, Any]) -> str | None:
    """What of the answer is not as it was said."""
    said = operation["responses"].get(str(answer.status_code))
    if said is None or answer.status_code >= 400:
        return f"{answer.status_code} {answer.text}"
    for name, header in said.get("headers", {}).items():
        declared = document["components"]["headers"].get(name, header)
        if declared.get("required") and name not in answer.headers:
            return f"{answer.status_code} without {name}"
    content = said.get("content")
    if content is None:
        return f"a body that is not declared: {answer.text}" if answer.content else None
    ((media_type, declared),) = content.items()
    if answer.headers["content-type"] != media_type:
        return f"it is {answer.headers['content-type']}"
    schema = {**_closed(declared["schema"]), "components": _closed(document["components"])}
    try:
        jsonschema.Draft202012Validator(schema).validate(answer.text if media_type == "text/plain" else answer.json())
    except jsonschema.ValidationError as error:
        return f"{error.json_path}: {error.message}"
    return None


def _closed(schema: Any) -> Any:
    """The schema with no room for members that it does not name, where it names any."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
