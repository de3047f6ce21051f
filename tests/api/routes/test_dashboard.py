"""The operators' page: signing in, what a session may do, and the live stream."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from api.routes.dashboard import DEVICES_MAX
from shared.store import devices, hubs
from shared.store.hubs import HubRow
from shared.store.pool import Pool
from shared.telemetry.health import OpsServer, Readiness
from tests.api.conftest import RING, RunningApi, StartApi, record, token
from tests.waiting import until

SESSION = "/api/v1/dashboard/session"
LIVE = "/api/v1/dashboard/live"
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Site": "none"}
QUICK = {"FLEETWIRE_DASHBOARD_PERIOD_S": 0.05}


async def signed_in(api: RunningApi, bearer: str | None = None) -> httpx.AsyncClient:
    client = api.client()
    answer = await client.post(SESSION, json={"token": bearer or token("olga", "operator")})
    assert answer.status_code == 200, answer.text
    client.headers["X-CSRF-Token"] = answer.json()["csrf"]
    return client


@asynccontextmanager
async def stream(client: httpx.AsyncClient, **query: str) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    async with client.stream("GET", LIVE, params=query) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")

        async def events() -> AsyncIterator[tuple[str, Any]]:
            kind = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, orjson.loads(line.removeprefix("data: "))

        async with asyncio.timeout(15):
            yield events()


async def test_browsers_get_the_page_and_others_the_paths(api: RunningApi) -> None:
    client = api.client()
    page = await client.get("/", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (await client.get("/")).json()["service"] == "fleetwire api"
    assert (await client.get("/", headers=BROWSER | {"If-None-Match": page.headers["etag"]})).status_code == 304


async def test_every_file_of_the_page_is_there_may_be_kept_for_good_and_holds_no_markup_for_scripts(
    api: RunningApi,
) -> None:
    client = api.client()
    page = (await client.get("/", headers=BROWSER)).text
    assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son\w+=", page), "the policy refuses what stands in the page"
    named = set(re.findall(r'(?:href|src)="(/dashboard/[^"]+)"', page))
    assert len(named) >= 5
    for path in named:
        answer = await client.get(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
        assert "innerHTML" not in answer.text
        for imported in re.findall(r'from "\./([^"]+)"', answer.text):
            assert (await client.get(f"{path.rpartition('/')[0]}/{imported}")).status_code == 200, imported
    folder = next(iter(named)).rpartition("/")[0]
    assert (await client.get(f"{folder}/index.html")).status_code == 404
    assert (await client.get("/dashboard/0000000000000000/app.js")).status_code == 404


async def test_a_session_is_a_cookie_that_no_script_sees_and_does_what_operators_do(api: RunningApi) -> None:
    client = await signed_in(api)
    [cookie] = client.cookies.jar
    rest = cookie._rest  # type: ignore[attr-defined]
    assert ("HttpOnly" in rest, rest["SameSite"], cookie.path, cookie.secure) == (True, "Strict", "/", False)
    assert (await client.get("/api/v1/queues")).status_code == 200
    assert (await client.get(SESSION)).json()["subject"] == "olga"
    assert (await client.delete(SESSION)).status_code == 204
    assert not list(client.cookies.jar)
    assert (await client.get("/api/v1/queues")).status_code == 401
    assert (await client.get(SESSION)).json() == {"subject": None}


async def test_away_from_this_machine_the_cookie_travels_by_tls_only(start_api: StartApi) -> None:
    api = await start_api(FLEETWIRE_DASHBOARD_SECURE="on")
    answer = await api.client().post(SESSION, json={"token": token("olga", "operator")})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-fleetwire=")
    assert "; Secure" in cookie


async def test_only_operators_sign_in(api: RunningApi) -> None:
    client = api.client()
    for bearer, status in (
        (token("truck-7"), 403),
        (token("billing", "service"), 403),
        (token("olga", "operator", lifetime_s=-1), 401),
        ("nonsense", 401),
    ):
        answer = await client.post(SESSION, json={"token": bearer})
        assert (answer.status_code, answer.headers.get("set-cookie")) == (status, None)
        assert bearer not in answer.text


async def test_who_fails_to_sign_in_too_often_has_to_wait(api: RunningApi) -> None:
    client = api.client()
    answers = [await client.post(SESSION, json={"token": "nonsense"}) for _ in range(12)]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_what_changes_something_needs_the_csrf_token_and_our_own_page(api: RunningApi) -> None:
    client = await signed_in(api)
    path, body = "/api/v1/devices/truck-7", {"class": "truck"}
    assert (await client.put(path, json=body)).status_code == 201
    for headers in ({"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await client.put(path, json=body, headers=headers)).status_code == 403, headers
    for headers in ({"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "same-site"}):
        assert (await client.get("/api/v1/queues", headers=headers)).status_code == 403, headers
    assert (await client.get("/api/v1/queues", headers={"Origin": api.url})).status_code == 200


async def test_no_log_line_holds_the_token_or_the_session(api: RunningApi) -> None:
    bearer = token("olga", "operator")
    with capture_logs() as lines:
        client = await signed_in(api, bearer)
        await client.get("/api/v1/queues")
    said = str(lines)
    assert "/api/v1/dashboard/session" in said
    assert bearer not in said
    assert str(next(iter(client.cookies.jar)).value) not in said
    assert client.headers["X-CSRF-Token"] not in said


async def test_another_sites_page_cannot_sign_somebody_in(api: RunningApi) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    answer = await api.client().post(SESSION, json={"token": token("olga", "operator")}, headers=headers)
    assert answer.status_code == 403


async def test_a_session_ends_with_the_token_that_it_was_made_from(api: RunningApi) -> None:
    bearer = RING.mint(
        subject="olga", scopes=frozenset({"operator"}), now=time.time(), lifetime_s=600, token_id="token-of-olga"
    )
    client = await signed_in(api, bearer)
    assert (await client.get("/api/v1/queues")).status_code == 200
    revoked = await api.operator.post(
        "/api/v1/revocations",
        json={
            "token_id": "token-of-olga",
            "subject": "olga",
            "reason": "left",
            "expires_at": "2030-01-01T00:00:00Z",
        },
    )
    assert revoked.status_code in (200, 201), revoked.text
    assert (await client.get("/api/v1/queues")).status_code == 401
    assert (await client.get(SESSION)).json() == {"subject": None}


async def test_a_session_does_nothing_that_only_devices_may(api: RunningApi) -> None:
    client = await signed_in(api)
    assert (await client.get("/api/v1/devices/truck-7/connection")).status_code in (401, 403)


async def test_a_live_page_gets_the_whole_and_then_what_changes(start_api: StartApi, pool: Pool) -> None:
    api = await start_api(**QUICK)
    await devices.ensure(pool, "truck-7", "truck")
    await record(pool, "truck-7", "a", "b")
    await hubs.heartbeat(pool, HubRow("hub-1", "run", "ws://127.0.0.1:1", 3, 500, draining=False))
    client = await signed_in(api)
    async with stream(client, devices="truck-7,truck-8") as events:
        kind, first = await anext(events)
        assert kind == "whole"
        hub, device = first["set"]["hub/hub-1"], first["set"]["dev/truck-7"]
        assert (hub["connections"], hub["slots"], hub["state"]) == (3, 1024, "unasked")
        assert (device["head"], device["lag"], device["hub"]) == (2, 2, None)
        assert "dev/truck-8" not in first["set"]
        await record(pool, "truck-7", "c")
        async for kind, changed in events:
            assert kind == "patch"
            assert "hub/hub-1" not in changed["set"], "it stands still"
            if "dev/truck-7" in changed["set"]:
                assert changed["set"]["dev/truck-7"]["head"] == 3
                break


async def test_live_pages_are_few_and_ours(start_api: StartApi) -> None:
    api = await start_api(**QUICK, FLEETWIRE_DASHBOARD_VIEWERS_MAX=1)
    client = await signed_in(api)
    assert (await api.device("truck-7").get(LIVE)).status_code == 403
    assert (await api.client().get(LIVE)).status_code == 401
    for named in ("Truck", ",".join(["truck"] * (DEVICES_MAX + 1))):
        assert (await client.get(LIVE, params={"devices": named})).status_code == 400
    async with stream(client):
        refused = await client.get(LIVE)
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:fleetwire:problem:too-many-waiting")

    async def has_room() -> bool:
        return await _status(client) != 503

    async def looked() -> httpx.Response | None:
        answer = await client.head(LIVE)
        return answer if answer.is_success else None

    await until(has_room, "the one that left is noticed")
    answer = await until(looked, "who asks with HEAD only is no viewer")
    assert answer.headers["content-type"].startswith("text/event-stream")


async def _status(client: httpx.AsyncClient) -> int:
    async with client.stream("GET", LIVE) as answer:
        return answer.status_code


async def test_a_stream_ends_after_its_time_and_with_the_process(start_api: StartApi) -> None:
    brief = await start_api(**QUICK, FLEETWIRE_DASHBOARD_STREAM_S=1)
    async with stream(await signed_in(brief)) as events:
        kinds = [kind async for kind, _ in events]
    assert kinds[0] == "whole"
    api = await start_api(**QUICK)
    async with stream(await signed_in(api)) as events:
        await anext(events)
        leaving = asyncio.create_task(api.leave())
        async for _ in events:
            pass
        assert await leaving == 0


async def test_nothing_is_read_while_nobody_looks(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.dashboard.reader.REST_AFTER_S", 0.1)
    read: list[float] = []

    async def noted(pool: Pool) -> list[Any]:
        read.append(time.monotonic())
        return []

    monkeypatch.setattr("api.dashboard.reader.fleet_view.hubs", noted)
    api = await start_api(**QUICK)
    async with stream(await signed_in(api)) as events:
        await anext(events)
    async with asyncio.timeout(10):
        while time.monotonic() - read[-1] < 0.7:  # a round comes every twentieth of a second while somebody looks
            await asyncio.sleep(0.05)


async def test_who_looks_is_told_that_nothing_could_be_read_and_sees_it_end(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.dashboard.reader.ROUND_S", 1.0)
    monkeypatch.setattr("api.dashboard.reader.REST_AFTER_S", 0.1)
    reads = 0

    async def hangs_once(pool: Pool) -> list[Any]:
        nonlocal reads
        reads += 1
        if reads == 2:
            await asyncio.sleep(60)
        return []

    monkeypatch.setattr("api.dashboard.reader.fleet_view.hubs", hangs_once)
    seen: list[bool] = []
    async with stream(await signed_in(await start_api(**QUICK))) as events:
        async for _, changed in events:
            if "store" in changed["set"]:
                seen.append(changed["set"]["store"]["ok"])
            if seen[-2:] == [False, True]:
                break
    assert reads > 2


async def test_a_hub_that_answers_nonsense_is_shown_as_that_and_nothing_else_suffers(
    start_api: StartApi, pool: Pool
) -> None:
    async def look(request: Request) -> Response:
        return JSONResponse({"phase": ["open"]})

    ops = OpsServer(
        "127.0.0.1",
        0,
        process="hub",
        readiness=lambda: Readiness(True),
        routes=[Route("/control/look", look, methods=["POST"])],
    )
    await ops.start()
    try:
        url = f"http://127.0.0.1:{ops.port}"
        await hubs.heartbeat(pool, HubRow("hub-1", "run", "ws://h", 3, 500, draining=False, ops_url=url))
        async with stream(await signed_in(await start_api(**QUICK))) as events:
            _, first = await anext(events)
        hub = first["set"]["hub/hub-1"]
        assert (hub["state"], hub["connections"]) == ("unasked", 3)
        assert "cannot be read" in hub["why"][0]
    finally:
        await ops.close()
