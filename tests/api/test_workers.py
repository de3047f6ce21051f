"""Several API processes on one port are one API to everybody: its clients, its operations port, its supervisor."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from random import Random

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.settings import Settings
from api.workers import Workers
from shared.lifecycle import Stop
from shared.settings import SettingsError, load
from shared.telemetry.merged_metrics import merged
from tests.api.conftest import ApiProcess, api_environment, http_client, token

PATH = "/api/v1/devices/truck-7/events"


def children(pid: int) -> set[int]:
    return {int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()}


@pytest.mark.processes
async def test_two_processes_share_the_port_one_that_dies_is_started_again_and_all_leave_together(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    api = ApiProcess(api_environment(database_url, redis_url, FLEETWIRE_API_WORKERS=2), tmp_path / "api.log")
    ops = f"http://127.0.0.1:{api.environment['FLEETWIRE_OPS_PORT']}"
    await api.start()
    assert api.process is not None
    try:
        await api.ready()
        async with http_client(timeout=10) as client:

            async def ready_workers() -> list[int]:
                answer = await client.get(f"{ops}/ready")
                return list(answer.json()["detail"]["ready"])

            async def until_both_are_ready() -> None:
                async with asyncio.timeout(30):
                    while await ready_workers() != [1, 2]:
                        await asyncio.sleep(0.05)

            await until_both_are_ready()
            first = children(api.process.pid)
            assert len(first) == 2

            async def ask_on_a_connection_of_its_own() -> int:
                async with http_client(timeout=15, headers={"Authorization": f"Bearer {token('truck-7')}"}) as one:
                    return (await one.get(api.url + PATH)).status_code

            assert [await ask_on_a_connection_of_its_own() for _ in range(16)] == [200] * 16
            page = (await client.get(f"{ops}/metrics")).text
            served = {
                sample.labels["worker"]: sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if sample.name == "fleetwire_api_requests_total" and sample.labels["route"].endswith("/events")
            }
            assert sum(served.values()) == 16
            assert set(served) == {"1", "2"}, "the kernel spreads connections"

            os.kill(min(first), signal.SIGKILL)
            # Those that the kernel gives to the one that is gone wait until it is there again.
            assert await asyncio.gather(*(ask_on_a_connection_of_its_own() for _ in range(8))) == [200] * 8
            await until_both_are_ready()
            assert len(children(api.process.pid) - first) == 1

        assert await api.end(signal.SIGTERM) == 0, api.log.read_text()
        assert not any(Path(f"/proc/{pid}").exists() for pid in first)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", int(api.environment["FLEETWIRE_API_PORT"])))
    finally:
        if api.process.returncode is None:
            await api.end(signal.SIGKILL)


def parent_of(environment: dict[str, str], **children_only: str) -> Workers:
    """A parent in this loop, whose children see more than it does."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    settings = load(Settings, environment)
    return Workers(settings, inherited | environment | children_only, Random(1), stuck_s=1.5)


async def ready_among(ops_url: str) -> list[int]:
    async with http_client(timeout=5) as client:
        try:
            return list((await client.get(f"{ops_url}/ready")).json()["detail"]["ready"])
        except httpx.TransportError:
            return []


@pytest.mark.processes
async def test_a_process_whose_loop_stands_still_is_replaced(database_url: str, redis_url: str) -> None:
    environment = api_environment(database_url, redis_url, FLEETWIRE_API_WORKERS=2)
    ops = f"http://127.0.0.1:{environment['FLEETWIRE_OPS_PORT']}"
    stop = Stop()
    running = asyncio.create_task(parent_of(environment).run(stop))
    async with asyncio.timeout(60):
        while await ready_among(ops) != [1, 2]:
            await asyncio.sleep(0.05)
        stuck = min(children(os.getpid()) & api_processes())
        os.kill(stuck, signal.SIGSTOP)
        while Path(f"/proc/{stuck}").exists():
            await asyncio.sleep(0.05)
        while await ready_among(ops) != [1, 2]:
            await asyncio.sleep(0.05)
        stop.request("test")
        assert await running == 0


@pytest.mark.processes
async def test_a_process_that_cannot_run_ends_the_parent_too(database_url: str, redis_url: str) -> None:
    environment = api_environment(database_url, redis_url, FLEETWIRE_API_WORKERS=2)
    stop = Stop()
    async with asyncio.timeout(40):
        assert await parent_of(environment, FLEETWIRE_TOKEN_KEYS="none").run(stop) == 1
    assert stop.reason == "an api process cannot be kept running"


def api_processes() -> set[int]:
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and b"-m\0api" in _command_line(entry)
    }


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.processes
async def test_a_port_that_is_taken_is_named_with_its_setting_and_nothing_is_started(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    api = ApiProcess(api_environment(database_url, redis_url, FLEETWIRE_API_WORKERS=2), tmp_path / "api.log")
    with socket.create_server(("127.0.0.1", int(api.environment["FLEETWIRE_API_PORT"]))):
        await api.start()
        assert api.process is not None
        async with asyncio.timeout(20):
            assert await api.process.wait() == 1
    assert "FLEETWIRE_API_PORT" in api.log.read_text()


def test_pages_of_metrics_are_merged_with_every_sample_told_apart() -> None:
    counted = '# HELP jobs_total Jobs.\n# TYPE jobs_total counter\njobs_total{kind="a"} %d.0\n'
    buckets = 'took_bucket{le="1.0"} 1.0\ntook_bucket{le="+Inf"} 1.0\ntook_count 1.0\ntook_sum 0.5\n'
    timed = f"# HELP took Took.\n# TYPE took histogram\n{buckets}"
    page = merged({"1": counted % 3 + timed, "2": counted % 4}).decode()
    lines = set(page.splitlines())
    assert {
        'jobs_total{kind="a",worker="1"} 3.0',
        'jobs_total{kind="a",worker="2"} 4.0',
        "# TYPE jobs_total counter",
        'took_bucket{le="+Inf",worker="1"} 1.0',
        'took_sum{worker="1"} 0.5',
    } <= lines
    assert page.count("# TYPE jobs_total counter") == 1
    assert merged({}) == b""


def test_an_unknown_worker_variable_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_API_WORKER='many'"):
        load(Settings, api_environment("postgresql://h/d", "redis://h", FLEETWIRE_API_WORKER="many"))
