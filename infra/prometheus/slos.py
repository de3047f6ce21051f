"""What users are promised, and how fast a budget of broken promises may burn [pure].

A promise is kept in so many of a hundred events; the rest is its budget. An alert asks how many times too fast the
budget of 30 days is being spent, over a long window, which says that it matters, and over a short one, which says that
it still goes on. Below a number of bad events nobody is woken: of three requests in a quiet night one may fail.

Windows are summed up from rates over 5 minutes that are recorded once a minute, so a process that restarts, comes or
goes is neither a gap nor a jump in them, and the window of three days costs little to ask.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["BURNS", "RATE", "SLOS", "WINDOWS", "Burn", "Slo"]

RATE: Final = "5m"
WINDOWS: Final = ("30m", "1h", "6h", "3d")


@dataclass(frozen=True, slots=True)
class Burn:
    """`factor` times too fast over both windows. `word` ends the alert's name."""

    word: str
    factor: float
    long: str
    short: str
    severity: str
    escalation: str


# A page wakes somebody; a ticket waits for the day. 2 % of a month's budget in an hour, 5 % in six, 10 % in three days.
BURNS: Final = (
    Burn("BurnsFast", 14.4, "1h", "5m", "page", "immediate"),
    Burn("BurnsSteadily", 6.0, "6h", "30m", "page", "within_30m"),
    Burn("BurnsSlowly", 1.0, "3d", "6h", "ticket", "next_day"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slo:
    """`total` and `bad` are events a second over `RATE`; both have exactly the labels of `level`.

    `bad_min` is how many bad events an alert needs within its long window. `promise` completes "it is promised that".
    """

    name: str
    metric: str
    level: tuple[str, ...]
    objective: float
    total: str
    bad: str
    bad_min: float
    page: str
    promise: str
    is_time: bool = False  # its events are seconds

    @property
    def budget(self) -> float:
        """The part of events that may be bad."""
        return round(1 - self.objective, 6)

    def series(self, what: str, operation: str) -> str:
        """The name of a recorded series: level, metric, operation."""
        return f"{'_'.join(self.level) or 'fleet'}:{self.metric}_{what}:{operation}"


def _slower(histogram: str, le: str, by: str = "") -> tuple[str, str]:
    """All events of a histogram, and those above a bound of it."""
    all_of = f"sum{by}(rate({histogram}_count[{RATE}]))"
    # Never below 0, although the two series may be scraped a moment apart.
    return all_of, f'clamp_min({all_of} - sum{by}(rate({histogram}_bucket{{le="{le}"}}[{RATE}])), 0)'


_ROUTES: Final = 'route!~"/health|/ready|preflight|unmatched"'
_REQUESTS: Final = f"sum by (route, client)(rate(fleetwire_api_requests_total{{{_ROUTES}}}[{RATE}]))"
_REQUESTS_FAILED: Final = (
    f'sum by (route, client)(rate(fleetwire_api_requests_total{{{_ROUTES}, status=~"5.."}}[{RATE}]))'
)
_DELIVERED, _DELIVERED_LATE = _slower("fleetwire_hub_delivery_seconds", "1.0")
_ANSWERED, _ANSWERED_LATE = _slower("fleetwire_api_request_seconds", "0.3", " by (route, client)")
_SEEN, _SEEN_LATE = _slower("fleetwire_watcher_seen_seconds", "1.2")
_TAKEN, _TAKEN_LATE = _slower("fleetwire_watcher_takeover_seconds", "33.0")

SLOS: Final = (
    Slo(
        name="Delivery",
        metric="fleetwire_delivery",
        level=(),
        objective=0.99,
        total=_DELIVERED,
        bad=_DELIVERED_LATE,
        bad_min=10,
        page="delivery",
        promise="99 % of events are acked by connected devices within 1 s of their recording",
    ),
    Slo(
        name="ApiErrors",
        metric="fleetwire_api",
        level=("route", "client"),
        objective=0.999,
        total=_REQUESTS,
        bad=f"{_REQUESTS_FAILED} or {_REQUESTS} * 0",
        bad_min=10,
        page="api-errors",
        promise="99.9 % of requests to each route by each kind of client are answered without a 5xx",
    ),
    Slo(
        name="ApiLatency",
        metric="fleetwire_api_latency",
        level=("route", "client"),
        objective=0.95,
        total=_ANSWERED,
        bad=_ANSWERED_LATE,
        bad_min=20,
        page="api-latency",
        promise="95 % of requests to each route by each kind of client take at most 0.3 s, long-polls apart",
    ),
    Slo(
        name="Freshness",
        metric="fleetwire_freshness",
        level=("store",),
        objective=0.995,
        # Seconds in which the store is watched, and those in which it is not: a rate of 1 or 0.
        total="store:fleetwire_feed_stale:bool * 0 + 1",
        bad=f"avg_over_time(store:fleetwire_feed_stale:bool[{RATE}])",
        bad_min=120,
        page="freshness",
        promise=(
            "in 99.5 % of the time each store was asked for changes within the last 120 s, and no feed of it is "
            "without an owner for longer than 60 s"
        ),
        is_time=True,
    ),
    Slo(
        name="LocalFiles",
        metric="fleetwire_local_files",
        level=(),
        objective=0.99,
        total=_SEEN,
        bad=_SEEN_LATE,
        bad_min=10,
        page="local-files",
        promise="99 % of files on the local disk are recorded within 1.2 s of being closed",
    ),
    Slo(
        name="Takeover",
        metric="fleetwire_takeover",
        level=(),
        objective=0.99,
        total=_TAKEN,
        bad=_TAKEN_LATE,
        bad_min=3,
        page="takeover",
        promise="99 % of feeds whose watcher fell silent have another within 33 s of its last heartbeat",
    ),
)
