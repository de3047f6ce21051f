"""What the files gateway reads from the environment."""

from dataclasses import dataclass

from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.settings import CloudSettings
from shared.key_watch import KeyWatchSettings
from shared.keys import FilesKeySettings
from shared.settings import bounded_float, bounded_int, setting
from shared.signed_urls import host_of
from shared.telemetry.health import OpsSettings
from shared.telemetry.logs import LogSettings


def base_url(raw: str) -> str:
    """A setting's parser: scheme, host and port, nothing more."""
    host_of(raw)
    return raw


@dataclass(frozen=True, kw_only=True)
class Settings(CloudSettings, ProviderSettings, FilesKeySettings, KeyWatchSettings, OpsSettings, LogSettings):
    """All settings of the process."""

    host: str = setting("FLEETWIRE_FILES_HOST", "127.0.0.1", help="Address of the gateway.")
    port: int = setting(
        "FLEETWIRE_FILES_PORT", 8090, help="Port of the gateway; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    url: str | None = setting(
        "FLEETWIRE_FILES_URL",
        None,
        help="Address by which devices reach the gateway, as the API signs it; default: its own host and port.",
        parse=base_url,
    )
    ops_port: int = setting(
        "FLEETWIRE_OPS_PORT", 9400, help="Operations port; 0 takes any free one.", parse=bounded_int(0, 65535)
    )
    transfers_max: int = setting(
        "FLEETWIRE_FILES_TRANSFERS_MAX",
        64,
        help="Transfers at a time; one more is answered 503. Each takes at most about 1 MiB of memory.",
        parse=bounded_int(1, 10_000),
    )
    connections_max: int = setting(
        "FLEETWIRE_FILES_CONNECTIONS_MAX", 1_000, help="Open connections.", parse=bounded_int(1, 100_000)
    )
    upload_max_bytes: int = setting(
        "FLEETWIRE_FILES_UPLOAD_MAX_BYTES",
        5 * 1024**3,
        help="Largest upload, whatever was signed.",
        parse=bounded_int(1, 2**50),
    )
    stall_s: float = setting(
        "FLEETWIRE_FILES_STALL_S",
        30.0,
        help="Seconds after which a peer that neither takes nor sends a byte is cut off.",
        parse=bounded_float(0.05, 3600),
    )
    head_s: float = setting(
        "FLEETWIRE_FILES_HEAD_S", 10.0, help="Seconds for a request's head to arrive.", parse=bounded_float(0.05, 3600)
    )
    transfer_min_s: float = setting(
        "FLEETWIRE_FILES_TRANSFER_MIN_S",
        60.0,
        help="Seconds that every transfer may take, however small.",
        parse=bounded_float(0.05, 86_400),
    )
    bytes_per_s_min: int = setting(
        "FLEETWIRE_FILES_BYTES_PER_S_MIN",
        2_048,
        help="Least average rate: a transfer may take its size divided by this, beyond the seconds above.",
        parse=bounded_int(1, 2**30),
    )
    transfer_max_s: float = setting(
        "FLEETWIRE_FILES_TRANSFER_MAX_S",
        43_200.0,
        help="Seconds that no transfer may exceed; keep it below FLEETWIRE_PHOTO_PENDING_S.",
        parse=bounded_float(0.05, 30 * 86_400),
    )
    draft_age_s: float = setting(
        "FLEETWIRE_FILES_DRAFT_AGE_S",
        3_600.0,
        help="Age at which the draft of an upload that died is removed.",
        parse=bounded_float(0, 2**30),
    )
    leave_s: float = setting(
        "FLEETWIRE_FILES_LEAVE_S",
        10.0,
        help="Seconds that open transfers get to finish after SIGTERM.",
        parse=bounded_float(0, 15),
    )

    def check(self) -> list[str]:
        """What the settings contradict among themselves."""
        problems = self.provider_problems()
        if self.url is None and self.host in ("", "0.0.0.0", "::"):  # noqa: S104 - to refuse it
            problems.append(
                "FLEETWIRE_FILES_URL is not set: FLEETWIRE_FILES_HOST is every address, so say which one devices use"
            )
        return problems
