"""Limits as callers meet them: what passes, what the answers say, and what holds while Redis is away."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import MappingProxyType

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from api.problems import Problem
from api.rate_limiter import RateLimiter
from loadtests.ports import free_port
from shared.bus.redis_client import LazyRedis
from shared.bus.token_buckets import TokenBuckets
from shared.clock import monotonic
from shared.rate_limits import Limits
from shared.tokens import Claims
from tests.api.conftest import RunningApi, StartApi, problem, token
from tests.conftest import ServerFactory

# One token in many seconds: none comes while a test runs.
LIMITS = Limits(MappingProxyType({"truck": 6}), device=0, operator=4, service=0, all_per_s=0)


def device(name: str, device_class: str = "truck") -> Claims:
    return Claims(name, frozenset({"device"}), device_class, 0.0, "k")


@asynccontextmanager
async def limiter(
    url: str, limits: Limits | None = LIMITS, *, instances: Callable[[], int] = lambda: 1, deadline_s: float = 5.0
) -> AsyncIterator[RateLimiter]:
    redis = LazyRedis(url, deadline_s=deadline_s, ask_s=deadline_s)
    made = RateLimiter(
        limits,
        TokenBuckets(redis, deadline_s=deadline_s),
        instances=instances,
        probe_s=0.05,
        rand=random.Random(1),
        clock=lambda: 0.0,
    )
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await redis.aclose()


async def passed(one: RateLimiter, claims: Claims, count: int, cost: float = 1) -> int:
    async def passes() -> bool:
        try:
            await one.spend(claims, cost)
        except Problem as refused:
            return refused.slug != "rate-limited"
        return True

    return sum(await asyncio.gather(*[passes() for _ in range(count)]))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_calls_at_once_are_counted_one_by_one_and_each_caller_has_a_bucket_of_its_own(redis_url: str) -> None:
    async with limiter(redis_url) as one:
        assert await passed(one, device("a"), 20) == 6
        assert await passed(one, device("b"), 6) == 6
        assert await passed(one, Claims("a", frozenset({"operator"}), None, 0.0, "k"), 9) == 4
        assert not one.is_local


async def test_without_limits_or_without_a_figure_nobody_is_asked() -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    async with limiter(nowhere, None) as off:
        assert await passed(off, device("a"), 50) == 50
        assert not off.is_local
    async with limiter(nowhere) as on:
        assert await passed(on, device("a", "office"), 50) == 50
        assert await passed(on, device("a"), 50, cost=0) == 50
        assert not on.is_local


async def test_while_redis_is_away_each_instance_enforces_its_share_and_goes_back_by_itself(
    valkey_server: ServerFactory,
) -> None:
    server = valkey_server()
    async with limiter(server.url, instances=lambda: 2) as one, limiter(server.url, instances=lambda: 2) as two:
        assert await passed(one, device("a"), 2) + await passed(two, device("a"), 2) == 4
        server.kill()
        with capture_logs() as lines:
            assert await passed(one, device("b"), 10) == 3
            assert await passed(two, device("b"), 10) == 3
        assert [line["event"] for line in lines].count("rate limits are kept by each instance: Redis is away") == 2
        assert one.is_local
        server.launch()
        await until(lambda: not (one.is_local or two.is_local))
        assert await passed(one, device("c"), 4) + await passed(two, device("c"), 4) == 6


async def test_losing_redis_gives_nobody_a_bucket_anew(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with limiter(server.url) as one:
        assert await passed(one, device("a"), 10) == 6
        assert await passed(one, device("b"), 1) == 1
        server.kill()
        assert await passed(one, device("a"), 10) == 0
        assert await passed(one, device("b"), 10) == 6
        server.launch()
        await until(lambda: not one.is_local)
        assert await passed(one, device("b"), 6) == 6
        server.kill()
        assert await passed(one, device("b"), 10) == 0


async def test_a_redis_that_hangs_costs_one_wait_and_then_none(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with limiter(server.url, deadline_s=0.3) as one:
        await one.start()
        server.pause()
        assert await passed(one, device("a"), 10) == 6
        assert one.is_local
        # Nothing of this waits: it is done in one turn of the loop.
        asked = asyncio.ensure_future(one.spend(device("b"), 1))
        await asyncio.sleep(0)
        assert asked.done()
        assert await asked
        server.resume()


async def test_ten_thousand_callers_and_more_are_remembered_as_ten_thousand() -> None:
    async with limiter(f"redis://127.0.0.1:{free_port()}", deadline_s=1.0) as one:
        await one.start()
        assert one.is_local
        for number in range(10_050):
            await one.spend(device(f"d{number}"), 1)
        assert len(one.local) == 10_000


async def limited(start_api: StartApi, **more: object) -> RunningApi:
    return await start_api(
        FLEETWIRE_API_RATE_LIMITS="on",
        FLEETWIRE_API_RATE_REDIS_S=5,
        FLEETWIRE_API_RATE_CLASSES="truck=50,van=120",
        FLEETWIRE_API_INSTANCE_S=0.6,
        **more,
    )


def truck(api: RunningApi, device_id: str = "truck-7", device_class: str = "truck") -> httpx.AsyncClient:
    return api.client(token(device_id, device_class=device_class))


def as_many_as_one_bucket(passed: int, began: float) -> bool:
    """On a busy machine tokens come in while the calls are made."""
    return 50 <= passed <= 51 + (monotonic() - began) * 50 / 60


async def test_a_bucket_full_passes_at_once_and_the_next_succeeds_when_it_does_as_told(start_api: StartApi) -> None:
    api = await limited(start_api)
    client = truck(api)
    path, began = "/api/v1/devices/truck-7/responses", monotonic()
    answers = await asyncio.gather(*[client.get(path) for _ in range(60)])
    good = [answer for answer in answers if answer.status_code == 200]
    assert as_many_as_one_bucket(len(good), began)
    refused = min(
        (answer for answer in answers if answer.status_code != 200),
        key=lambda answer: int(answer.headers["retry-after"]),
    )
    for answer in good:
        assert answer.headers["ratelimit-policy"] == '"truck";q=50;w=60'
        assert answer.headers["ratelimit"].startswith('"truck";r=')
    body = problem(refused, 429, "rate-limited")
    assert body["limit"] == "truck"
    assert body["violated-policies"] == ["truck"]
    after = int(refused.headers["retry-after"])
    assert refused.headers["ratelimit"] in {f'"truck";r=0;t={t}' for t in range(after + 1)}
    assert 1 <= after <= 3
    await asyncio.sleep(after)
    assert (await client.get(path)).status_code == 200


async def test_two_instances_count_together_in_redis(start_api: StartApi) -> None:
    first, second = await limited(start_api), await limited(start_api)
    began = monotonic()
    answers = await asyncio.gather(
        *[truck(api).get("/api/v1/devices/truck-7/responses") for api in (first, second) * 40]
    )
    assert as_many_as_one_bucket(sum(answer.status_code == 200 for answer in answers), began)


async def test_an_ack_costs_a_fifth_and_health_and_refused_tokens_cost_nothing(start_api: StartApi) -> None:
    api = await limited(start_api)
    client = truck(api)
    ack = await client.post("/api/v1/devices/truck-7/acks", json={"position": "1:0"})
    assert ack.headers["ratelimit"] == '"truck";r=49;t=1'
    for path in ("/health", "/ready", "/"):
        assert "ratelimit" not in (await api.client().get(path)).headers
    refused = await api.client("nonsense").get("/api/v1/devices/truck-7/responses")
    assert refused.status_code == 401
    assert "ratelimit" not in refused.headers
    other = await client.get("/api/v1/devices/truck-8/responses")
    assert other.status_code == 403
    assert "ratelimit" not in other.headers


async def test_what_fails_later_says_what_is_left_too(start_api: StartApi) -> None:
    api = await limited(start_api)
    answer = await truck(api).get("/api/v1/devices/truck-7/responses?limit=0")
    problem(answer, 400, "invalid-parameter")
    assert answer.headers["ratelimit"].startswith('"truck";r=49')


async def test_all_together_have_a_limit_too(start_api: StartApi) -> None:
    api = await limited(start_api, FLEETWIRE_API_RATE_ALL_PER_S=2)
    answers = await asyncio.gather(
        *[truck(api, f"truck-{n}").get(f"/api/v1/devices/truck-{n}/responses") for n in range(12)]
    )
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    assert problem(refused[0], 429, "rate-limited")["limit"] == "global"
    assert refused[0].headers["ratelimit"].startswith('"truck";r=50')
    assert int(refused[0].headers["retry-after"]) >= 1


async def test_with_redis_stopped_two_instances_let_through_what_one_bucket_would(
    start_api: StartApi, valkey_server: ServerFactory, sql: asyncpg.Connection
) -> None:
    server = valkey_server()
    apis = [await limited(start_api, FLEETWIRE_REDIS_URL=server.url) for _ in range(2)]
    both_there = await sql.fetchval("SELECT clock_timestamp() + interval '0.2 s'")
    async with asyncio.timeout(20):
        while await sql.fetchval("SELECT min(heartbeat_at) FROM api_instances") < both_there:
            await asyncio.sleep(0.02)
    server.kill()
    began = monotonic()
    answers = await asyncio.gather(*[truck(api).get("/api/v1/devices/truck-7/responses") for api in apis * 40])
    assert as_many_as_one_bucket(sum(answer.status_code == 200 for answer in answers), began)
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert problem(refused, 429, "rate-limited")["limit"] == "truck"
    assert refused.headers["ratelimit-policy"] == '"truck";q=50;w=60'


@pytest.mark.parametrize("raw", ["truck", "truck=50,truck=60", "Truck=5", "truck=-1", "truck=x", "truck=50,"])
async def test_classes_are_checked(start_api: StartApi, raw: str) -> None:
    with pytest.raises(ValueError, match="FLEETWIRE_API_RATE_CLASSES"):
        await start_api(FLEETWIRE_API_RATE_CLASSES=raw)
