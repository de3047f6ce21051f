"""Dashboards of the API, of stores and jobs, and of what everything runs on [pure]."""

from typing import Final

from infra.grafana.panels import Board, Panel, rate_of, slowest

__all__ = ["API", "MACHINES", "WORK"]

API: Final = Board(
    uid="fleetwire-api",
    title="Fleetwire: API and files",
    says="What is asked of the API, by whom, and how it answers.",
    rows=(
        (
            "Requests",
            (
                Panel(
                    title="Who asks how much?",
                    series=[rate_of("fleetwire_api_requests_total", "client")],
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="What is asked?",
                    series=[rate_of("fleetwire_api_requests_total", "route, method")],
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    title="What fails, for whom?",
                    series=[rate_of("fleetwire_api_requests_total", "route, client, status", 'status=~"5.."')],
                    unit="reqps",
                ),
                Panel(
                    title="How slow is each route, for whom (p95)?",
                    series=[
                        slowest("fleetwire_api_request_seconds", "route")[1],
                        slowest("fleetwire_api_request_seconds", "client")[1],
                    ],
                    unit="s",
                    line=0.3,
                ),
                Panel(
                    title="Who is sent away?",
                    series=[
                        rate_of("fleetwire_api_rate_limited_total", "limit"),
                        rate_of("fleetwire_api_shed_total", "shed"),
                        rate_of("fleetwire_api_tokens_refused_total", "reason"),
                    ],
                    unit="reqps",
                ),
                Panel(
                    title="How many long-polls wait?",
                    series=[("sum by (instance)(fleetwire_api_long_polls)", "{{instance}}")],
                    unit="short",
                    says="Many are many devices without a socket.",
                ),
                Panel(
                    title="Where do templates come from?",
                    series=[rate_of("fleetwire_api_template_reads_total", "tier")],
                    unit="reqps",
                    stacked=True,
                    says="`process` is a hit of the cache; `postgres` is none.",
                ),
                Panel(
                    title="What becomes of operations of sync batches?",
                    series=[rate_of("fleetwire_sync_operations_total", "status")],
                    unit="ops",
                ),
            ),
        ),
        (
            "Files",
            (
                Panel(
                    title="How many bytes go through the gateway?",
                    series=[rate_of("fleetwire_files_bytes_total", "direction")],
                    unit="Bps",
                ),
                Panel(
                    title="How does it answer?",
                    series=[rate_of("fleetwire_files_requests_total", "method, status")],
                    unit="reqps",
                ),
            ),
        ),
    ),
)

WORK: Final = Board(
    uid="fleetwire-work",
    title="Fleetwire: stores and jobs",
    says="Whether files are seen and jobs are done.",
    rows=(
        (
            "Are files seen?",
            (
                Panel(
                    title="How long ago was each store asked last?",
                    series=[("max by (store)(fleetwire_feed_lag_seconds)", "{{store}}")],
                    unit="s",
                    line=120,
                ),
                Panel(
                    title="Is a feed without an owner?",
                    series=[("max by (store)(fleetwire_feed_unowned_seconds)", "{{store}}")],
                    unit="s",
                    line=60,
                ),
                Panel(
                    title="How long did takeovers take?",
                    series=slowest("fleetwire_watcher_takeover_seconds"),
                    unit="s",
                    line=33,
                ),
                Panel(
                    title="Who holds how many feeds?",
                    series=[("sum by (instance)(fleetwire_watcher_feeds_owned)", "{{instance}}")],
                    unit="short",
                    stacked=True,
                ),
                Panel(
                    title="What becomes of files?",
                    series=[rate_of("fleetwire_watcher_files_total", "result")],
                    unit="cps",
                ),
                Panel(
                    title="How do providers answer?",
                    series=[rate_of("fleetwire_cloud_requests_total", "store, outcome")],
                    unit="reqps",
                ),
                Panel(
                    title="How slow are providers (p95)?",
                    series=[slowest("fleetwire_cloud_seconds", "store")[1]],
                    unit="s",
                ),
                Panel(
                    title="Which stores are avoided?",
                    series=[("max by (store)(fleetwire_cloud_avoided)", "{{store}}")],
                    unit="bool",
                ),
            ),
        ),
        (
            "Are jobs done?",
            (
                Panel(
                    title="How many wait?",
                    series=[("max by (queue)(fleetwire_worker_queued)", "{{queue}}")],
                    unit="short",
                    line=100,
                ),
                Panel(
                    title="How old is the oldest?",
                    series=[("max by (queue)(fleetwire_worker_queued_oldest_seconds)", "{{queue}}")],
                    unit="s",
                    line=300,
                ),
                Panel(
                    title="How do they end?",
                    series=[rate_of("fleetwire_worker_finished_total", "kind, outcome")],
                    unit="ops",
                ),
                Panel(
                    title="How often are they tried again, or lost to another?",
                    series=[
                        rate_of("fleetwire_worker_retries_total", "queue"),
                        rate_of("fleetwire_worker_leases_lost_total", "queue"),
                    ],
                    unit="ops",
                ),
                Panel(
                    title="What do models cost?",
                    series=[rate_of("fleetwire_worker_model_cost_total")],
                    unit="none",
                    says="A second, in the currency that prices are told in.",
                ),
                Panel(
                    title="How do calls of models end?",
                    series=[rate_of("fleetwire_worker_model_calls_total", "outcome")],
                    unit="ops",
                ),
            ),
        ),
    ),
)

