import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import (
    ApiProcess,
    RunningApi,
    StartApi,
    api_environment,
    http_client,
    oct_key_set,
    problem,
    token,
    until_ready,
)
from tests.servers import ServerProcess

PATH = "/api/v1/devices/truck-7/events"


@pytest.fixture
async def process(database_url: str, redis_url: str, tmp_path: Path) -> object:
    made: list[ApiProcess] = []

    def make(**more: object) -> ApiProcess:
        made.append(ApiProcess(api_environment(database_url, redis_url, **more), tmp_path / f"api-{len(made)}.log"))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.returncode is None:
            await one.end(signal.SIGKILL)


@pytest.mark.processes
async def test_sigterm_ends_long_polls_with_an_empty_page_and_the_process_with_0(
    process: Callable[..., ApiProcess],
) -> None:
    api = process(FLEETWIRE_LOG_FORMAT="json")
    await api.start()
    await api.ready()
    bearer = {"Authorization": f"Bearer {token('truck-7')}"}
    async with http_client(base_url=api.url, headers=bearer, timeout=30) as client:
        polls = [asyncio.create_task(client.get(PATH, params={"wait": "25"})) for _ in range(3)]
        ops = f"http://127.0.0.1:{api.environment['FLEETWIRE_OPS_PORT']}/metrics"
        async with asyncio.timeout(10):
            while "fleetwire_api_long_polls 3.0" not in (await client.get(ops)).text:
                await asyncio.sleep(0.01)
        began = time.monotonic()
        status = await api.end(signal.SIGTERM)
        pages = [(await poll) for poll in polls]
    assert status == 0
    assert time.monotonic() - began < 5
    assert [page.json()["events"] for page in pages] == [[], [], []]
    assert {page.headers["connection"] for page in pages} == {"close"}
    lines = [json.loads(line) for line in api.log.read_text().splitlines()]
    assert all({"event", "level", "time", "process"} <= line.keys() for line in lines)
    requests = [line for line in lines if line["event"] == "request" and line["route"].endswith("/events")]
    assert {line["request_id"] for line in requests} == {page.headers["x-request-id"] for page in pages}
    assert {line["device_id"] for line in requests} == {"truck-7"}
    assert bearer["Authorization"][7:] not in api.log.read_text()


async def test_while_postgres_is_away_the_api_says_so_and_comes_back(
    start_api: StartApi, postgres_server: Callable[[], ServerProcess]
) -> None:
    postgres = postgres_server()
    api = await start_api(FLEETWIRE_DATABASE_URL=postgres.url)
    device = api.device("truck-7")
    assert (await device.get(PATH)).status_code == 200
    poll = asyncio.create_task(api.device("truck-7").get(PATH, params={"wait": "4"}))
    await asyncio.sleep(0)
    postgres.kill()
    for request in (
        device.get(PATH),
        device.post(PATH.replace("events", "acks"), json={"position": "1:0"}),
        device.get(PATH.replace("events", "connection")),
        device.get(PATH.replace("events", "responses")),
        api.service.post("/api/v1/events", json={"events": [{"device_id": "truck-7", "type": "T", "data": {}}]}),
    ):
        answer = await request
        problem(answer, 503, "unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 5
    await until_ready(api, ready=False)
    assert (await device.get("/health")).status_code == 200
    assert (await poll).status_code in (200, 503)
    postgres.launch()
    await postgres.wait_ready()
    await until_ready(api)
    assert (await device.get(PATH)).status_code == 200


async def test_it_starts_before_postgres_and_is_ready_once_that_is_there(
    start_api: StartApi, postgres_server: Callable[[], ServerProcess]
) -> None:
    postgres = postgres_server()
    postgres.kill()
    api = await start_api(wait=False, FLEETWIRE_DATABASE_URL=postgres.url)
    async with asyncio.timeout(10), http_client() as client:
        while True:
            try:
                answer = await client.get(f"{api.ops_url}/ready")
            except httpx.TransportError:
                await asyncio.sleep(0.01)
                continue
            if answer.json()["reasons"] == ["the database is not there yet"]:
                break
            await asyncio.sleep(0.01)
    postgres.launch()
    await postgres.wait_ready()
    await until_ready(api)


async def test_a_stop_while_it_waits_for_postgres_is_heard(start_api: StartApi) -> None:
    api = await start_api(wait=False, FLEETWIRE_DATABASE_URL="postgresql://u:p@127.0.0.1:1/none")
    await asyncio.sleep(0)
    assert await api.leave() == 0


async def test_a_busy_port_is_named_with_the_setting_that_moves_it(start_api: StartApi, api: RunningApi) -> None:
    second = await start_api(wait=False, FLEETWIRE_API_PORT=api.settings.port)
    with pytest.raises(OSError, match=rf"{api.settings.port}.*FLEETWIRE_API_PORT"):
        await second.task


def run_main(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api"],
        env={"PATH": "/usr/bin"} | environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_all_wrong_settings_are_said_at_once_and_no_secret_with_them() -> None:
    good = api_environment("postgresql://u:pass-word@h/d", "redis://h")
    ended = run_main(
        good | {"FLEETWIRE_API_PORT": "x", "FLEETWIRE_PROXY_URL": "http://p", "FLEETWIRE_DATABASE_URL": "u:hush"}
    )
    assert ended.returncode == 2
    assert "FLEETWIRE_API_PORT='x'" in ended.stderr
    assert "FLEETWIRE_PROXY_URL" in ended.stderr
    assert "FLEETWIRE_DATABASE_URL" in ended.stderr
    assert "hush" not in ended.stderr


def test_ticket_keys_without_a_private_one_are_refused_at_the_start() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from jwt.algorithms import OKPAlgorithm

    public = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key()))
    keys = json.dumps({"keys": [public | {"kid": "t", "alg": "EdDSA"}]})
    ended = run_main(api_environment("postgresql://h/d", "redis://h") | {"FLEETWIRE_TICKET_KEYS": keys})
    assert ended.returncode == 2
    assert "FLEETWIRE_TICKET_KEYS_FILE holds no private key" in ended.stderr
    assert oct_key_set("x") != keys
