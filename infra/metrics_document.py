"""docs/metrics.md, made from the declarations and from the questions that are asked of them here.

`python -m infra.metrics_document > docs/metrics.md` writes it (a test compares, and that no metric is left out).
"""

import sys
from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from shared.telemetry import metrics

__all__ = ["QUESTIONS", "declared", "document"]

_Metric = Counter | Gauge | Histogram

# Question by question, in the order in which one asks: the metrics that answer it, by the names they are declared with.
QUESTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "How late is an event, and where does it wait?": (
        "HUB_DELIVERY_SECONDS",
        "STAGE_LAG_SECONDS",
        "WATCHER_SEEN_SECONDS",
        "WORKER_QUEUE_SECONDS",
        "WORKER_HANDLER_SECONDS",
        "MODEL_SECONDS",
    ),
    "How many devices are here, how many may be, and do they come and go?": (
        "HUB_CONNECTIONS",
        "HUB_CONNECTION_CAPACITY",
        "HUB_HANDSHAKES",
        "HUB_GREETING_SECONDS",
        "HUB_CLOSES",
        "HUB_RTT_SECONDS",
    ),
    "How do cloud providers answer?": (
        "CLOUD_REQUESTS",
        "CLOUD_SECONDS",
        "CLOUD_BUDGET_WAIT_SECONDS",
        "CLOUD_AVOIDED",
        "CLOUD_PARTS",
        "CLOUD_RESTARTS",
        "CLOUD_QUARANTINED",
    ),
    "Who is refused, and why?": (
        "HUB_HANDSHAKES_REFUSED",
        "HUB_SOCKETS_CUT",
        "HUB_FRAMES_REFUSED",
        "API_TOKENS_REFUSED",
        "API_SHED",
        "API_SHED_PRESSURE",
        "API_RATE_LIMITED",
        "API_RATE_LOCAL",
        "API_RATE_PRINCIPALS",
        "API_INSTANCES",
        "API_REVOCATIONS",
        "HOOKS",
    ),
    "Do devices get what they missed, and do they keep up?": (
        "HUB_BACKLOG_SIZE",
        "HUB_EVENTS_SENT",
        "HUB_LOG_READ_SECONDS",
        "HUB_RESETS",
        "HUB_BEHIND",
        "HUB_WINDOW_STALL_SECONDS",
        "HUB_ACKS",
        "HUB_ACKS_WRITTEN",
        "HUB_ACKS_WRITE_SECONDS",
        "HUB_ACKS_DROPPED",
        "HUB_NOTICES",
        "HUB_COMPRESSED_BYTES",
    ),
    "Is the bus well? (Nothing is lost when it is not: the log repairs.)": (
        "BUS_STATE",
        "BUS_TROUBLE_SECONDS",
        "BUS_RECOVERIES",
        "BUS_CANARY_SECONDS",
        "BUS_CANARIES_LATE",
        "BUS_CONNECTED",
        "BUS_RECONNECTS",
        "BUS_GAPS",
        "BUS_NODES",
        "BUS_MAPS",
        "BUS_MOVED",
        "BUS_MALFORMED",
        "REDIS_SETTLED",
        "REDIS_MEMORY_RATIO",
        "HUB_SWEEP_SECONDS",
    ),
    "How much goes over the bus, and to how many?": (
        "BUS_PUBLISHED",
        "BUS_DELIVERIES",
        "BUS_RECEIVED",
        "BUS_QUEUED",
        "BUS_DROPPED",
    ),
    "Are devices where they belong?": ("HUB_STRANGERS", "HUB_MOVES_LEFT", "HUB_MOVES"),
    "Is Postgres well?": (
        "DB_ERRORS",
        "DB_RETRIES",
        "DB_CONNECTIONS",
        "DB_POOL_WAITING",
        "DB_POOL_WAIT_SECONDS",
        "DB_READS",
        "DB_REPLICAS_USABLE",
        "DB_REPLICA_LAG_SECONDS",
    ),
    "Is a process well?": (
        "PROCESS_READY",
        "PROCESS_TASKS",
        "LOOP_DELAY_SECONDS",
        "MACHINE_CPU_SECONDS",
        "MACHINE_CPUS",
        "MACHINE_MEMORY_USED_BYTES",
        "MACHINE_MEMORY_LIMIT_BYTES",
        "MACHINE_DISK_OPERATIONS",
        "MACHINE_NETWORK_BYTES",
        "BUS_STALL_SECONDS",
        "KEYS_READ_ANEW",
        "KEYS_UNREADABLE",
    ),
    "What is asked of the API?": (
        "API_REQUESTS",
        "API_REQUEST_SECONDS",
        "API_LONG_POLLS",
        "API_LIVE_PAGES",
        "API_EVENTS_RECORDED",
        "API_NOTICES",
        "API_PHOTOS",
        "API_TEMPLATE_READS",
        "API_TEMPLATES_DROPPED",
        "API_TEMPLATES_KEPT_BYTES",
        "API_TEMPLATE_COMPARES",
        "BUS_CACHE_FAILURES",
        "API_KEYED_REQUESTS",
        "API_SMALL_JOBS",
        "SYNC_OPERATIONS",
        "HUB_SYNC_SECONDS",
        "HUB_SYNC_WAITING",
    ),
    "Are files seen?": (
        "FEED_LAG_SECONDS",
        "FEED_UNOWNED_SECONDS",
        "FEED_POLLS",
        "FEED_RESYNCS",
        "FEED_RUN_ITEMS",
        "FEED_SUBSCRIPTIONS",
        "WATCHER_FILES",
        "WATCHER_REFUSED",
        "WATCHER_WAITING",
        "WATCHER_FEEDS_OWNED",
        "WATCHER_LEASE_CHANGES",
        "WATCHER_TAKEOVER_SECONDS",
        "WATCHER_OVERFLOWS",
        "WATCHER_RESCAN_SECONDS",
    ),
    "Are jobs done?": (
        "WORKER_QUEUED",
        "WORKER_QUEUED_OLDEST_SECONDS",
        "WORKER_RUNNING",
        "HINTS_REACHABLE",
        "HINTS_TAKEN",
        "WORKER_CLAIMED",
        "WORKER_CANCELLED",
        "WORKER_SCHEDULED",
        "WORKER_FINISHED",
        "WORKER_ENDINGS_SIZE",
        "WORKER_RETRIES",
        "WORKER_REPLACED",
        "WORKER_LEASES_LOST",
        "MODEL_CALLS",
        "MODEL_TOKENS",
        "MODEL_COST",
        "MODEL_REFUSED",
        "RETENTION_EVENTS",
        "RETENTION_KEYS",
    ),
    "Do files come and go?": ("FILES_REQUESTS", "FILES_REFUSED", "FILES_BYTES", "FILES_TRANSFERS"),
}

