"""One trace of a file from its change to its device's ack, read back from memory and from what was sent by OTLP."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image

import hub.app
import hub.settings
import watcher.app
import worker.app
import worker.settings
from shared.bus.publisher import Publisher
from shared.lifecycle import Stop
from shared.settings import load
from shared.store.pool import open_pool
from shared.telemetry.traces import Tracer, TraceSettings
from tests.hub.conftest import Device, Fleet, environment, token
from tests.waiting import until_so
from tests.watcher.rig import Rig

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

DEVICE = "truck-7"
# In the order in which they begin.
STAGES = ["detected", "attempt", "recorded", "published", "fanned_out", "sent", "acked"]


class Seen(NamedTuple):
    """A span, wherever it was read."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    links: tuple[str, ...]
    began: int
    ended: int
    service: str
    attributes: dict[str, Any]


def of_memory(exporter: InMemorySpanExporter) -> list[Seen]:
    return [
        Seen(
            span.name,
            f"{span.context.trace_id:032x}",
            f"{span.context.span_id:016x}",
            None if span.parent is None else f"{span.parent.span_id:016x}",
            tuple(f"{link.context.trace_id:032x}" for link in span.links),
            span.start_time or 0,
            span.end_time or 0,
            str(span.resource.attributes["service.name"]),
            dict(span.attributes or {}),
        )
        for span in exporter.get_finished_spans()
        if span.context is not None
    ]


