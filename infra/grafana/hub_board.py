"""The dashboard of hubs: one panel for each question that one asks of them [pure]."""

from typing import Final

from infra.grafana.panels import Board, Panel, rate_of, slowest

__all__ = ["HUBS"]
_DELIVERIES: Final = rate_of("fleetwire_bus_deliveries_total", "role")[0]
_PUBLISHED: Final = rate_of("fleetwire_bus_published_total", "role")[0]

HUBS: Final = Board(
    uid="fleetwire-hubs",
    title="Fleetwire: hubs",
    says="One panel for each question that one asks of hubs.",
    rows=(
        (
            "Devices",
            (
                Panel(
                    title="How many devices are where?",
                    series=[("sum by (instance)(fleetwire_hub_connections)", "{{instance}}")],
                    unit="short",
                    stacked=True,
                ),
                Panel(
                    title="How full is each hub?",
                    series=[("fleetwire_hub_connections / fleetwire_hub_connection_capacity", "{{instance}}")],
                    unit="percentunit",
                    line=0.85,
                ),
                Panel(
                    title="Why do they go?",
                    series=[rate_of("fleetwire_hub_closes_total", "code")],
                    unit="cps",
                    stacked=True,
                ),
                Panel(
                    title="Who is refused, and why?",
                    series=[rate_of("fleetwire_hub_handshakes_refused_total", "status, reason")],
                    unit="cps",
                    stacked=True,
                ),
                Panel(
                    title="How long until a device is welcomed?",
                    series=slowest("fleetwire_hub_greeting_seconds"),
                    unit="s",
                ),
                Panel(title="How good are their links?", series=slowest("fleetwire_hub_rtt_seconds"), unit="s"),
            ),
        ),
        (
            "Do devices get what they missed, and do they keep up?",
            (
                Panel(
                    title="How many have a full window?",
                    series=[("sum by (instance)(fleetwire_hub_behind)", "{{instance}}")],
                    unit="short",
                ),
                Panel(
                    title="How long are windows full?",
                    series=slowest("fleetwire_hub_window_stall_seconds"),
                    unit="s",
                ),
                Panel(
                    title="How long do reads of the log and sweeps take?",
                    series=[
                        *((expr, f"read {name}") for expr, name in slowest("fleetwire_hub_log_read_seconds")[1:]),
                        *((expr, f"sweep {name}") for expr, name in slowest("fleetwire_hub_sweep_seconds")[1:]),
                        *((expr, f"acks {name}") for expr, name in slowest("fleetwire_hub_acks_write_seconds")[1:]),
                    ],
                    unit="s",
                ),
                Panel(
                    title="Is anybody told of a hole?",
                    series=[rate_of("fleetwire_hub_resets_total", "reason")],
                    unit="cps",
                    says="`epoch`: the log lost events. `retention`: a device was away for too long.",
                ),
            ),
        ),
        (
            "Are devices where they belong?",
            (
                Panel(
                    title="How many belong to another hub?",
                    series=[
                        ("sum by (instance)(fleetwire_hub_strangers)", "{{instance}} strangers"),
                        ("sum by (instance)(fleetwire_hub_moves_left)", "{{instance}} still to go"),
                    ],
                    unit="short",
                ),
                Panel(
                    title="Do moves succeed?",
                    series=[rate_of("fleetwire_hub_moves_total", "reason, outcome")],
                    unit="cps",
                ),
            ),
        ),
        (
            "Is the bus well?",
            (
                Panel(
                    title="What is it judged to be?",
                    series=[('max by (instance, state)(fleetwire_bus_state{state!="ok"})', "{{instance}} {{state}}")],
                    unit="bool",
                ),
                Panel(
                    title="How long does a message take through it?",
                    series=slowest("fleetwire_bus_canary_seconds"),
                    unit="s",
                ),
                Panel(
                    title="To how many hubs does an event go?",
                    series=[
                        (f"{_DELIVERIES} / {_PUBLISHED}", "{{role}}"),
                    ],
                    unit="none",
                    line=1.05,
                    says="One, if devices are where they belong.",
                ),
                Panel(
                    title="What breaks, and what is dropped?",
                    series=[
                        rate_of("fleetwire_bus_gaps_total", "cause"),
                        rate_of("fleetwire_bus_dropped_total", "role, reason"),
                        rate_of("fleetwire_bus_canaries_late_total"),
                    ],
                    unit="cps",
                ),
            ),
        ),
    ),
)
