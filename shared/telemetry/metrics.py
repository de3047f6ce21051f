"""Every metric, declared once; processes import what they count and nothing declares one elsewhere.

Names are `fleetwire_…`, units are in the name, distributions are histograms. Labels have few, fixed values: never a
device, a file or a free text. A `labels()` lookup costs about a microsecond, so hot paths keep the child it returns.
"""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.gc_collector import GCCollector

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.075, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
_SLOW: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

# Commit to ack, with a bound at the second that is promised; and a takeover, with one at its 33 s.
_PROMISED: Final = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
_TAKEOVERS: Final = (1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 33.0, 40.0, 60.0, 120.0, 600.0)

_COUNTS: Final = (0.0, 1.0, 5.0, 20.0, 100.0, 500.0, 2_000.0, 10_000.0, 100_000.0)


def _counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(f"fleetwire_{name}", help, labels, registry=REGISTRY)


def _gauge(name: str, help: str, *labels: str) -> Gauge:
    return Gauge(f"fleetwire_{name}", help, labels, registry=REGISTRY)


def _histogram(name: str, help: str, *labels: str, buckets: tuple[float, ...] = _FAST) -> Histogram:
    return Histogram(f"fleetwire_{name}", help, labels, buckets=buckets, registry=REGISTRY)


# Every process
KEYS_READ_ANEW = _counter("keys_read_anew_total", "Times a changed key set was taken from its file.", "set")
KEYS_UNREADABLE = _gauge(
    "keys_unreadable", "1 while the file of a key set cannot be used and the old set goes on.", "set"
)
LOOP_DELAY_SECONDS = _histogram("loop_delay_seconds", "How late the event loop ran a timer, looked at each second.")
MACHINE_CPU_SECONDS = _counter("machine_cpu_seconds_total", "CPU time of the machine that was in use, of all cores.")
MACHINE_CPUS = _gauge("machine_cpus", "Cores of the machine.")
MACHINE_MEMORY_USED_BYTES = _gauge(
    "machine_memory_used_bytes",
    "Memory in use of the process's control group, if that has a bound, else of the machine.",
)
MACHINE_MEMORY_LIMIT_BYTES = _gauge("machine_memory_limit_bytes", "Memory that there is of the same.")
MACHINE_DISK_OPERATIONS = _counter(
    "machine_disk_operations_total", "Reads and writes that the machine's disks did.", "direction"
)
MACHINE_NETWORK_BYTES = _counter(
    "machine_network_bytes_total", "Bytes in and out of the machine, the loopback apart.", "direction"
)
PROCESS_READY = _gauge("process_ready", "1 while the process is ready, else 0.")
PROCESS_TASKS = _gauge("process_tasks", "Tasks of the event loop.")
STAGE_LAG_SECONDS = _histogram(
    "stage_lag_seconds",
    "Time that events took to a stage of their life, from the one that is timed before it.",
    "stage",
)

