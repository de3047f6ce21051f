"""Dashboards of an event's way and of what is promised of it [pure]."""

from typing import Final

from infra.grafana.panels import Board, Panel, rate_of, slowest
from infra.prometheus.slos import SLOS, WINDOWS, Slo
from shared.stages import Stage

__all__ = ["PATH", "PROMISES"]


def _stage(stage: Stage, says: str) -> Panel:
    series = slowest("fleetwire_stage_lag_seconds", where=f'stage="{stage.value}"')
    return Panel(title=f"{stage.value}: after how long?", series=series, unit="s", says=says, width=8)


def _promise(slo: Slo) -> Panel:
    by = " ".join(f"{{{{{label}}}}}" for label in slo.level)
    return Panel(
        title=f"{slo.name}: how much is bad?",
        says=f"It is promised that {slo.promise}. The line is the budget.",
        series=[(slo.series("bad", f"ratio_rate{window}"), f"{window} {by}".strip()) for window in ("5m", *WINDOWS)],
        unit="percentunit",
        line=slo.budget,
    )


def _left(slo: Slo) -> Panel:
    return Panel(
        title=f"{slo.name}: how much of three days' budget is left?",
        says="1 is all of it. What is left below 0 is taken from the days after.",
        series=[(f"1 - max({slo.series('bad', 'ratio_rate3d')}) / {slo.budget:g}", "worst")],
        unit="percentunit",
        width=4,
        kind="stat",
    )


PATH: Final = Board(
    uid="fleetwire-path",
    title="Fleetwire: path of an event",
    says="How late an event is at each stage of its life, each timed from the one before it.",
    rows=(
        (
            "From the commit to the ack",
            (
                Panel(
                    title="Is it acked within a second of its recording?",
                    series=slowest("fleetwire_hub_delivery_seconds"),
                    unit="s",
                    line=1,
                    width=16,
                ),
                Panel(
                    title="How many events a second?",
                    series=[rate_of("fleetwire_hub_events_sent_total", "path"), rate_of("fleetwire_hub_acks_total")],
                    unit="eps",
                    says="`live` came by the bus, `log` by pages of the log; acks of several events are one.",
                    width=8,
                ),
            ),
        ),
        (
            "Stage by stage",
            (
                Panel(
                    title="detected: how long until a file on the local disk is a row?",
                    series=slowest("fleetwire_watcher_seen_seconds"),
                    unit="s",
                    line=1.2,
                    width=8,
                ),
                _stage(Stage.RECORDED, "Since the file was detected: the queue, the handler and the store are in it."),
                _stage(Stage.PUBLISHED, "Since the hint was offered to the bus."),
                _stage(Stage.FANNED_OUT, "Since the commit, by two machines' clocks."),
                _stage(Stage.SENT, "Since fanned_out, until the socket has it."),
                _stage(Stage.ACKED, "Since sent, until the ack is here: the link, the device, its application."),
            ),
        ),
        (
            "Where a job waits",
            (
                Panel(
                    title="How long do jobs wait to be claimed?",
                    series=slowest("fleetwire_worker_queue_seconds", "queue"),
                    unit="s",
                ),
                Panel(
                    title="How long do handlers take?",
                    series=slowest("fleetwire_worker_handler_seconds", "kind"),
                    unit="s",
                ),
            ),
        ),
    ),
)

PROMISES: Final = Board(
    uid="fleetwire-promises",
    title="Fleetwire: promises",
    says="What users are promised, and how fast the budgets burn.",
    rows=(
        ("What is left", [_left(slo) for slo in SLOS]),
        ("How fast it burns", [_promise(slo) for slo in SLOS]),
        (
            "What fires",
            (
                Panel(
                    title="Which alerts fire?",
                    series=[
                        ('count by (alertname, severity)(ALERTS{alertstate="firing"})', "{{alertname}} ({{severity}})")
                    ],
                    unit="short",
                    width=24,
                ),
            ),
        ),
    ),
)