MACHINES: Final = Board(
    uid="fleetwire-machines",
    title="Fleetwire: machines, processes, Postgres",
    says="What everything runs on.",
    rows=(
        (
            "Machines",
            (
                Panel(
                    title="How busy are the cores?",
                    series=[("machine:fleetwire_machine_cpu:ratio_rate5m", "{{machine}}")],
                    unit="percentunit",
                    line=0.9,
                ),
                Panel(
                    title="How full is memory?",
                    series=[("instance:fleetwire_machine_memory_used:ratio", "{{instance}}")],
                    unit="percentunit",
                    line=0.8,
                ),
                Panel(
                    title="How much do disks do?",
                    series=[("machine:fleetwire_machine_disk_operations:rate5m", "{{machine}}")],
                    unit="iops",
                    line=500,
                ),
                Panel(
                    title="How much goes over the network?",
                    series=[("machine_direction:fleetwire_machine_network_bytes:rate5m", "{{machine}} {{direction}}")],
                    unit="Bps",
                ),
            ),
        ),
        (
            "Processes",
            (
                Panel(
                    title="Which are ready?",
                    series=[("fleetwire_process_ready", "{{job}} {{instance}}")],
                    unit="bool",
                ),
                Panel(
                    title="How much CPU does each take?",
                    series=[
                        ("sum by (job, instance)(rate(process_cpu_seconds_total[$__rate_interval]))", "{{instance}}")
                    ],
                    unit="percentunit",
                    line=1,
                    says="1 is one core: a loop can use no more.",
                ),
                Panel(
                    title="How much memory does each take?",
                    series=[("process_resident_memory_bytes", "{{job}} {{instance}}")],
                    unit="bytes",
                ),
                Panel(
                    title="How late are event loops (p99)?",
                    series=[slowest("fleetwire_loop_delay_seconds", "instance")[2]],
                    unit="s",
                    line=0.15,
                ),
                Panel(
                    title="How many files are open?",
                    series=[("process_open_fds / process_max_fds", "{{job}} {{instance}}")],
                    unit="percentunit",
                ),
            ),
        ),
        (
            "Is Postgres well?",
            (
                Panel(
                    title="How long does one wait for a connection?",
                    series=slowest("fleetwire_db_pool_wait_seconds", "role"),
                    unit="s",
                ),
                Panel(
                    title="How many wait for one?",
                    series=[("sum by (role, instance)(fleetwire_db_pool_waiting)", "{{role}} {{instance}}")],
                    unit="short",
                ),
                Panel(
                    title="Which errors end what was asked?",
                    series=[rate_of("fleetwire_db_errors_total", "kind"), rate_of("fleetwire_db_retries_total")],
                    unit="cps",
                ),
                Panel(
                    title="How late are copies?",
                    series=[("max by (instance)(fleetwire_db_replica_lag_seconds)", "{{instance}}")],
                    unit="s",
                    line=5,
                ),
                Panel(
                    title="Who answers reads that may go to a copy, and why?",
                    series=[rate_of("fleetwire_db_reads_total", "by, why")],
                    unit="ops",
                ),
            ),
        ),
    ),
)
