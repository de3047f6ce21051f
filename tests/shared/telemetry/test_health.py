"""The operations port: who may ask what."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shared.settings import SettingsError
from shared.telemetry.health import OpsServer, Readiness, is_loopback

TOKEN = "operations-token-of-this-test"
READY = Readiness(ready=True)


async def drain(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"draining by {request.method}")


@asynccontextmanager
async def ops(readiness: Readiness = READY, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    server = OpsServer(
        "127.0.0.1",
        0,
        process="hub-1",
        readiness=lambda: readiness,
        routes=[Route("/control/drain", drain, methods=["POST"])],
        **options,
    )
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            yield client
    finally:
        await server.close()


def bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_alive_and_ready_are_two_questions() -> None:
    state = Readiness(ready=False, reasons=("bus is deaf",), detail={"bus": "deaf"})
    async with ops(state) as client:
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/ready")
        assert ready.status_code == 503
        assert ready.json() == {
            "status": "not ready",
            "process": "hub-1",
            "reasons": ["bus is deaf"],
            "detail": {"bus": "deaf"},
        }
        assert "fleetwire_process_ready 0.0" in (await client.get("/metrics")).text


async def test_the_root_lists_what_is_there() -> None:
    async with ops() as client:
        assert (await client.get("/")).json() == {
            "process": "hub-1",
            "paths": ["/health", "/ready", "/metrics", "/control/drain"],
        }


async def test_a_ready_process_says_so() -> None:
    async with ops() as client:
        assert (await client.get("/ready")).status_code == 200
        assert "fleetwire_process_ready 1.0" in (await client.get("/metrics")).text


async def test_control_routes_are_served() -> None:
    async with ops() as client:
        assert (await client.post("/control/drain")).text == "draining by POST"


async def test_with_a_token_only_status_words_are_open() -> None:
    async with ops(Readiness(ready=False, reasons=("private",)), token=TOKEN) as client:
        assert (await client.get("/health")).status_code == 200
        assert "private" not in (await client.get("/ready")).text
        assert "private" in (await client.get("/ready", headers=bearer(TOKEN))).text
        for path in ("/", "/metrics", "/control/drain", "/nothing"):
            for headers in ({}, bearer("x" * 20), bearer(TOKEN + "x"), {"Authorization": f"Basic {TOKEN}"}):
                assert (await client.get(path, headers=headers)).status_code == 401, (path, headers)
        assert (await client.get("/metrics", headers=bearer(TOKEN))).status_code == 200
        assert (await client.post("/control/drain", headers=bearer(TOKEN))).status_code == 200
        assert (await client.get("/metrics", headers={b"Authorization": b"Bearer \xff\xfe"})).status_code == 401


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:80"}])
async def test_a_page_that_points_its_own_name_at_loopback_gets_nothing(headers: dict[str, str]) -> None:
    async with ops() as client:
        assert (await client.get("/metrics", headers=headers)).status_code == 403


async def test_a_page_cannot_post_across_origins() -> None:
    async with ops() as client:
        refused = await client.post("/control/drain", headers={"Origin": "http://evil.example"})
        assert refused.status_code == 403
        assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_OPS_TOKEN"):
        OpsServer(host, 0, process="api", readiness=lambda: Readiness(ready=True))
    OpsServer(host, 0, process="api", readiness=lambda: Readiness(ready=True), token=TOKEN)


def test_a_short_token_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 16"):
        OpsServer("127.0.0.1", 0, process="api", readiness=lambda: Readiness(ready=True), token="short")


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""))