# Bus, in every process that publishes or reads
BUS_CANARY_SECONDS = _histogram("bus_canary_seconds", "Round trip of a canary through the publish path.")
BUS_CANARIES_LATE = _counter("bus_canaries_late_total", "Canaries that did not return in time.")
BUS_CACHE_FAILURES = _counter(
    "bus_cache_failures_total", "Times that Redis was not asked for, or did not keep, a cached answer.", "reason"
)
BUS_CONNECTED = _gauge("bus_connected", "1 while the connection of this role to its server is up.", "role")
BUS_DROPPED = _counter("bus_dropped_total", "Messages not sent to Redis.", "role", "reason")
BUS_GAPS = _counter("bus_gaps_total", "Breaks in a slot's subscription, by cause.", "cause")
BUS_DELIVERIES = _counter("bus_deliveries_total", "Receivers that Redis counted for messages of this role.", "role")
BUS_MAPS = _counter("bus_maps_total", "Maps of a cluster's nodes that were fetched, by what they said.", "result")
BUS_MOVED = _counter("bus_moved_total", "Commands sent again to another node, because their key had moved.", "role")
BUS_NODES = _gauge("bus_nodes", "Nodes of Redis that this role is to be connected to.", "role")
BUS_RECOVERIES = _counter("bus_recoveries_total", "Returns to a bus that is well, by the worst state before.", "worst")
BUS_TROUBLE_SECONDS = _histogram(
    "bus_trouble_seconds", "How long the bus was in a state other than ok, once it had left it.", "state", buckets=_SLOW
)
BUS_MALFORMED = _counter("bus_malformed_total", "Messages from Redis that could not be read.")
BUS_PUBLISHED = _counter("bus_published_total", "Messages that Redis took.", "role")
BUS_QUEUED = _gauge("bus_queued", "Messages that wait for Redis.", "role")
REDIS_MEMORY_RATIO = _gauge("redis_memory_ratio", "Part of its memory that a shard of Redis uses.", "shard")
REDIS_SETTLED = _gauge("redis_settled", "1 while every server of the Redis Cluster is in it and has nothing to move.")
BUS_RECEIVED = _counter("bus_received_total", "Messages received from slots.")
BUS_RECONNECTS = _counter("bus_reconnects_total", "Connections to Redis that had to be made again.", "role")
BUS_STALL_SECONDS = _histogram("bus_stall_seconds", "How long a hub's loop stood still between looks at the bus.")
BUS_STATE = _gauge("bus_state", "1 for the state the bus is judged to be in (ok, doubt, degraded, deaf).", "state")

# Store, in every process with a pool
DB_ERRORS = _counter("db_errors_total", "Errors of Postgres that ended what was asked, by what they mean.", "kind")
DB_RETRIES = _counter("db_retries_total", "Statements and transactions run again, since they had no effect.")
DB_CONNECTIONS = _gauge("db_connections", "Connections to Postgres, open in all and idle.", "role", "state")
DB_POOL_WAIT_SECONDS = _histogram("db_pool_wait_seconds", "Time until the pool gave a connection.", "role")
DB_READS = _counter("db_reads_total", "Reads that may go to a copy, by who answered and why.", "by", "why")
DB_REPLICA_LAG_SECONDS = _gauge("db_replica_lag_seconds", "How late a copy was when it was looked at last.")
DB_REPLICAS_USABLE = _gauge("db_replicas_usable", "Copies that are read from.")
DB_POOL_WAITING = _gauge("db_pool_waiting", "How many wait for a connection now.", "role")

# Sync, in every process that takes operations
SYNC_OPERATIONS = _counter("sync_operations_total", "Operations of sync batches, by what became of them.", "status")

