"""What a hub is told by its environment."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from hub.trusted_proxies import TrustedProxies
from shared.bus.client import RedisSettings
from shared.key_watch import KeyWatchSettings
from shared.keys import TicketKeySettings, TokenKeySettings
from shared.settings import boolean, bounded_float, bounded_int, setting
from shared.store.settings import DatabaseSettings
from shared.sync.settings import SyncSettings
from shared.telemetry.health import OpsSettings, is_loopback
from shared.telemetry.logs import LogSettings
from shared.telemetry.traces import TraceSettings

__all__ = ["Settings"]


def _name(raw: str) -> str:
    allowed = raw.isascii() and all(c.isalnum() or c in "._-" for c in raw)
    if not (1 <= len(raw) <= 64 and allowed and raw[0].isalnum()):
        raise ValueError("must be 1 to 64 characters of A-Z a-z 0-9 . _ - and begin with a letter or digit")
    return raw


def _url(raw: str) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be ws://host:port or wss://host:port")
    return raw.rstrip("/")


def _ops_url(raw: str) -> str:
    parts = urlsplit(raw)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be http://host:port or https://host:port")
    return raw.rstrip("/")


def _seconds(env: str, default: float, help: str, low: float = 0.001, high: float = 3600.0) -> float:
    seconds: float = setting(env, default, help=help, parse=bounded_float(low, high))
    return seconds


@dataclass(frozen=True, kw_only=True)
class Settings(
    DatabaseSettings,
    RedisSettings,
    TokenKeySettings,
    TicketKeySettings,
    KeyWatchSettings,
    SyncSettings,
    OpsSettings,
    LogSettings,
    TraceSettings,
):
    """Seconds end in `_s`."""

    name: str = setting("FLEETWIRE_HUB_NAME", help="This hub's name, unique among hubs.", parse=_name)
    host: str = setting("FLEETWIRE_HUB_HOST", "127.0.0.1", help="Address for device sockets.")
    port: int = setting(
        "FLEETWIRE_HUB_PORT", 8101, help="Port for device sockets; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    url: str | None = setting(
        "FLEETWIRE_HUB_URL",
        None,
        help="Where devices reach this hub (ws:// or wss://); unset, ws://host:port.",
        parse=_url,
    )
    capacity: int = setting(
        "FLEETWIRE_HUB_CAPACITY", 500, help="Most connected devices.", parse=bounded_int(1, 100_000)
    )
    ops_port: int = setting(
        "FLEETWIRE_OPS_PORT", 9101, help="Operations port; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    handshakes_max: int = setting(
        "FLEETWIRE_HUB_HANDSHAKES_MAX", 2000, help="Most handshakes under way.", parse=bounded_int(1, 100_000)
    )
    handshake_s: float = _seconds("FLEETWIRE_HUB_HANDSHAKE_S", 5.0, "A handshake may take so long.", 0.05, 5.0)
    handshakes_per_s: float = _seconds(
        "FLEETWIRE_HUB_HANDSHAKES_PER_S",
        500.0,
        "Handshakes taken per second; more are sent away for a while.",
        0.1,
        1e6,
    )
    handshakes_burst: int = setting(
        "FLEETWIRE_HUB_HANDSHAKES_BURST", 1000, help="So many may come at once.", parse=bounded_int(1, 1_000_000)
    )
    address_sockets: int = setting(
        "FLEETWIRE_HUB_ADDRESS_SOCKETS",
        0,
        help="Most sockets from one address (of IPv6, one /64); 0: as many as the capacity and half of the handshakes.",
        parse=bounded_int(0, 1_000_000),
    )
    address_per_s: float = _seconds(
        "FLEETWIRE_HUB_ADDRESS_HANDSHAKES_PER_S", 0.0, "Handshakes per second from one address; 0: no limit.", 0.0, 1e6
    )
    address_burst: int = setting(
        "FLEETWIRE_HUB_ADDRESS_HANDSHAKES_BURST",
        50,
        help="So many may come at once from one address.",
        parse=bounded_int(1, 1_000_000),
    )
    trusted_proxies: TrustedProxies = setting(
        "FLEETWIRE_TRUSTED_PROXIES",
        TrustedProxies(),
        help="Networks of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8,192.168.1.7.",
        parse=TrustedProxies.parse,
    )
    inbound_frames_per_s: float = _seconds(
        "FLEETWIRE_HUB_INBOUND_FRAMES_PER_S", 50.0, "Frames per second from one device, acks apart; 0: any.", 0.0, 1e6
    )
    inbound_frames_burst: int = setting(
        "FLEETWIRE_HUB_INBOUND_FRAMES_BURST", 200, help="So many may come at once.", parse=bounded_int(1, 1_000_000)
    )
    inbound_bytes_per_s: float = _seconds(
        "FLEETWIRE_HUB_INBOUND_BYTES_PER_S", 64.0 * 1024, "Bytes per second from one device; 0: any.", 0.0, 1e9
    )
    inbound_bytes_burst: int = setting(
        "FLEETWIRE_HUB_INBOUND_BYTES_BURST",
        256 * 1024,
        help="So many may come at once; a frame may have 65,536.",
        parse=bounded_int(128 * 1024, 2**30),
    )
    flaps_max: float = _seconds(
        "FLEETWIRE_HUB_FLAPS_MAX",
        12.0,
        "A device that connects more often (each time counts less, 1/e after 120 s) is sent to REST; 0: none is.",
        0.0,
        1e6,
    )
    gather_s: float = _seconds("FLEETWIRE_HUB_GATHER_S", 0.003, "Handshakes and log reads are gathered so long.")
    wave_s: float = _seconds(
        "FLEETWIRE_HUB_WAVE_S",
        0.003,
        "Under load, what comes within this is handled together; 0: nothing is.",
        0.0,
        0.1,
    )
    subscribe_s: float = _seconds("FLEETWIRE_HUB_SUBSCRIBE_S", 0.5, "A slot's confirmation is awaited so long.")
    hold_s: float = _seconds("FLEETWIRE_HUB_HOLD_S", 0.02, "A gap waits so long for the bus before the log is read.")
    window_events: int = setting(
        "FLEETWIRE_HUB_WINDOW_EVENTS", 256, help="Most events sent and not acked.", parse=bounded_int(1, 4096)
    )
    window_first_bytes: int = setting(
        "FLEETWIRE_HUB_WINDOW_FIRST_BYTES", 64 * 1024, help="Bytes in flight at first.", parse=bounded_int(1024, 2**24)
    )
    window_max_bytes: int = setting(
        "FLEETWIRE_HUB_WINDOW_MAX_BYTES", 1024 * 1024, help="Most bytes in flight.", parse=bounded_int(1024, 2**24)
    )
    compression: bool = setting(
        "FLEETWIRE_HUB_COMPRESSION", True, help="Devices that offer it get events compressed.", parse=boolean
    )
    compression_min_bytes: int = setting(
        "FLEETWIRE_HUB_COMPRESSION_MIN_BYTES",
        512,
        help="Shorter events are never compressed.",
        parse=bounded_int(64, 2**20),
    )
    send_buffer_bytes: int = setting(
        "FLEETWIRE_HUB_SEND_BUFFER_BYTES",
        0,
        help="What the kernel may hold for one device; 0 leaves it to the kernel, which may take all in flight.",
        parse=bounded_int(0, 2**24),
    )
    heartbeat_s: float = _seconds("FLEETWIRE_HUB_HEARTBEAT_S", 20.0, "Devices are pinged this often.")
    pong_s: float = _seconds("FLEETWIRE_HUB_PONG_S", 8.0, "A ping is answered within this time.")
    patience_s: float = _seconds("FLEETWIRE_HUB_PATIENCE_S", 60.0, "A device that takes nothing is closed after this.")
    close_s: float = _seconds("FLEETWIRE_HUB_CLOSE_S", 3.0, "A closing handshake may take so long.")
    ack_every: int = setting(
        "FLEETWIRE_HUB_ACK_EVERY", 16, help="Devices ack at the latest after so many events.", parse=bounded_int(1, 256)
    )
    ack_ms: int = setting(
        "FLEETWIRE_HUB_ACK_MS", 500, help="Devices ack at the latest after so many ms.", parse=bounded_int(0, 60_000)
    )
    jitter_s: float = _seconds("FLEETWIRE_HUB_JITTER_S", 2.0, "Devices spread their return over this time.", 0.0)
    store_s: float = _seconds("FLEETWIRE_HUB_STORE_S", 4.0, "Postgres answers within this time.")
    ack_write_s: float = _seconds("FLEETWIRE_HUB_ACK_WRITE_S", 0.2, "Acks are written at the latest after this.")
    acks_max: int = setting(
        "FLEETWIRE_HUB_ACKS_MAX",
        50_000,
        help="Devices whose acks wait for Postgres.",
        parse=bounded_int(100, 1_000_000),
    )
    sweep_s: float = _seconds("FLEETWIRE_HUB_SWEEP_S", 2.0, "The log is compared this often.")
    sweep_doubt_s: float = _seconds("FLEETWIRE_HUB_SWEEP_DOUBT_S", 0.25, "The same, while the bus is in doubt.")
    sync_at_once: int = setting(
        "FLEETWIRE_HUB_SYNC_AT_ONCE",
        2,
        help="Batches of operations applied at once; each takes a connection to Postgres.",
        parse=bounded_int(1, 100),
    )
    sync_waiting_max: int = setting(
        "FLEETWIRE_HUB_SYNC_WAITING_MAX",
        128,
        help="Most batches of operations that wait, of up to 64 KiB each.",
        parse=bounded_int(1, 100_000),
    )
    sync_s: float = _seconds("FLEETWIRE_HUB_SYNC_S", 10.0, "A batch of operations is answered within this time.")
    canary_s: float = _seconds("FLEETWIRE_HUB_CANARY_S", 0.4, "The hub sends itself a message this often.")
    member_s: float = _seconds("FLEETWIRE_HUB_MEMBER_S", 5.0, "The membership row is written this often.")
    silence_s: float = _seconds("FLEETWIRE_HUB_SILENCE_S", 15.0, "A hub not heard for this long is gone.", 0.1, 300.0)
    proxy_url: str | None = setting(
        "FLEETWIRE_PROXY_URL",
        None,
        help="Proxy in front of the hubs (ws:// or wss://), as the API has it; unset, devices are sent on directly.",
        parse=_url,
    )
    ops_url: str | None = setting(
        "FLEETWIRE_HUB_OPS_URL",
        None,
        help="Where operators' commands reach the operations port (http://host:port); unset, its own address.",
        parse=_ops_url,
    )
    rebalance: bool = setting(
        "FLEETWIRE_HUB_REBALANCE",
        True,
        help="Devices are sent to the hub they belong to when hubs come or go; off, only operators send them.",
        parse=boolean,
    )
    moves_per_s: float = _seconds(
        "FLEETWIRE_HUB_MOVES_PER_S", 50.0, "Devices sent on per second when hubs come or go.", 0.1, 10_000.0
    )
    move_wave_s: float = _seconds(
        "FLEETWIRE_HUB_MOVE_WAVE_S", 1.0, "Devices are sent on in waves this long.", 0.05, 60.0
    )
    linger_s: float = _seconds(
        "FLEETWIRE_HUB_LINGER_S", 8.0, "A device that was told to go may stay for this long.", 0.1, 9.0
    )
    drain_rate: float = _seconds("FLEETWIRE_HUB_DRAIN_RATE", 50.0, "Devices sent away per second at least.", 0.1, 1e6)
    drain_s: float = _seconds("FLEETWIRE_HUB_DRAIN_S", 20.0, "All devices are sent away within this.")
    flush_s: float = _seconds("FLEETWIRE_HUB_FLUSH_S", 5.0, "Acks left at shutdown are tried for this long.")

    def check(self) -> list[str]:
        """Fields that do not fit each other."""
        problems = []
        if self.url is None and not is_loopback(self.host):
            problems.append(
                f"FLEETWIRE_HUB_URL is not set: devices cannot be sent to FLEETWIRE_HUB_HOST={self.host!r} itself"
            )
        if self.window_first_bytes > self.window_max_bytes:
            problems.append("FLEETWIRE_HUB_WINDOW_FIRST_BYTES must not be above FLEETWIRE_HUB_WINDOW_MAX_BYTES")
        if self.heartbeat_s + self.pong_s > 30.0:
            problems.append(
                "FLEETWIRE_HUB_HEARTBEAT_S and FLEETWIRE_HUB_PONG_S together must not be above 30: "
                "a dead link is found within that time"
            )
        if self.ack_every > self.window_events:
            problems.append("FLEETWIRE_HUB_ACK_EVERY must not be above FLEETWIRE_HUB_WINDOW_EVENTS")
        if self.silence_s < 2 * self.member_s:
            problems.append("FLEETWIRE_HUB_SILENCE_S must be at least twice FLEETWIRE_HUB_MEMBER_S")
        if self.sync_at_once >= self.db_pool_max:
            problems.append(
                "FLEETWIRE_HUB_SYNC_AT_ONCE must be below FLEETWIRE_DB_POOL_MAX: events and acks need connections, too"
            )
        if self.sweep_doubt_s > self.sweep_s:
            problems.append("FLEETWIRE_HUB_SWEEP_DOUBT_S must not be above FLEETWIRE_HUB_SWEEP_S")
        return problems

    def reach_ops_at(self, port: int) -> str:
        """Where the operations port is, for commands on this machine or, where it is open to others, on theirs."""
        if self.ops_url is not None:
            return self.ops_url
        host = self.ops_host
        if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
            host = (urlsplit(self.url).hostname if self.url else None) or "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
