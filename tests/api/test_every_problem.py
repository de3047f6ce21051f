"""A walk over all paths with all that can be wrong around a request: every error is a problem, and a declared one."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.resource import Operation, Resource
from infra.openapi import published, resources
from shared.tokens import Scope
from tests.api.conftest import RunningApi, StartApi, token
from tests.api.raw import exchange

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
SUBJECTS: dict[Scope, str] = {"device": "truck-7", "operator": "olga", "service": "billing"}
IDS = {"device_id": "truck-7", "digest": "0" * 16, "name": "none"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def api(start_api: StartApi) -> RunningApi:
    return await start_api(FLEETWIRE_API_RATE_LIMITS="off")


def path_of(resource: Resource) -> str:
    ids = {name: IDS.get(name, "0198b7c2-0000-7000-8000-00000000dead") for name in resource.path_names}
    return resource.template.format(**ids)


def key() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4())}


def bearer(scope: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(SUBJECTS[scope], scope)}"}


def check(answer: httpx.Response, status: int, slug: str) -> None:
    """RFC 9457, from the first byte to the last."""
    told = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code == status, told
    assert answer.headers["content-type"] == "application/problem+json", told
    assert answer.headers["x-request-id"], told
    assert answer.headers["cache-control"] == "no-store", told
    if answer.request.method == "HEAD":
        assert answer.content == b"", told
        return
    body = answer.json()
    assert body["type"] == f"urn:fleetwire:problem:{slug}", told
    assert (body["status"], body["request_id"]) == (status, answer.headers["x-request-id"]), told
    assert body["title"], told
    assert body["detail"], told


def guarded() -> list[tuple[Resource, str, Operation]]:
    found = [
        (resource, method, operation) for resource in resources() for method, operation in resource.operations.items()
    ]
    return [one for one in found if one[2].scopes]


def with_body() -> list[tuple[Resource, str, dict[str, str]]]:
    """Every operation that takes a body, and headers that get as far as the body."""
    return [
        (resource, method, bearer(min(operation.scopes)) | {"If-Match": '"1"'})
        for resource, method, operation in guarded()
        if operation.body is not None
    ]


async def test_methods_that_a_path_does_not_have_are_refused_with_those_that_it_has(api: RunningApi) -> None:
    client = api.client()
    for resource in resources():
        for method in METHODS:
            if method not in resource.operations:
                answer = await client.request(method, path_of(resource))
                check(answer, 405, "method-not-allowed")
                assert answer.headers["allow"] == ", ".join(sorted(resource.operations)), resource.template


async def test_nobody_and_the_wrong_ones_are_told_so_at_every_path(api: RunningApi) -> None:
    client = api.client()
    for resource, method, operation in guarded():
        answer = await client.request(method, path_of(resource))
        check(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        answer = await client.request(method, path_of(resource), headers={"Authorization": "Bearer a.b.c"})
        check(answer, 401, "unauthorized")
        for scope in SUBJECTS.keys() - operation.scopes:
            answer = await client.request(method, path_of(resource), headers=bearer(scope))
            check(answer, 403, "forbidden")
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


async def test_bodies_that_cannot_be_read_are_refused_at_every_path_that_takes_one(api: RunningApi) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"

    client = api.client()
    for resource, method, headers in with_body():
        path = path_of(resource)

        async def send(given: dict[str, str], content: Any, *, to: str = path, by: str = method) -> httpx.Response:
            return await client.request(by, to, headers=headers | given | key(), content=content)  # noqa: B023

        answer = await send({"Content-Type": "text/plain"}, b"{}")
        check(answer, 415, "unsupported-media-type")
        assert answer.headers["accept"] == "application/json"
        answer = await send(JSON | {"Content-Encoding": "zstd"}, b"{}")
        check(answer, 415, "unsupported-media-type")
        assert answer.headers["accept-encoding"] == "gzip, identity"
        check(await send(JSON, chunks()), 400, "invalid-body")
        for content in (b"", b"nothing", b'{"a":1,"a":2}', b"[" * 100, b"\xff", b"NaN", b"[]", b'{"no-such-member":1}'):
            check(await send(JSON, content), 400, "invalid-body")
        check(await send(JSON | {"Content-Encoding": "gzip"}, b"{}"), 400, "invalid-body")


async def test_what_no_path_can_be_is_not_found_or_malformed_for_whatever_method(api: RunningApi) -> None:
    client = api.client()
    for method in METHODS:
        for path in ("/nothing", "/api", "/api/v1", "/api/v2/jobs", "/api/v1/jobs/x/y/z", "/docs/x"):
            check(await client.request(method, path), 404, "not-found")
        check(await client.request(method, "/api/v1/jobs/%2e%2e"), 400, "invalid-request")


async def test_ids_in_a_path_that_are_none_name_their_place(api: RunningApi) -> None:
    client = api.client()
    for resource, method, operation in guarded():
        for name in resource.path_names:
            wrong = path_of(resource).replace(IDS.get(name, "0198b7c2-0000-7000-8000-00000000dead"), "NO_SUCH..ID")
            if operation.body is not None and name != "device_id":
                continue  # the body is read before
            given = bearer(max(operation.scopes)) | {"If-Match": '"1"'} | key()
            answer = await client.request(method, wrong, headers=given)
            check(answer, 400, "invalid-parameter")
            assert method == "HEAD" or answer.json()["field"] == name


async def test_what_is_no_http_is_answered_by_a_problem_all_the_same(api: RunningApi) -> None:
    for head in (
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        b"GET /health HTTP/1.1\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nno colon\r\n",
        b"GET /hea lth HTTP/1.1\r\nHost: a\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n",
    ):
        answer = await exchange(api.settings.port, head + b"Connection: close\r\n\r\n")
        said, _, body = answer.partition(b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 400 "), (head, answer[:300])
        assert b"content-type: application/problem+json" in said.lower()
        problem = json.loads(body)
        assert (problem["status"], problem["type"]) == (400, "urn:fleetwire:problem:invalid-request")
        assert problem["request_id"]
    for head in (b"OPTIONS * HTTP/1.1", b"CONNECT here:80 HTTP/1.1", b"GET health HTTP/1.1", b"PRI * HTTP/2.0"):
        answer = await exchange(api.settings.port, head + b"\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 404 "), (head, answer[:300])
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:fleetwire:problem:not-found"


async def test_the_document_declares_what_the_walk_was_answered() -> None:
    for path, methods in published()["paths"].items():
        for method, operation in methods.items():
            declared = operation["responses"].keys()
            if operation["security"]:
                assert {"401", "403", "429"} <= declared, f"{method} {path}"
            if "requestBody" in operation:
                assert {"400", "408", "413", "415"} <= declared, f"{method} {path}"