# hub
HUB_ACKS = _counter("hub_acks_total", "Ack frames taken.")
HUB_ACKS_DROPPED = _counter("hub_acks_dropped_total", "Acks given up because too many devices' waited for Postgres.")
HUB_ACKS_WRITE_SECONDS = _histogram("hub_acks_write_seconds", "Duration of a gathered write of acks.")
HUB_ACKS_WRITTEN = _counter("hub_acks_written_total", "Cursor rows moved by gathered acks.")
HUB_BACKLOG_SIZE = _histogram(
    "hub_backlog_size", "Events that a device had missed when it was welcomed.", buckets=_COUNTS
)
HUB_BEHIND = _gauge("hub_behind", "Connections whose window is full.")
HUB_CLOSES = _counter("hub_closes_total", "Sockets closed, by code.", "code")
HUB_COMPRESSED_BYTES = _counter(
    "hub_compressed_bytes_total", "Bytes of frames sent compressed, before (in) and after (out).", "side"
)
HUB_CONNECTIONS = _gauge("hub_connections", "Open device sockets.")
HUB_CONNECTION_CAPACITY = _gauge("hub_connection_capacity", "Most device sockets this hub takes.")
HUB_DELIVERY_SECONDS = _histogram(
    "hub_delivery_seconds",
    "Recorded to acked, of timed events of connected devices.",
    buckets=_PROMISED,
)
HUB_EVENTS_SENT = _counter("hub_events_sent_total", "Event frames written.", "path")
HUB_FRAMES_REFUSED = _counter("hub_frames_refused_total", "Frames answered by an error or a close.", "code")
HUB_HANDSHAKES = _gauge("hub_handshakes", "Handshakes under way.")
HUB_GREETING_SECONDS = _histogram("hub_greeting_seconds", "Handshake to welcome.")
HUB_HANDSHAKES_REFUSED = _counter("hub_handshakes_refused_total", "Handshakes refused.", "status", "reason")
HUB_LOG_READ_SECONDS = _histogram("hub_log_read_seconds", "Gathered log reads.")
HUB_NOTICES = _counter("hub_notices_total", "Notices written to a device (sent) and not (behind, full).", "result")
HUB_MOVES = _counter("hub_moves_total", "Devices sent to another hub, by why and what came of it.", "reason", "outcome")
HUB_MOVES_LEFT = _gauge("hub_moves_left", "Devices that are still to be sent to another hub.")
HUB_RESETS = _counter("hub_resets_total", "Resets said to devices.", "reason")
HUB_SYNC_SECONDS = _histogram("hub_sync_seconds", "Duration of a batch of operations that came by a socket.")
HUB_SYNC_WAITING = _gauge("hub_sync_waiting", "Batches of operations from sockets that wait.")
HUB_STRANGERS = _gauge("hub_strangers", "Connected devices that belong to another hub.")
HUB_RTT_SECONDS = _histogram("hub_rtt_seconds", "Round trip of a ping, what waits before it included.")
HUB_SOCKETS_CUT = _counter("hub_sockets_cut_total", "Sockets cut before they said anything, by the limit.", "limit")
HUB_SWEEP_SECONDS = _histogram("hub_sweep_seconds", "Duration of a sweep.")
HUB_WINDOW_STALL_SECONDS = _histogram(
    "hub_window_stall_seconds", "How long a window was full while more events waited.", buckets=_SLOW
)

# api
API_REQUESTS = _counter("api_requests_total", "Requests answered.", "route", "method", "status", "client")
API_REQUEST_SECONDS = _histogram(
    "api_request_seconds", "Duration of a request, long-polls apart.", "route", "method", "client"
)
API_EVENTS_RECORDED = _counter("api_events_recorded_total", "Events published by REST, by result.", "result")
API_SMALL_JOBS = _counter(
    "api_small_jobs_total",
    "Small jobs that came while no hints went out: handed to a process of the API's own, or left to polling (full, "
    "not_ready).",
    "outcome",
)
API_KEYED_REQUESTS = _counter(
    "api_keyed_requests_total", "Requests with an Idempotency-Key, by what became of them.", "outcome"
)
API_INSTANCES = _gauge("api_instances", "API processes that live, as this one last heard.")
API_LIVE_PAGES = _gauge("api_live_pages", "Operators' pages that are open at this process.")
API_LONG_POLLS = _gauge("api_long_polls", "Long-polls that wait.")
API_NOTICES = _counter("api_notices_total", "Notices by what became of them at the API.", "result")
API_PHOTOS = _counter("api_photos_total", "Photos by what became of a request for one, or of the photo.", "result")
API_RATE_LIMITED = _counter("api_rate_limited_total", "Requests refused over a rate, by whose limit it was.", "limit")
API_RATE_LOCAL = _gauge("api_rate_local", "1 while Redis is away and this instance limits by its own share, else 0.")
API_RATE_PRINCIPALS = _gauge("api_rate_principals", "Callers whose own share this instance keeps.")
API_SHED = _counter("api_shed_total", "Requests sent away because too many waited for the database.", "shed")
API_SHED_PRESSURE = _gauge("api_shed_pressure", "What is sent away: 0 nothing, 1 lists, 2 all but acks.")
API_REVOCATIONS = _counter("api_revocations_total", "Revocations taken, of one token or of a device.", "of")
API_TEMPLATE_READS = _counter(
    "api_template_reads_total", "Templates read, by where the answer was: process, redis, postgres, or none.", "tier"
)
API_TEMPLATE_COMPARES = _counter(
    "api_template_compares_total",
    "Times that all templates kept were compared with Postgres, done or failed.",
    "result",
)
API_TEMPLATES_DROPPED = _counter(
    "api_templates_dropped_total", "Templates not kept any more, by why: signal, compare, age, full.", "reason"
)
API_TEMPLATES_KEPT_BYTES = _gauge("api_templates_kept_bytes", "Bytes of templates that this process keeps.")
HOOKS = _counter("hooks_total", "Calls of cloud providers, by what became of them.", "provider", "verdict")
API_TOKENS_REFUSED = _counter("api_tokens_refused_total", "Bearer tokens refused.", "reason")

