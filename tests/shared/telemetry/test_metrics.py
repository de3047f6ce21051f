"""All metrics are declared in one place, under one prefix, as counters, gauges or histograms."""

from prometheus_client import Counter, Gauge, Histogram, generate_latest

from shared.telemetry import metrics

DECLARED = {name: value for name, value in vars(metrics).items() if isinstance(value, Counter | Gauge | Histogram)}


def test_every_metric_has_the_prefix_a_unit_and_a_sentence() -> None:
    assert len(DECLARED) > 20
    for name, metric in DECLARED.items():
        (family,) = metric.describe()
        assert family.name.startswith("fleetwire_"), name
        assert family.documentation.endswith("."), name
        if isinstance(metric, Histogram):
            assert family.name.endswith(("_seconds", "_bytes", "_size")), name


def test_no_metric_has_a_label_without_bound() -> None:
    for name, metric in DECLARED.items():
        assert not set(metric._labelnames) & {
            "device",
            "device_id",
            "event_id",
            "job_id",
            "file",
            "file_id",
            "request_id",
        }, name


def test_what_is_declared_is_exposed_with_the_process_figures() -> None:
    exposed = generate_latest(metrics.REGISTRY).decode()
    assert "fleetwire_bus_canaries_late_total" in exposed
    assert "process_resident_memory_bytes" in exposed
    assert "_created" not in exposed