# What the sentence of a declaration has no room for.
_NOTES: Final[Mapping[str, str]] = {
    "STAGE_LAG_SECONDS": (
        "`recorded`: since the file was detected. `published`: since the hint was offered to the bus. "
        "`fanned_out`: since the time that the event carries, which its recorder wrote (two machines' clocks). "
        "`sent`: since `fanned_out`, until the socket has it. `acked`: since `sent`, until the ack is here; it is "
        "durable one gathered write later. Hubs time the first event in each quarter of a second and one in 256 "
        "after it, each connection one ack at a time, and nothing that waited for the device: it was away, or its "
        "window was full."
    ),
    "HUB_DELIVERY_SECONDS": (
        "The same events as of the stages. One whose ack had not come when its connection was closed counts with the "
        "time until then, if that was more than a second, unless the device had gone on elsewhere or its link was lost."
    ),
    "MACHINE_CPU_SECONDS": "All of `machine_…` is read when it is asked for; processes of one machine say the same.",
    "API_REQUESTS": (
        "`client` is the class of a device that the rate limits know (`truck`, `warehouse`, `office`), `device` for "
        "any other, `operator`, `service`, or `nobody`: no token, or none that is good."
    ),
    "WATCHER_TAKEOVER_SECONDS": "Feeds that were given away, or whose owner came back, are none.",
    "HUB_BACKLOG_SIZE": "The count is the number of welcomes.",
    "HUB_WINDOW_STALL_SECONDS": "The count is the number of stalls; one that lasts is seen in `hub_behind`.",
    "HUB_EVENTS_SENT": "`live` came by the bus, `log` by pages of the log.",
    "HUB_CLOSES": (
        "The codes are in [protocol.md](protocol.md#close-codes); 1006: gone without a word; `other`: a number of "
        "the peer's own."
    ),
    "HUB_HANDSHAKES_REFUSED": "The reasons refine the types in [protocol.md](protocol.md#refusals).",
    "HUB_FRAMES_REFUSED": "`violation` closed the connection; the others were answered by an `error` of that code.",
    "HUB_MOVES": "What reasons and outcomes mean: [operations.md](operations.md#the-operations-port).",
    "HUB_SOCKETS_CUT": "`address`, `sockets`: too many; `request`: no request came in time.",
    "API_PHOTOS": (
        "`reserved`, `repeated`: uploads admitted. `refused`: too many wait for their confirmation. `stored`: "
        "the store holds them; `absent`, `mismatch`: it holds nothing, or something else. `expired`: never confirmed; "
        "`removed`: gone at the store, too. `expired` far above `removed` is a store that cannot be tidied."
    ),
    "BUS_TROUBLE_SECONDS": (
        "`deaf` is the hub's own fault, `degraded` everybody's, `doubt` is not decided yet; one that lasts is seen "
        "in `bus_state`."
    ),
    "BUS_DELIVERIES": (
        "Divided by `bus_published_total` of the same role: to how many hubs an event goes. It should be 1."
    ),
    "HINTS_TAKEN": "Sent and lost ones are in `bus_published`, `bus_dropped`, role `job_hints`, whatever carries them.",
    "LOOP_DELAY_SECONDS": "In every process.",
    "BUS_STALL_SECONDS": "Only what was longer than 50 ms; it is forgiven when lateness of canaries is judged.",
    "PROCESS_TASKS": "Beside it stand memory, file descriptors and CPU of the process (`process_…`).",
}

_HEAD: Final = """# Metrics

Every process shows its own at `/metrics` of its operations port, in Prometheus' text format. Made from the declarations
in `shared/telemetry/metrics.py` by `python -m infra.metrics_document > docs/metrics.md`.

Distributions are histograms, so they can be added up over processes: `histogram_quantile(0.99, sum by (le, stage)
(rate(fleetwire_stage_lag_seconds_bucket[5m])))`. Labels have few, fixed values; no label names a device.
"""


def declared() -> dict[str, _Metric]:
    """Every metric by the name it is declared with."""
    return {name: value for name, value in vars(metrics).items() if isinstance(value, _Metric)}


def document() -> str:
    """The page."""
    known = declared()
    parts = [_HEAD]
    for question, names in QUESTIONS.items():
        parts.append(f"\n## {question}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
        parts += [_row(name, known[name]) for name in names]
    return "".join(parts)


def _row(name: str, metric: _Metric) -> str:
    (family,) = metric.describe()
    shown = f"{family.name}_total" if isinstance(metric, Counter) else family.name
    labels = " ".join(f"`{label}`" for label in metric._labelnames) or "–"
    meaning = " ".join(filter(None, (family.documentation, _NOTES.get(name))))
    return f"| `{shown}` | {family.type} | {labels} | {meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(document())