# Hints of jobs, in workers. Sending them is counted as the bus's role job_hints, whatever server carries them.
HINTS_REACHABLE = _gauge("job_hints_reachable", "1 while a worker hears hints of this queue.", "queue")
HINTS_TAKEN = _counter(
    "job_hints_taken_total", "Hints that workers took: new ones, and ones whose taker died (claimed).", "queue", "how"
)

# Cloud providers, in every process that asks them
CLOUD_PARTS = _counter("cloud_parts_total", "Parts of uploads: brought, and calls made again.", "store", "outcome")
CLOUD_QUARANTINED = _counter("cloud_quarantined_total", "Uploads that arrived wrong twice.", "store")
CLOUD_REQUESTS = _counter(
    "cloud_requests_total",
    "Requests to cloud providers, each try, by outcome: ok, denied (4xx), refused (too many), failed, broken, unsent.",
    "store",
    "call",
    "outcome",
)
CLOUD_AVOIDED = _gauge("cloud_avoided", "1 while new responses are sent elsewhere, since the store fails.", "store")
CLOUD_RESTARTS = _counter("cloud_restarts_total", "Uploads that began anew from their first byte.", "store")
CLOUD_SECONDS = _histogram(
    "cloud_seconds",
    "One try of a request to a cloud provider, until its answer began or was there.",
    "store",
    "call",
    buckets=_SLOW,
)
CLOUD_BUDGET_WAIT_SECONDS = _histogram(
    "cloud_budget_wait_seconds",
    "Waiting of a call for its turn in the budget that all processes share.",
    "store",
    buckets=_SLOW,
)

FEED_LAG_SECONDS = _gauge(
    "feed_lag_seconds", "Since the provider was last asked and had no more to tell, of the feed that is worst.", "store"
)
FEED_UNOWNED_SECONDS = _gauge(
    "feed_unowned_seconds", "For how long nobody has held the lease of the feed that is worst, as seen here.", "store"
)
FEED_POLLS = _counter("feed_polls_total", "Pages of changes asked for, by whether there was news.", "store", "result")
FEED_RESYNCS = _counter("feed_resyncs_total", "Runs over everything that began, by why.", "store", "reason")
FEED_RUN_ITEMS = _gauge("feed_run_items", "Items told so far by runs over everything that go on.", "store")
FEED_SUBSCRIPTIONS = _counter("feed_subscriptions_total", "What became of providers' calls to us.", "store", "change")

