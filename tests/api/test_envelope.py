import asyncio
from random import Random

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from structlog.testing import capture_logs

from api.envelope import Envelope
from shared.store.errors import NotMigrated, StoreUnavailable
from tests.api.conftest import RunningApi, problem, token


class Stage:
    """An envelope around one path whose answer the test decides."""

    def __init__(self, *, in_flight_max: int = 10) -> None:
        self.fails: Exception | None = None
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.parked = 0
        self.envelope = Envelope(
            Router([Route("/thing", self.thing)], redirect_slashes=False),
            in_flight_max=in_flight_max,
            parked=lambda: self.parked,
            rand=Random(1),
        )

    async def thing(self, request: Request) -> Response:
        del request
        self.entered.set()
        await self.go_on.wait()
        if self.fails:
            raise self.fails
        return PlainTextResponse("done")

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.envelope), base_url="http://api")


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (RuntimeError("secret detail"), 500, "internal-error"),
        (StoreUnavailable("at 10.0.0.5"), 503, "unavailable"),
        (NotMigrated(), 503, "unavailable"),
    ],
)
async def test_what_went_wrong_inside_is_logged_and_not_told(error: Exception, status: int, slug: str) -> None:
    stage = Stage()
    stage.fails = error
    with capture_logs() as lines:
        async with stage.client() as client:
            answer = await client.get("/thing")
    problem(answer, status, slug)
    assert "secret" not in answer.text
    assert "10.0.0.5" not in answer.text
    assert ("retry-after" in answer.headers) is (status == 503)
    assert [line["event"] for line in lines][-1] == "request"
    assert len(lines) == 2


async def test_above_the_bound_requests_are_sent_away_and_parked_ones_do_not_count() -> None:
    stage = Stage(in_flight_max=1)
    stage.go_on.clear()
    async with stage.client() as client:
        first = asyncio.create_task(client.get("/thing"))
        await stage.entered.wait()
        refused = await client.get("/thing")
        problem(refused, 503, "unavailable")
        assert refused.headers["connection"] == "close"
        stage.parked = 1
        stage.go_on.set()
        assert (await client.get("/thing")).text == "done"
        assert (await first).text == "done"
    assert stage.envelope.in_flight == 0


async def test_a_leaving_process_sends_the_next_request_elsewhere() -> None:
    stage = Stage()
    async with stage.client() as client:
        assert "connection" not in (await client.get("/thing")).headers
        stage.envelope.leaving = True
        answer = await client.get("/thing")
    assert (answer.text, answer.headers["connection"]) == ("done", "close")


async def test_each_request_has_one_line_with_its_id_template_and_duration() -> None:
    stage = Stage()
    with capture_logs() as lines:
        async with stage.client() as client:
            await client.get("/thing", headers={"X-Request-ID": "mine-1"})
            await client.get("/nothing/here/../" + "x" * 100)
    assert [(line["event"], line["status"]) for line in lines] == [("request", 200), ("request", 404)]
    assert all(line["duration_ms"] >= 0 for line in lines)
    assert "xxx" not in str(lines)


async def test_connecting_and_fetching_files_are_logged_when_they_go_wrong(api: RunningApi) -> None:
    device = api.device("truck-7")
    with capture_logs() as lines:
        await device.get("/api/v1/devices/truck-7")
        await device.get("/api/v1/files/none")
        await device.get("/")
    levels = [(line["route"], line["log_level"]) for line in lines if line["event"] == "request"]
    assert levels == [
        ("/api/v1/devices/{device_id}", "info"),
        ("/api/v1/files/{file_id}", "info"),
        ("/", "debug"),
    ]


async def test_errors_of_the_server_itself_are_problems_too(api: RunningApi) -> None:
    device = api.device("truck-7")
    assert (await device.get("/")).json()["paths"] == ["/health", "/ready", "/docs", "/api/v1/"]
    problem(await device.get("/api"), 404, "not-found")
    problem(await device.get("/api/v1/devices/truck-7"), 403, "forbidden")
    problem(await device.get("/api/v1/nothing"), 404, "not-found")
    answer = await device.delete("/api/v1/devices/truck-7/acks")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    answer = await device.request("BREW", "/api/v1/devices/truck-7")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, PUT"
    answer = await device.post("/api/v1/devices/truck-7/acks", content=b"x")
    problem(answer, 415, "unsupported-media-type")
    answer = await device.post("/api/v1/devices/truck-7/acks", json={"position": "1:" + "0" * 5000})
    problem(answer, 413, "too-large")


async def test_a_trailing_slash_makes_no_difference(api: RunningApi) -> None:
    device = api.device("truck-7")
    one = await device.get("/api/v1/devices/truck-7/events")
    other = await device.get("/api/v1/devices/truck-7/events/")
    assert one.json() == other.json()
    assert (await device.post("/api/v1/devices/truck-7/acks/", json={"position": "1:0"})).status_code == 200
    problem(await device.get("/api/v1/devices/truck-7/events//"), 404, "not-found")


async def test_the_request_id_is_the_clients_if_sane_else_a_new_one(api: RunningApi) -> None:
    assert (await api.client().get("/health", headers={"X-Request-ID": "truck-7.42"})).headers[
        "x-request-id"
    ] == "truck-7.42"
    ids = {
        (await api.client().get("/health", headers={"X-Request-ID": "not sane"})).headers["x-request-id"] for _ in "ab"
    }
    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)


async def test_nothing_is_cached_or_sniffed(api: RunningApi) -> None:
    answer = await api.device("truck-7").get("/api/v1/devices/truck-7/events")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers


async def test_the_public_health_paths_say_a_word_and_no_more(api: RunningApi) -> None:
    for path, word in (("/health", "ok"), ("/ready", "ready")):
        answer = await api.client().get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": word})


async def test_metrics_name_templates_and_never_paths(api: RunningApi) -> None:
    device = api.client(token("truck-metric"))
    await device.get("/api/v1/devices/truck-metric/events")
    await device.get("/wp-admin/secret-path")
    await device.request("BREW", "/health")
    metrics = (await device.get(f"{api.ops_url}/metrics")).text
    route = "/api/v1/devices/{device_id}/events"
    assert f'fleetwire_api_requests_total{{client="device",method="GET",route="{route}",status="200"}}' in metrics
    assert 'fleetwire_api_requests_total{client="nobody",method="GET",route="unmatched",status="404"}' in metrics
    assert 'method="other",route="/health",status="405"' in metrics
    assert f'fleetwire_api_request_seconds_bucket{{client="device",le="0.001",method="GET",route="{route}"}}' in metrics
    assert "truck-metric" not in metrics
    assert "wp-admin" not in metrics
