"""What a watcher reads from the environment."""

import re
import socket
from dataclasses import dataclass
from typing import Final

from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.settings import CloudSettings
from shared.hint_servers import QueueSettings
from shared.job_kinds import REQUESTS, JobKindSettings
from shared.settings import boolean, bounded_float, bounded_int, choice, setting
from shared.store.settings import DatabaseSettings
from shared.telemetry.health import OpsSettings
from shared.telemetry.logs import LogSettings
from shared.telemetry.traces import TraceSettings

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def watcher_name(raw: str) -> str:
    """A setting's parser: a name that is fit for a row, a lock and a log field."""
    if _NAME.fullmatch(raw) is None:
        raise ValueError("use 1 to 63 characters of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
    return raw


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:63].lstrip("._-") or "watcher"


@dataclass(frozen=True, kw_only=True)
class Settings(
    DatabaseSettings,
    QueueSettings,
    CloudSettings,
    ProviderSettings,
    JobKindSettings,
    OpsSettings,
    LogSettings,
    TraceSettings,
):
    """All settings of the process."""

    name: str = setting(
        "FLEETWIRE_WATCHER_NAME",
        _host_name(),
        help="Name of this watcher, its own among all that run; default: the host's.",
        parse=watcher_name,
    )
    root_name: str = setting(
        "FLEETWIRE_WATCHER_ROOT_NAME",
        "cloud",
        help="Name of the watched folder, the same in all watchers of it.",
        parse=watcher_name,
    )
    ops_port: int = setting(
        "FLEETWIRE_OPS_PORT", 9201, help="Operations port; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    db_pool_max: int = setting(
        "FLEETWIRE_DB_POOL_MAX", 8, help="Most connections to Postgres of this process.", parse=bounded_int(2, 1000)
    )
    queue: str = setting(
        "FLEETWIRE_WATCHER_QUEUE",
        REQUESTS,
        help="Queue of jobs whose kind has none of its own (FLEETWIRE_JOB_QUEUES).",
        parse=watcher_name,
    )
    notices: str = setting(
        "FLEETWIRE_WATCHER_NOTICES",
        "auto",
        help="inotify where there is one (auto), or scans only (poll), as network disks need.",
        parse=choice("auto", "poll"),
    )
    take_baseline: bool = setting(
        "FLEETWIRE_WATCHER_BASELINE",
        True,
        help="Whether the first scan takes files in Responses/ for older than the watcher, and announces none.",
        parse=boolean,
    )
    heartbeat_s: float = setting(
        "FLEETWIRE_WATCHER_HEARTBEAT_S",
        10.0,
        help="Seconds between renewals of the leases.",
        parse=bounded_float(0.05, 600),
    )
    lease_s: float = setting(
        "FLEETWIRE_WATCHER_LEASE_S",
        30.0,
        help="Seconds for which a lease holds after a renewal.",
        parse=bounded_float(0.15, 3600),
    )
    trust_s: float = setting(
        "FLEETWIRE_WATCHER_TRUST_S",
        20.0,
        help="Seconds for which a watcher goes on after the start of its last renewal.",
        parse=bounded_float(0.1, 3600),
    )
    membership_s: float = setting(
        "FLEETWIRE_WATCHER_MEMBERSHIP_S",
        0.5,
        help="Seconds between looks at who watches and what is free.",
        parse=bounded_float(0.01, 60),
    )
    silence_s: float = setting(
        "FLEETWIRE_WATCHER_SILENCE_S",
        15.0,
        help="Seconds of silence after which a watcher counts as gone.",
        parse=bounded_float(0.1, 3600),
    )
    settle_s: float = setting(
        "FLEETWIRE_WATCHER_SETTLE_S",
        0.05,
        help="Seconds that a closed file must be quiet.",
        parse=bounded_float(0, 60),
    )
    quiet_s: float = setting(
        "FLEETWIRE_WATCHER_QUIET_S",
        0.5,
        help="Seconds that a file a scan came upon must be unchanged.",
        parse=bounded_float(0, 600),
    )
    rescan_s: float = setting(
        "FLEETWIRE_WATCHER_RESCAN_S", 60.0, help="Seconds between scans of a feed.", parse=bounded_float(0.05, 86400)
    )
    poll_s: float = setting(
        "FLEETWIRE_WATCHER_POLL_S",
        2.0,
        help="Seconds between scans of a feed where folders cannot be watched.",
        parse=bounded_float(0.05, 86400),
    )
    arrivals_s: float = setting(
        "FLEETWIRE_WATCHER_ARRIVALS_S",
        2.0,
        help="Seconds between looks for devices that files wait for.",
        parse=bounded_float(0.05, 3600),
    )

    hints_s: float = setting(
        "FLEETWIRE_WATCHER_HINTS_S",
        1.0,
        help="Seconds between looks for calls of cloud providers that the bus did not tell of.",
        parse=bounded_float(0.02, 60),
    )
    remote_active_s: float = setting(
        "FLEETWIRE_WATCHER_REMOTE_ACTIVE_S",
        1.0,
        help="Seconds between two questions for changes to a cloud provider while there are some.",
        parse=bounded_float(0.01, 3600),
    )
    remote_idle_s: float = setting(
        "FLEETWIRE_WATCHER_REMOTE_IDLE_S",
        10.0,
        help="Seconds between them at most, which is when a change is found of which no call told.",
        parse=bounded_float(0.01, 3600),
    )
    listing_s: float = setting(
        "FLEETWIRE_WATCHER_LISTING_S",
        30.0,
        help="The same where every question is a listing of all files (S3).",
        parse=bounded_float(0.01, 86400),
    )
    resync_s: float = setting(
        "FLEETWIRE_WATCHER_RESYNC_S",
        86400.0,
        help="Seconds between readings of everything at a provider that keeps a log of changes.",
        parse=bounded_float(1, 30 * 86400),
    )
    subscription_s: float = setting(
        "FLEETWIRE_WATCHER_SUBSCRIPTION_S",
        172800.0,
        help="Seconds for which a provider is asked to call us; renewed at half of them.",
        parse=bounded_float(60, 600000),
    )

    def check(self) -> list[str]:
        """What the settings contradict among themselves."""
        problems = self.provider_problems(has_local=False)
        if not self.remote_active_s <= self.remote_idle_s:
            problems.append("FLEETWIRE_WATCHER_REMOTE_ACTIVE_S must be at most FLEETWIRE_WATCHER_REMOTE_IDLE_S")
        if not self.heartbeat_s < self.trust_s < self.lease_s:
            problems.append(
                "FLEETWIRE_WATCHER_HEARTBEAT_S < FLEETWIRE_WATCHER_TRUST_S < FLEETWIRE_WATCHER_LEASE_S must hold, "
                f"not {self.heartbeat_s:g}, {self.trust_s:g}, {self.lease_s:g}"
            )
        if not self.membership_s * 4 <= self.silence_s <= self.lease_s:
            problems.append(
                "FLEETWIRE_WATCHER_SILENCE_S must be at least four times FLEETWIRE_WATCHER_MEMBERSHIP_S and at most "
                f"FLEETWIRE_WATCHER_LEASE_S, not {self.silence_s:g}"
            )
        return problems
