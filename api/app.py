"""The API process: built here, left here, both to be read from top to bottom.

It holds nothing about a user or a request between requests, so any instance answers any request and one may leave at
any time: first it says that it is not ready and sends connections elsewhere while it still answers everything, then
it stops accepting, finishes what is in flight, and flushes its publisher.
"""

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final

import structlog
from starlette.routing import Router

from api.bodies import BodyBudget
from api.cors import Cors
from api.dashboard.hub_ports import HubPorts
from api.dashboard.reader import FleetReader
from api.dashboard.viewers import Viewers
from api.envelope import Envelope
from api.hook_desk import HookDesk
from api.http_protocol import bounded_http
from api.hub_view import HubView
from api.idempotency import RequestKeys
from api.instances import Instances
from api.long_poll import LongPolls
from api.pagination import SignedCursors
from api.photo_sweep import PhotoSweep
from api.rate_limiter import RateLimiter
from api.resource import Guard, Resource
from api.revocation_check import RevocationCheck
from api.routes.acks import Acks
from api.routes.connection import Connection
from api.routes.dashboard import Dashboard
from api.routes.device_list import DeviceList
from api.routes.devices import Devices
from api.routes.documents import document_resources
from api.routes.events import Events
from api.routes.files import Files
from api.routes.health import health_resources
from api.routes.hooks import Hooks, S3Hook
from api.routes.hub_commands import HubCommands
from api.routes.inspection_commands import InspectionCommands
from api.routes.inspections import Inspections
from api.routes.job_commands import JobCommands
from api.routes.jobs import Jobs
from api.routes.notices import Notices
from api.routes.photos import Photos
from api.routes.publish import Publish
from api.routes.queues import QueueList
from api.routes.responses import Responses
from api.routes.revocations import Revocations
from api.routes.schedules import ScheduleRoutes
from api.routes.sync import Sync
from api.routes.templates import Templates
from api.routes.traces import Traces
from api.session_check import session_check
from api.settings import Settings
from api.shedding import Shedding
from api.small_jobs import SmallJobs
from api.store_probe import StoreProbe, open_pool_when_there
from api.template_cache import TemplateCache
from api.whereabouts import Bounds
from api.workers import Workers
from shared import lifecycle
from shared.asgi_server import AsgiServer
from shared.bus.hints import HintOffers
from shared.bus.names import template_channel
from shared.bus.publisher import Publisher
from shared.bus.reader import SlotReader
from shared.bus.redis_client import LazyRedis
from shared.bus.token_buckets import TokenBuckets
from shared.bus.versioned_cache import VersionedCache
from shared.clock import monotonic
from shared.cloud.provider import Provider
from shared.cloud.stores import open_stores
from shared.cloud.upload_stores import UploadStores, open_upload_stores
from shared.hint_servers import open_offers
from shared.key_url import KeyUrl
from shared.key_watch import KeyWatch, WatchedKeys
from shared.lifecycle import Stop, cancelled, until_stop_or_failure
from shared.queue_watch import QueueWatch
from shared.settings import SettingsError, load
from shared.signed_urls import SignedUrls
from shared.store.pool import Pool
from shared.store.replicas import Replicas
from shared.telemetry import logs
from shared.telemetry.health import OpsServer, Readiness
from shared.telemetry.metrics import API_SHED_PRESSURE

__all__ = ["Keys", "Parts", "main", "route_table", "serve"]

PARTING_S: Final = 2.0

_log = structlog.get_logger(__name__)


class Keys:
    """The three key sets of the API, read and checked before anything starts. Raises SettingsError."""

    def __init__(self, settings: Settings) -> None:
        self.tokens = settings.token_key_ring()
        self.tickets = settings.ticket_key_ring()
        self.files = settings.files_hmac_keys()
        if self.tickets.signing_key_id is None:
            raise SettingsError(["FLEETWIRE_TICKET_KEYS_FILE holds no private key: the API signs tickets with it"])


