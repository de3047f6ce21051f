"""What the API process is told by its environment."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from api.cors import parse_origins
from api.dashboard.settings import DashboardSettings
from api.hook_settings import HookSettings
from api.rate_settings import RateSettings
from api.small_jobs import SmallJobSettings
from api.template_settings import TemplateCacheSettings
from shared.cloud.photo_settings import PhotoSettings
from shared.cloud.provider_settings import ProviderSettings
from shared.hint_servers import QueueSettings
from shared.job_kinds import REQUESTS, JobKindSettings
from shared.key_watch import KeyWatchSettings
from shared.keys import FilesKeySettings, TicketKeySettings, TokenKeySettings
from shared.settings import bounded_float, bounded_int, setting, text
from shared.signed_urls import LIFETIME_MAX_S, host_of
from shared.store.settings import ReplicaSettings
from shared.sync.settings import SyncSettings
from shared.telemetry.health import OpsSettings
from shared.telemetry.logs import LogSettings

__all__ = ["Settings"]


def _files_url(raw: str) -> str:
    host_of(raw)
    return raw


def _worker(raw: str) -> tuple[int, int, int]:
    try:
        number, listener, ops = (int(part) for part in raw.split(","))
    except ValueError:
        raise ValueError("must be three numbers; leave it unset") from None
    return number, listener, ops


def _socket_base_url(raw: str) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be ws://host:port or wss://host:port")
    return raw


@dataclass(frozen=True, kw_only=True)
class Settings(
    ReplicaSettings,
    QueueSettings,
    JobKindSettings,
    SmallJobSettings,
    TokenKeySettings,
    TicketKeySettings,
    FilesKeySettings,
    PhotoSettings,
    TemplateCacheSettings,
    KeyWatchSettings,
    SyncSettings,
    RateSettings,
    HookSettings,
    ProviderSettings,
    DashboardSettings,
    OpsSettings,
    LogSettings,
):
    """Seconds end in `_s`."""

    cors_origins: frozenset[str] = setting(
        "FLEETWIRE_API_CORS_ORIGINS",
        frozenset(),
        help="Origins of pages that may ask the API from a browser, such as https://app.example; * for all.",
        parse=parse_origins,
    )
    host: str = setting("FLEETWIRE_API_HOST", "127.0.0.1", help="Address of the API.")
    port: int = setting(
        "FLEETWIRE_API_PORT", 8080, help="Port of the API; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    api_workers: int = setting(
        "FLEETWIRE_API_WORKERS",
        1,
        help="API processes on this port; each has pools of its own.",
        parse=bounded_int(1, 64),
    )
    worker: tuple[int, int, int] | None = setting(
        "FLEETWIRE_API_WORKER",
        None,
        help="Set for the processes of FLEETWIRE_API_WORKERS by their parent: a number and two open sockets.",
        parse=_worker,
    )
    db_pool_min: int = setting(
        "FLEETWIRE_DB_POOL_MIN", 5, help="Connections to Postgres kept open.", parse=bounded_int(0, 100)
    )
    db_pool_max: int = setting(
        "FLEETWIRE_DB_POOL_MAX", 100, help="Most connections to Postgres of this process.", parse=bounded_int(1, 1000)
    )
    ops_port: int = setting(
        "FLEETWIRE_OPS_PORT", 9000, help="Operations port; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    files_url: str = setting(
        "FLEETWIRE_FILES_URL",
        "http://127.0.0.1:8090",
        help="Where devices reach the files gateway: http://host:port.",
        parse=_files_url,
    )
    proxy_url: str | None = setting(
        "FLEETWIRE_PROXY_URL",
        None,
        help="Proxy in front of the hubs (ws:// or wss://); unset, devices connect to hubs directly.",
        parse=_socket_base_url,
    )
    ticket_s: float = setting(
        "FLEETWIRE_API_TICKET_S", 60.0, help="How long a socket ticket admits.", parse=bounded_float(1, 60)
    )
    file_url_s: float = setting(
        "FLEETWIRE_API_FILE_URL_S",
        float(LIFETIME_MAX_S),
        help="How long a signed file address admits.",
        parse=bounded_float(1, LIFETIME_MAX_S),
    )
    page_max: int = setting("FLEETWIRE_PAGE_MAX", 500, help="Most rows of one page.", parse=bounded_int(1, 500))
    page_max_bytes: int = setting(
        "FLEETWIRE_API_PAGE_MAX_BYTES",
        64 * 1024,
        help="Most bytes of events in one page, after the first event.",
        parse=bounded_int(1024, 1024 * 1024),
    )
    poll_period_s: float = setting(
        "FLEETWIRE_API_POLL_PERIOD_S",
        0.25,
        help="How often the log is read for all long-polls together.",
        parse=bounded_float(0.01, 5),
    )
    waiting_max: int = setting(
        "FLEETWIRE_API_WAITING_MAX", 5000, help="Most long-polls that wait at once.", parse=bounded_int(1, 100_000)
    )
    in_flight_max: int = setting(
        "FLEETWIRE_API_IN_FLIGHT_MAX",
        1000,
        help="Most requests handled at once, waiting long-polls apart.",
        parse=bounded_int(1, 100_000),
    )
    shed_target_s: float = setting(
        "FLEETWIRE_API_SHED_TARGET_S",
        0.2,
        help="Requests may wait so long for a connection to Postgres; 0: however long.",
        parse=bounded_float(0, 5),
    )
    shed_interval_s: float = setting(
        "FLEETWIRE_API_SHED_INTERVAL_S",
        0.5,
        help="When all have waited longer than that for so long, lists are sent away; after three times, the rest.",
        parse=bounded_float(0.01, 30),
    )
    connections_max: int = setting(
        "FLEETWIRE_API_CONNECTIONS_MAX", 10_000, help="Most open connections.", parse=bounded_int(1, 1_000_000)
    )
    bodies_max_bytes: int = setting(
        "FLEETWIRE_API_BODIES_MAX_BYTES",
        64 * 1024 * 1024,
        help="Most bytes of request bodies in memory at once.",
        parse=bounded_int(4 * 1024 * 1024, 4 * 1024**3),
    )
    notices_per_s: float = setting(
        "FLEETWIRE_API_NOTICES_PER_S",
        2.0,
        help="Most notices a process takes per second; each may reach every device.",
        parse=bounded_float(0.01, 1000),
    )
    job_queue: str = setting(
        "FLEETWIRE_API_JOB_QUEUE",
        REQUESTS,
        help="Queue of jobs that come by REST and whose kind has none of its own (FLEETWIRE_JOB_QUEUES).",
        parse=text(max_length=64),
    )
    job_store: str = setting(
        "FLEETWIRE_API_JOB_STORE",
        "local",
        help="What stands as the store of such jobs; where their responses go, FLEETWIRE_CLOUD_PLACEMENT says.",
        parse=text(max_length=64),
    )
    hubs_age_s: float = setting(
        "FLEETWIRE_API_HUBS_AGE_S",
        0.5,
        help="How old the list of hubs may be that devices are assigned from.",
        parse=bounded_float(0, 5),
    )
    hub_silence_s: float = setting(
        "FLEETWIRE_HUB_SILENCE_S",
        15.0,
        help="A hub not heard for this long is not handed out.",
        parse=bounded_float(0.1, 300),
    )
    worker_lease_s: float = setting(
        "FLEETWIRE_WORKER_LEASE_S",
        60.0,
        help="How long a silent worker keeps a job, as the workers are told.",
        parse=bounded_float(0.1, 3600),
    )
    worker_heartbeat_s: float = setting(
        "FLEETWIRE_WORKER_HEARTBEAT_S",
        20.0,
        help="How often workers renew, as they are told.",
        parse=bounded_float(0.02, 1200),
    )
    probe_s: float = setting(
        "FLEETWIRE_API_PROBE_S",
        2.0,
        help="How often readiness looks whether Postgres answers.",
        parse=bounded_float(0.05, 60),
    )
    head_s: float = setting(
        "FLEETWIRE_API_HEAD_S", 10.0, help="How long a request's head may take.", parse=bounded_float(0.1, 120)
    )
    stall_s: float = setting(
        "FLEETWIRE_API_STALL_S",
        30.0,
        help="A client that takes no byte of its answer for this long is cut.",
        parse=bounded_float(0.1, 600),
    )
    keep_alive_s: int = setting(
        "FLEETWIRE_API_KEEP_ALIVE_S", 30, help="How long an idle connection is kept.", parse=bounded_int(1, 600)
    )
    drain_s: float = setting(
        "FLEETWIRE_API_DRAIN_S",
        3.0,
        help="How long a leaving process, not ready any more, goes on accepting, so that proxies can notice.",
        parse=bounded_float(0, 10),
    )
    finish_s: float = setting(
        "FLEETWIRE_API_FINISH_S",
        5.0,
        help="How long requests in flight may take after that.",
        parse=bounded_float(1, 8),
    )

    def check(self) -> list[str]:
        """What the settings contradict among themselves."""
        return self.photo_problems() + self.provider_problems(has_local=False)
