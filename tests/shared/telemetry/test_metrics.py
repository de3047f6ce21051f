"""All metrics are declared in one place, under one prefix, as counters, gauges or histograms, and all are used."""

import re
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, Info, Summary, generate_latest

from shared.telemetry import metrics

ROOT = Path(__file__).parents[3]
PROCESSES = ("hub", "api", "watcher", "worker", "files", "shared", "infra/redis_keeper")
DECLARED = {name: value for name, value in vars(metrics).items() if isinstance(value, Counter | Gauge | Histogram)}


def test_every_metric_has_the_prefix_a_unit_and_a_sentence() -> None:
    assert len(DECLARED) > 20
    for name, metric in DECLARED.items():
        (family,) = metric.describe()
        assert family.name.startswith("fleetwire_"), name
        assert family.documentation.endswith("."), name
        if isinstance(metric, Histogram):
            assert family.name.endswith(("_seconds", "_bytes", "_size")), name


def test_distributions_are_histograms_which_can_be_added_up_over_processes() -> None:
    assert not [name for name, value in vars(metrics).items() if isinstance(value, Summary | Info)]


def test_every_metric_that_is_declared_is_set_somewhere_and_declared_nowhere_else() -> None:
    sources = {
        path: path.read_text("utf-8")
        for package in PROCESSES
        for path in (ROOT / package).rglob("*.py")
        if path != Path(metrics.__file__)
    }
    uses = {name for text in sources.values() for name in re.findall(r"\b([A-Z][A-Z_]+)\.", text)}
    assert not sorted(DECLARED.keys() - uses)
    own_ways = [path.name for path, text in sources.items() if "prometheus_client" in text]
    assert sorted(own_ways) == ["figures.py", "health.py", "merged_metrics.py"]


def test_no_metric_has_a_label_without_bound() -> None:
    for name, metric in DECLARED.items():
        assert not set(metric._labelnames) & {
            "device",
            "device_id",
            "address",
            "event_id",
            "job_id",
            "file",
            "file_id",
            "path",
            "request_id",
            "slot",
        } or (name, metric._labelnames) == ("HUB_EVENTS_SENT", ("path",)), name


def test_what_is_declared_is_exposed_with_the_process_figures() -> None:
    exposed = generate_latest(metrics.REGISTRY).decode()
    assert "fleetwire_bus_canaries_late_total" in exposed
    assert "process_resident_memory_bytes" in exposed
    assert "_created" not in exposed
