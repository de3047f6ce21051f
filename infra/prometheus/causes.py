"""What is wrong before, or beside, what users feel [pure].

A page only where users suffer now and no budget may have told it yet; all else is a ticket, since the promises
(`slos.py`) wake somebody when it comes to that. Each says how long it must have been so: nothing is told of what heals
by itself.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["CAUSES", "RECORDED", "Cause"]

# What every set-up has; one whose stores are all elsewhere has no files gateway.
_JOBS: Final = ("fleetwire-api", "fleetwire-hub", "fleetwire-watcher", "fleetwire-worker")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """`name` without the prefix that all alerts have; `lasts` is how long `expr` must have held."""

    name: str
    expr: str
    lasts: str
    page: str
    summary: str
    severity: str = "ticket"
    escalation: str = "next_day"


_UNOWNED: Final = "max by (store)(fleetwire_feed_unowned_seconds)"
_LATE: Final = "(max by (store)(fleetwire_feed_lag_seconds) > bool 120)"

# What several rules or panels ask for. Freshness is judged at each moment; what a machine does is the same in all its
# processes, so the largest is it.
RECORDED: Final = (
    ("store:fleetwire_feed_stale:bool", f"clamp_max(({_UNOWNED} > bool 60) + ({_LATE} or {_UNOWNED} * 0), 1)"),
    (
        "machine:fleetwire_machine_cpu:ratio_rate5m",
        "max by (machine)(rate(fleetwire_machine_cpu_seconds_total[5m]) / fleetwire_machine_cpus)",
    ),
    (
        "instance:fleetwire_machine_memory_used:ratio",
        "fleetwire_machine_memory_used_bytes / (fleetwire_machine_memory_limit_bytes > 0)",
    ),
    (
        "machine:fleetwire_machine_disk_operations:rate5m",
        "max by (machine)(sum without (direction)(rate(fleetwire_machine_disk_operations_total[5m])))",
    ),
    (
        "machine_direction:fleetwire_machine_network_bytes:rate5m",
        "max by (machine, direction)(rate(fleetwire_machine_network_bytes_total[5m]))",
    ),
    (
        "fleet:fleetwire_hub_connections:sum",
        "sum(fleetwire_hub_connections)",
    ),
)

CAUSES: Final = (
    Cause(
        name="JobLost",
        # A job whose targets are all gone from discovery has no `up` at all.
        expr='(sum by (job)(up{job=~"fleetwire-.+"}) == 0) or '
        + " or ".join(f'absent(up{{job="{job}"}})' for job in _JOBS),
        lasts="1m",
        page="processes",
        summary="no process of {{ $labels.job }} answers",
        severity="page",
        escalation="immediate",
    ),
    Cause(
        name="ProcessLost",
        expr='up{job=~"fleetwire-.+"} == 0',
        lasts="2m",
        page="processes",
        summary="{{ $labels.instance }} of {{ $labels.job }} does not answer",
    ),
    Cause(
        name="ProcessNotReady",
        expr="fleetwire_process_ready == 0",
        lasts="5m",
        page="processes",
        summary="{{ $labels.instance }} of {{ $labels.job }} answers and is not ready",
    ),
    Cause(
        name="DevicesGone",
        expr=(
            "fleet:fleetwire_hub_connections:sum < 0.5 * (fleet:fleetwire_hub_connections:sum offset 10m) "
            "and (fleet:fleetwire_hub_connections:sum offset 10m) >= 20"
        ),
        lasts="1m",
        page="devices-gone",
        summary="more than half of the devices have gone within 10 minutes: {{ $value }} are left",
        severity="page",
        escalation="immediate",
    ),
    Cause(
        name="HubsFull",
        expr='sum(rate(fleetwire_hub_handshakes_refused_total{reason="full"}[5m])) * 60 > 10',
        lasts="2m",
        page="hubs-full",
        summary="hubs refuse {{ $value | humanize }} devices a minute because they are full",
        severity="page",
        escalation="within_30m",
    ),
    Cause(
        name="HubsNearlyFull",
        expr="sum(fleetwire_hub_connections) / sum(fleetwire_hub_connection_capacity) > 0.85",
        lasts="10m",
        page="hubs-full",
        summary="hubs are {{ $value | humanizePercentage }} full",
    ),
    Cause(
        name="HubMovesStuck",
        expr="min_over_time(fleetwire_hub_moves_left[10m]) > 0",
        lasts="5m",
        page="moves-stuck",
        summary="{{ $labels.instance }} has had devices to send elsewhere for more than 10 minutes",
    ),
    Cause(
        name="HubDeaf",
        expr='max by (job, instance)(max_over_time(fleetwire_bus_state{state="deaf"}[1m])) == 1',
        lasts="1m",
        page="bus",
        summary="{{ $labels.instance }} hears nothing of the bus, which serves others",
    ),
    Cause(
        name="BusDegraded",
        expr='max(max_over_time(fleetwire_bus_state{state="degraded"}[1m])) == 1',
        lasts="2m",
        page="bus",
        summary="Redis serves nobody: events come from the log, up to half a second later",
    ),
    Cause(
        name="DatabaseLost",
        expr='sum(rate(fleetwire_db_errors_total{kind="unavailable"}[5m])) > 0.2',
        lasts="1m",
        page="database",
        summary="{{ $value | humanize }} statements a second find no Postgres",
        severity="page",
        escalation="immediate",
    ),
    Cause(
        name="DatabaseCrowded",
        expr="max by (job, instance, role)(min_over_time(fleetwire_db_pool_waiting[1m])) > 0",
        lasts="5m",
        page="database",
        summary="{{ $labels.instance }} waits for connections to Postgres ({{ $labels.role }})",
    ),
    Cause(
        name="ReplicaLate",
        expr="max(fleetwire_db_replica_lag_seconds) > 5",
        lasts="5m",
        page="database",
        summary="a copy of Postgres is {{ $value | humanizeDuration }} late",
    ),
    Cause(
        name="LogLost",
        expr='sum(increase(fleetwire_hub_resets_total{reason="epoch"}[10m])) > 0',
        lasts="0s",
        page="log-lost",
        summary="devices are told that the log lost events",
        severity="page",
        escalation="immediate",
    ),
    Cause(
        name="QueueDeep",
        expr="max by (queue)(fleetwire_worker_queued) > 100",
        lasts="10m",
        page="queues",
        summary="{{ $value }} jobs wait in {{ $labels.queue }}",
    ),
    Cause(
        name="QueueOld",
        expr="max by (queue)(fleetwire_worker_queued_oldest_seconds) > 300",
        lasts="1m",
        page="queues",
        summary="a job has waited in {{ $labels.queue }} for {{ $value | humanizeDuration }}",
        severity="page",
        escalation="within_30m",
    ),
    Cause(
        name="JobsDie",
        expr=(
            'sum by (queue, kind)(increase(fleetwire_worker_finished_total{outcome="dead"}[30m])) >= 5 and '
            'sum by (queue, kind)(increase(fleetwire_worker_finished_total{outcome="dead"}[30m])) > '
            "0.05 * sum by (queue, kind)(increase(fleetwire_worker_finished_total[30m]))"
        ),
        lasts="0s",
        page="jobs-die",
        summary="{{ $value | humanize }} jobs of {{ $labels.kind }} died in half an hour",
    ),
    Cause(
        name="StoreAvoided",
        expr="max by (store)(fleetwire_cloud_avoided) == 1",
        lasts="10m",
        page="cloud-stores",
        summary="new responses avoid {{ $labels.store }}, which fails",
    ),
    Cause(
        name="KeysUnreadable",
        expr="max by (job, instance, set)(fleetwire_keys_unreadable) == 1",
        lasts="5m",
        page="keys",
        summary="{{ $labels.instance }} cannot read the key set {{ $labels.set }} and goes on with the old one",
    ),
    Cause(
        name="MemoryHigh",
        expr="instance:fleetwire_machine_memory_used:ratio > 0.8",
        lasts="5m",
        page="machine",
        summary="{{ $labels.instance }} has {{ $value | humanizePercentage }} of its memory in use",
    ),
    Cause(
        name="CpuBusy",
        expr="machine:fleetwire_machine_cpu:ratio_rate5m > 0.9",
        lasts="15m",
        page="machine",
        summary="the cores of {{ $labels.machine }} are {{ $value | humanizePercentage }} busy",
    ),
    Cause(
        name="DiskBusy",
        expr="machine:fleetwire_machine_disk_operations:rate5m > 500",
        lasts="10m",
        page="machine",
        summary="disks of {{ $labels.machine }} do {{ $value | humanize }} operations a second",
    ),
    Cause(
        name="LoopLate",
        expr=(
            "histogram_quantile(0.9, sum by (job, instance, le)(rate(fleetwire_loop_delay_seconds_bucket[5m]))) > 0.15"
        ),
        lasts="5m",
        page="loop-late",
        summary="the event loop of {{ $labels.instance }} is {{ $value | humanizeDuration }} late in a tenth of looks",
    ),
)
