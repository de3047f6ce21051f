"""What the operators' page is told by the environment."""

from dataclasses import dataclass
from typing import Literal

from shared.settings import bounded_float, bounded_int, choice, setting

__all__ = ["DashboardSettings"]


@dataclass(frozen=True, kw_only=True)
class DashboardSettings:
    """A base class of the API's settings. Seconds end in `_s`."""

    dashboard_session_s: float = setting(
        "FLEETWIRE_DASHBOARD_SESSION_S",
        3600.0,
        help="How long a session of the operators' page lasts without being used; in all twelve times that.",
        parse=bounded_float(10, 86_400),
    )
    dashboard_secure: Literal["auto", "on", "off"] = setting(
        "FLEETWIRE_DASHBOARD_SECURE",
        "auto",
        help="Send the session by TLS only: on, off, or auto: unless the API listens on this machine only.",
        parse=choice("auto", "on", "off"),
    )
    dashboard_viewers_max: int = setting(
        "FLEETWIRE_DASHBOARD_VIEWERS_MAX",
        50,
        help="Most live pages that one API process serves.",
        parse=bounded_int(1, 1000),
    )
    dashboard_stream_s: float = setting(
        "FLEETWIRE_DASHBOARD_STREAM_S",
        600.0,
        help="How long one live stream lasts; the page opens the next by itself.",
        parse=bounded_float(1, 3600),
    )
    dashboard_period_s: float = setting(
        "FLEETWIRE_DASHBOARD_PERIOD_S",
        1.0,
        help="How often the fleet is read, once for all who look; nobody looks: never.",
        parse=bounded_float(0.05, 60),
    )