def main() -> int:
    """Run until SIGTERM. Exit status 2: the settings are wrong."""
    try:
        settings = load(Settings, os.environ)
        keys = Keys(settings)
    except SettingsError as error:
        sys.stderr.write(f"fleetwire api: {len(error.problems)} setting(s) to mend\n{error}\n")
        return 2
    name = f"api-{settings.worker[0]}" if settings.worker else "api"
    logs.configure(name, settings.log_level, json=settings.log_format == "json")
    if settings.api_workers > 1 and settings.worker is None:
        workers = Workers(settings, os.environ, SystemRandom())
        return lifecycle.run(workers.run, environ=os.environ)
    return lifecycle.run(lambda stop: serve(settings, keys, stop), environ=os.environ)


async def serve(settings: Settings, keys: Keys, stop: Stop) -> int:
    """Everything from the first connection to the last."""
    rand = SystemRandom()
    probe = StoreProbe()
    listener, ops_listener = (
        (socket.socket(fileno=fd) for fd in settings.worker[1:]) if settings.worker else (None, None)
    )
    async with AsyncExitStack() as leaving:
        ops = OpsServer(
            settings.ops_host,
            settings.ops_port,
            process="api",
            readiness=lambda: Readiness(not probe.problems, tuple(probe.problems)),
            token=settings.ops_token,
            listener=ops_listener,
        )
        await ops.start()
        leaving.push_async_callback(ops.close)
        pool = await open_pool_when_there(settings, stop, probe, rand)
        if pool is None:
            return 0
        leaving.push_async_callback(pool.close, timeout_s=2.0)
        queue = pool.queue = QueueWatch(target_s=settings.shed_target_s, interval_s=settings.shed_interval_s)
        API_SHED_PRESSURE.set_function(lambda: float(queue.pressure(monotonic())))

        publisher = Publisher(settings.redis_url, name="api")
        polls = LongPolls(pool, period_s=settings.poll_period_s, waiting_max=settings.waiting_max)
        hints = open_offers(settings.hints_url, name="api-hints", rand=rand)
        small_jobs = SmallJobs(settings, hints_go_out=lambda: hints.connected, environ=os.environ, rand=rand)
        signed_urls = SignedUrls(keys.files, settings.files_url)
        stores = open_upload_stores(settings, signed_urls, files_url=settings.files_url)
        leaving.push_async_callback(stores.close)
        replicas = Replicas(pool, settings, rand)
        leaving.push_async_callback(replicas.close)
        cache = _template_cache(settings, pool, publisher, rand)
        leaving.push_async_callback(cache.close)
        ears = _ears(settings, cache, rand)
        instances = Instances(pool, name=f"api-{secrets.token_hex(8)}", period_s=settings.instance_s, rand=rand)
        redis = LazyRedis(settings.redis_url, deadline_s=settings.rate_redis_s, name="api-rates")
        leaving.push_async_callback(redis.aclose)
        elsewhere = open_stores(settings, pool=pool, redis=redis)
        leaving.push_async_callback(elsewhere.close)
        limiter = RateLimiter(
            settings.limits(),
            TokenBuckets(redis, deadline_s=settings.rate_redis_s),
            instances=lambda: instances.live,
            probe_s=settings.rate_probe_s,
            rand=rand,
        )
        key_url = KeyUrl(settings, keys.tokens, rand=rand)
        leaving.push_async_callback(key_url.aclose)
        if settings.token_keys_url is not None:
            probe.saw("the key set of bearer tokens is not there yet")
        if not await key_url.first(stop):
            return 0
        ports = HubPorts(settings.ops_token)
        leaving.push_async_callback(ports.aclose)
        viewers = Viewers(settings.dashboard_viewers_max)
        parts = Parts(
            settings,
            keys,
            pool,
            replicas,
            publisher,
            hints,
            small_jobs,
            polls,
            probe,
            rand,
            signed_urls,
            stores,
            limiter,
            cache,
            key_url,
            {one.name: one for one in elsewhere},
            viewers,
            ports,
        )
        envelope = Envelope(
            Router([resource.route() for resource in route_table(parts)], redirect_slashes=False),
            in_flight_max=settings.in_flight_max,
            parked=lambda: polls.waiting + len(viewers),
            rand=rand,
            cors=Cors(settings.cors_origins),
        )
        server = _server(envelope, settings, listener)
        loops = {
            asyncio.create_task(publisher.run(), name="publisher"),
            asyncio.create_task(hints.run(), name="job hints"),
            asyncio.create_task(small_jobs.run(), name="small jobs"),
            asyncio.create_task(polls.run(), name="long polls"),
            asyncio.create_task(cache.run(), name="template cache"),
            asyncio.create_task(ears.run(), name="template signals"),
            asyncio.create_task(_key_watch(settings, keys, rand).run(), name="key watch"),
            asyncio.create_task(_photo_sweep(settings, pool, stores, rand).run(), name="photo sweep"),
            asyncio.create_task(instances.run(), name="instances"),
            asyncio.create_task(limiter.run(), name="rate limits"),
            asyncio.create_task(key_url.run(), name="key set"),
            asyncio.create_task(_fleet_reader(parts).run(), name="fleet reader"),
        }
        if replicas:
            loops.add(asyncio.create_task(replicas.run(), name="replicas"))
        leaving.push_async_callback(instances.leave)  # after its heartbeat has ended
        leaving.push_async_callback(cancelled, loops)
        leaving.push_async_callback(publisher.close)
        leaving.push_async_callback(hints.close)
        await limiter.start()
        await server.start()
        loops.add(asyncio.create_task(probe.run(pool, settings.probe_s, rand), name="store probe"))
        _log.info("api accepts", host=settings.host, port=server.port, ops_port=ops.port)
        failed = await until_stop_or_failure(stop, loops)

        _log.info("api leaves", in_flight=envelope.in_flight, waiting=polls.waiting)
        probe.leave()
        envelope.leaving = True
        polls.close()
        viewers.close()
        if not failed:
            await asyncio.sleep(settings.drain_s)
        await server.close()
        return 1 if failed else 0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes are made with."""

    settings: Settings
    keys: Keys
    pool: Pool
    replicas: Replicas
    publisher: Publisher
    hints: HintOffers
    small_jobs: SmallJobs
    polls: LongPolls
    probe: StoreProbe
    rand: Random
    signed_urls: SignedUrls
    stores: UploadStores
    limiter: RateLimiter
    template_cache: TemplateCache
    key_url: KeyUrl
    files_elsewhere: Mapping[str, Provider]
    viewers: Viewers
    hub_ports: HubPorts


def route_table(parts: Parts) -> Sequence[Resource]:
    """All paths, and last the document that says what they are."""
    settings, pool, replicas = parts.settings, parts.pool, parts.replicas
    sessions = session_check(settings, parts.keys.tokens, parts.keys.files, host=settings.host)
    guard = Guard(
        parts.keys.tokens,
        BodyBudget(settings.bodies_max_bytes),
        RevocationCheck(pool),
        RequestKeys(pool, keys_per_day=settings.sync_keys_per_day, rand=parts.rand),
        parts.limiter,
        parts.key_url,
        Shedding(lambda: pool.queue.pressure(monotonic())),
        frozenset(name for name, _ in settings.rate_classes),
        replicas,
        sessions,
    )
    hubs = HubView(pool, max_age_s=settings.hubs_age_s, silence_s=settings.hub_silence_s)
    connection = Connection(
        pool, hubs, parts.keys.tickets, proxy_url=settings.proxy_url, ticket_lifetime_s=settings.ticket_s
    )
    files = Files(pool, parts.signed_urls, parts.files_elsewhere, lifetime_s=settings.file_url_s)
    cursors = SignedCursors(parts.keys.files)
    jobs = Jobs(pool, replicas, cursors, page_max=settings.page_max)
    kinds = settings.job_kinds(settings.job_queue)
    commands = JobCommands(
        pool,
        parts.publisher,
        parts.hints,
        parts.small_jobs,
        kinds=kinds,
        store=settings.job_store,
        rand=parts.rand,
    )
    photos = Photos(pool, replicas, parts.stores, settings, cursors, page_max=settings.page_max, rand=parts.rand)
    inspections = Inspections(pool, replicas, cursors, page_max=settings.page_max)
    inspection_commands = InspectionCommands(pool, keys_per_day=settings.sync_keys_per_day, rand=parts.rand)
    templates = Templates(pool, replicas, parts.template_cache, cursors, page_max=settings.page_max, rand=parts.rand)
    s3_hook = S3Hook(settings.hooks_s3_secret, settings.cloud_s3_bucket, settings.cloud_s3_prefix)
    bounds = Bounds(settings.worker_lease_s, settings.worker_heartbeat_s, settings.hub_silence_s)
    resources = [
        *Dashboard(parts.keys.tokens, sessions, guard.revocations, parts.viewers, settings).resources(guard),
        *health_resources(guard, lambda: not parts.probe.problems),
        connection.resource(guard),
        Events(pool, parts.polls, page_max=settings.page_max, page_max_bytes=settings.page_max_bytes).resource(guard),
        Acks(pool).resource(guard),
        Responses(pool, page_max=settings.page_max).resource(guard),
        files.resource(guard),
        *jobs.resources(guard),
        *commands.resources(guard, jobs),
        QueueList(pool).resource(guard),
        *Traces(pool, bounds).resources(guard),
        *ScheduleRoutes(pool).resources(guard),
        *photos.resources(guard),
        Publish(pool, parts.publisher, rand=parts.rand).resource(guard),
        *HubCommands(hubs, parts.hub_ports, cursors).resources(guard),
        Devices(pool).resource(guard),
        DeviceList(pool, cursors, page_max=settings.page_max).resource(guard),
        Notices(parts.publisher, per_s=settings.notices_per_s, rand=parts.rand).resource(guard),
        Revocations(pool, parts.publisher, page_max=settings.page_max).resource(guard),
        Sync(pool, keys_per_day=settings.sync_keys_per_day).resource(guard),
        *templates.resources(guard),
        *inspections.resources(guard, inspection_commands),
        *Hooks(HookDesk(pool, parts.publisher), s3_hook).resources(guard),
    ]
    return [*resources, *document_resources(guard, resources, page_max=settings.page_max)]


def _fleet_reader(parts: Parts) -> FleetReader:
    settings = parts.settings
    return FleetReader(
        parts.pool,
        parts.hub_ports,
        parts.viewers,
        period_s=settings.dashboard_period_s,
        silence_s=settings.hub_silence_s,
        rand=parts.rand,
    )


def _template_cache(settings: Settings, pool: Pool, publisher: Publisher, rand: Random) -> TemplateCache:
    deadline_s = settings.template_cache_redis_deadline_s
    redis = LazyRedis(settings.redis_url, deadline_s=deadline_s, name="api-templates")
    return TemplateCache(
        pool,
        VersionedCache(redis, ttl_s=settings.template_cache_redis_s, deadline_s=deadline_s),
        publisher,
        max_bytes=settings.template_cache_max_bytes,
        keep_s=settings.template_cache_s,
        compare_s=settings.template_cache_compare_s,
        rand=rand,
    )


def _ears(settings: Settings, cache: TemplateCache, rand: Random) -> SlotReader:
    """What the API hears of the bus: signals about templates, and a break of them costs nothing but lateness."""
    ears = SlotReader(
        settings.redis_url, on_message=cache.on_signal, on_gap=lambda slots: None, name="api-signals", rand=rand
    )
    ears.acquire_channel(template_channel(), cache.on_signal)
    return ears


def _photo_sweep(settings: Settings, pool: Pool, stores: UploadStores, rand: Random) -> PhotoSweep:
    owner = f"api-{secrets.token_hex(8)}"
    return PhotoSweep(pool, stores, owner=owner, period_s=settings.photo_sweep_s, rand=rand)


def _key_watch(settings: Settings, keys: Keys, rand: Random) -> KeyWatch:
    return KeyWatch(
        [
            WatchedKeys("FLEETWIRE_TOKEN_KEYS", settings.token_keys_file, keys.tokens),
            WatchedKeys("FLEETWIRE_TICKET_KEYS", settings.ticket_keys_file, keys.tickets, signs=True),
            WatchedKeys("FLEETWIRE_FILES_KEYS", settings.files_keys_file, keys.files),
        ],
        period_s=settings.keys_reload_s,
        rand=rand,
    )


def _server(envelope: Envelope, settings: Settings, listener: socket.socket | None) -> AsgiServer:
    protocol = bounded_http(
        connections_max=settings.connections_max,
        head_s=settings.head_s,
        stall_s=settings.stall_s,
        parting_s=PARTING_S if settings.drain_s else 0.0,
    )
    return AsgiServer(
        envelope,
        settings.host,
        settings.port,
        setting="FLEETWIRE_API_PORT",
        close_s=settings.finish_s,
        listener=listener,
        http=protocol,
        ws="none",
        log_level="error",  # what clients send wrongly is counted, and must not fill the log
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,
    )