# watcher
WATCHER_FEEDS_OWNED = _gauge("watcher_feeds_owned", "Feeds this watcher holds the lease of.")
WATCHER_FILES = _counter("watcher_files_total", "Files seen, by what became of them.", "result")
WATCHER_LEASE_CHANGES = _counter("watcher_lease_changes_total", "Leases gained and lost.", "change")
WATCHER_OVERFLOWS = _counter("watcher_overflows_total", "Notification queues that overflowed.")
WATCHER_RESCAN_SECONDS = _histogram("watcher_rescan_seconds", "Duration of a rescan of one feed.", buckets=_SLOW)
WATCHER_REFUSED = _counter("watcher_refused_total", "Paths refused, by reason.", "reason")
WATCHER_SEEN_SECONDS = _histogram("watcher_seen_seconds", "File closed or moved in to row committed.")
WATCHER_TAKEOVER_SECONDS = _histogram(
    "watcher_takeover_seconds",
    "From the last sign of a feed's owner that was lost until this watcher has the feed.",
    buckets=_TAKEOVERS,
)
WATCHER_WAITING = _gauge("watcher_files_waiting", "Files of devices that do not exist (yet), of the feeds held.")

# worker
RETENTION_EVENTS = _counter("retention_events_total", "Events that retention deleted.")
RETENTION_KEYS = _counter("retention_keys_total", "Dedupe keys, used tickets and revocations that retention deleted.")
WORKER_CANCELLED = _counter("worker_cancelled_total", "Jobs cancelled while this worker held them.", "queue")
WORKER_CLAIMED = _counter("worker_claimed_total", "Jobs claimed.", "queue")
WORKER_ENDINGS_SIZE = _histogram("worker_endings_size", "Jobs ended by one transaction.", buckets=_COUNTS)
WORKER_FINISHED = _counter("worker_finished_total", "Jobs finished, by outcome.", "queue", "kind", "outcome")
WORKER_HANDLER_SECONDS = _histogram("worker_handler_seconds", "Duration of a handler.", "kind", buckets=_SLOW)
WORKER_LEASES_LOST = _counter("worker_leases_lost_total", "Jobs whose lease was over before their completion.", "queue")
WORKER_QUEUED = _gauge("worker_queued", "Jobs that wait, counted up to 10,000.", "queue")
WORKER_QUEUED_OLDEST_SECONDS = _gauge(
    "worker_queued_oldest_seconds", "For how long the oldest job that waits could have run.", "queue"
)
WORKER_QUEUE_SECONDS = _histogram("worker_queue_seconds", "Job queued to claimed.", "queue", buckets=_SLOW)
WORKER_REPLACED = _counter(
    "worker_responses_replaced_total", "Responses that a store did not take and another did.", "left", "store"
)
WORKER_RETRIES = _counter("worker_retries_total", "Attempts that failed and were queued again.", "queue")
WORKER_SCHEDULED = _counter("worker_scheduled_total", "Jobs queued by schedules.")
WORKER_RUNNING = _gauge("worker_running", "Jobs this worker holds.")

# the worker's model handler
MODEL_CALLS = _counter("worker_model_calls_total", "Calls of a model, by how they ended.", "outcome")
MODEL_COST = _counter("worker_model_cost_total", "What model calls cost, in the currency that prices are told in.")
MODEL_REFUSED = _counter("worker_model_refused_total", "Requests that a budget had no room for.", "budget")
MODEL_SECONDS = _histogram("worker_model_seconds", "A model asked to its answer settled.", buckets=_SLOW)
MODEL_TOKENS = _counter("worker_model_tokens_total", "Tokens that models counted.", "direction")

# files
FILES_BYTES = _counter("files_bytes_total", "Bytes streamed.", "direction")
FILES_REQUESTS = _counter("files_requests_total", "Requests answered.", "method", "status")
FILES_REFUSED = _counter("files_refused_total", "Requests refused, by reason.", "reason")
FILES_TRANSFERS = _gauge("files_transfers", "Uploads and downloads under way.")


# A rise is seen only in a series that was seen before: what must not be missed when it happens first is there from the
# start, as 0.
DB_ERRORS.labels("unavailable")
HUB_HANDSHAKES_REFUSED.labels("503", "full")
HUB_RESETS.labels("epoch")