class Receiver:
    """An OTLP collector that only keeps what it gets."""

    def __init__(self) -> None:
        bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *given: Any) -> None:
                pass

        self._bodies = bodies
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def spans(self) -> list[Seen]:
        found = []
        for body in list(self._bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
                found += [
                    Seen(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex() or None,
                        tuple(link.trace_id.hex() for link in span.links),
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        service,
                        {one.key: one.value.string_value or one.value.int_value for one in span.attributes},
                    )
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Scene(NamedTuple):
    rig: Rig
    fleet: Fleet
    hub_url: str
    stop: Callable[[], Any]


@asynccontextmanager
async def running(tmp_path: Path, database_url: str, redis_url: str, **tracing: str) -> AsyncIterator[Scene]:
    """A watcher, a worker and a hub in this loop."""
    connection = await asyncpg.connect(database_url)
    pool = await open_pool(database_url, name="test", max_size=2)
    rig = Rig(tmp_path, database_url, redis_url, connection)
    await rig.add_device(DEVICE)
    hub_settings = load(hub.settings.Settings, environment("hub-1", database_url, redis_url, tracing))
    worker_environ = {
        "PATH": os.environ["PATH"],
        "FLEETWIRE_DATABASE_URL": database_url,
        "FLEETWIRE_REDIS_URL": redis_url,
        "FLEETWIRE_CLOUD_ROOT": str(rig.root),
        "FLEETWIRE_CLOUD_TMP": str(tmp_path / "cloud-tmp"),
        "FLEETWIRE_WORKER_PROCESSES": "1",
        "FLEETWIRE_WORKER_POLL_S": "0.1",
        "FLEETWIRE_OPS_PORT": "0",
        **tracing,
    }
    started: asyncio.Future[hub.app.Running] = asyncio.get_running_loop().create_future()
    stop = Stop()
    tasks = [
        asyncio.create_task(watcher.app.serve(rig.settings(**_trace_fields(tracing)), stop)),
        asyncio.create_task(worker.app._serve(load(worker.settings.Settings, worker_environ), worker_environ, stop)),
        asyncio.create_task(
            hub.app.serve(hub_settings, hub.app.Keys(hub_settings), stop, on_running=started.set_result)
        ),
    ]

    async def end() -> None:
        stop.request("test")
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)

    fleet = Fleet(pool, Publisher(redis_url))  # nothing is published by the test
    try:
        async with asyncio.timeout(30):
            port = (await started).port
        yield Scene(rig, fleet, f"ws://127.0.0.1:{port}/v1/socket", end)
    finally:
        await fleet.close()
        await end()
        await connection.close()
        await pool.close()


def _trace_fields(tracing: dict[str, str]) -> dict[str, Any]:
    loaded = load(TraceSettings, tracing)
    return {"trace_sample": loaded.trace_sample, "trace_url": loaded.trace_url}


async def a_photo_comes_back(scene: Scene) -> dict[str, Any]:
    """The event, as its device got and acked it."""
    device: Device = await scene.fleet.connect(scene.hub_url, DEVICE, bearer=token(DEVICE))
    await device.welcome()
    photo = scene.rig.outside / "load.jpg"
    Image.linear_gradient("L").resize((640, 480)).save(photo)
    scene.rig.move_in(f"Requests/{DEVICE}/load.jpg", photo.read_bytes())
    frame = await device.frame(60)
    assert (frame["type"], frame["event"]["type"]) == ("event", "ResponseReady"), frame
    await device.ack(frame["seq"])
    await scene.fleet.until_acked(DEVICE, frame["seq"])
    event: dict[str, Any] = frame["event"] | {"seq": frame["seq"]}
    return event


def check(spans: list[Seen], event: dict[str, Any]) -> None:
    """Every stage is in the one trace, below the span that the event names, and each takes up where another left."""
    version, trace_id, root_id, flags = event["traceparent"].split("-")
    assert (version, flags) == ("00", "01")
    ours = sorted((span for span in spans if span.trace_id == trace_id), key=lambda span: span.began)
    by_name = {span.name: span for span in ours}
    assert sorted(by_name) == sorted(STAGES), [span.name for span in ours]
    assert len(ours) == len(STAGES)
    root = by_name.pop("detected")
    assert (root.span_id, root.parent_id, root.links) == (root_id, None, ())
    assert {span.parent_id for span in by_name.values()} == {root_id}
    assert all(span.ended >= span.began for span in ours)
    order = [by_name[name].ended for name in ("recorded", "fanned_out", "sent", "acked")]
    assert order == sorted(order)
    assert {span.attributes["device_id"] for span in ours if span.name != "published"} == {DEVICE}
    assert root.attributes["job_id"] == event["data"]["job_id"]
    assert (by_name["recorded"].attributes["event_id"], by_name["acked"].attributes["seq"]) == (
        event["id"],
        event["seq"],
    )
    services = {span.name: span.service for span in ours}
    assert services["detected"] == "fleetwire-watcher"
    assert services["attempt"] == services["recorded"] == services["published"] == "fleetwire-worker"
    assert services["fanned_out"] == services["sent"] == services["acked"] == "fleetwire-hub"


async def test_a_photo_is_one_trace_from_its_file_to_its_ack_in_memory(
    tmp_path: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()

    def open_in_memory(settings: TraceSettings, *, process: str, name: str) -> Tracer:
        return Tracer(exporter, process=process, name=name, sample=settings.trace_sample, at_once=True)

    for app in (watcher.app, worker.app, hub.app):
        monkeypatch.setattr(app, "open_tracer", open_in_memory)
    async with running(tmp_path, database_url, redis_url, FLEETWIRE_TRACE_SAMPLE="1") as scene:
        event = await a_photo_comes_back(scene)
        await until_so(lambda: len(of_memory(exporter)) >= len(STAGES), "every stage is told", deadline_s=10)
        check(of_memory(exporter), event)

        # Given again from the log it is no part of the file's own trace, and says whose it was.
        again = await scene.fleet.connect(scene.hub_url, DEVICE, after=f"{1}:0")
        await again.welcome()
        assert (await again.frame())["type"] == "event"
        await until_so(lambda: len(of_memory(exporter)) >= len(STAGES) + 2, "the later trace is told", deadline_s=10)
        trace_id = event["traceparent"].split("-")[1]
        late = [span for span in of_memory(exporter) if trace_id in span.links]
        assert {span.name for span in late} >= {"fanned_out", "sent"}
        assert all(span.trace_id != trace_id and span.parent_id is None for span in late)


async def test_the_same_trace_arrives_at_a_collector_by_otlp(
    tmp_path: Path, database_url: str, redis_url: str, receiver: Receiver
) -> None:
    tracing = {"FLEETWIRE_TRACE_SAMPLE": "1", "FLEETWIRE_TRACE_URL": receiver.url}
    async with running(tmp_path, database_url, redis_url, **tracing) as scene:
        event = await a_photo_comes_back(scene)
    check(receiver.spans(), event)  # all that was made was sent before the processes ended
